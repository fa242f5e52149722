"""What every test may ask for; the fixtures themselves are in `tests/support/`."""

from __future__ import annotations

import os

import pytest

from telemetry.settings import PREFIX
from tests.support.engine_report import EngineReport
from tests.support.leftovers import Leftovers

pytest_plugins = ["tests.support.broker_fixtures", "tests.support.database_fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    """Adds the checks of the session, and keeps the settings of a real service away from the tests."""
    config.pluginmanager.register(EngineReport(config))
    config.pluginmanager.register(Leftovers())
    for name in [name for name in os.environ if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_")]:
        del os.environ[name]

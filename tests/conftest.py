"""What every test may ask for; the fixtures themselves are in `tests/support/`."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples

from telemetry.settings import PREFIX
from tests.support.engine_report import EngineReport
from tests.support.leftovers import Leftovers

pytest_plugins = ["tests.support.broker_fixtures", "tests.support.database_fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    """Adds the checks of the session, and keeps the settings of a real service away from the tests."""
    # What an example takes says more of the machine, and of who else is at work there, than of what is tested.
    examples.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    examples.load_profile("unhurried")
    config.pluginmanager.register(EngineReport(config))
    config.pluginmanager.register(Leftovers())
    for name in [name for name in os.environ if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_")]:
        del os.environ[name]

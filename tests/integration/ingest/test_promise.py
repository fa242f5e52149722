"""The promise of ingest under any interleaving of messages, faults and restarts, with a real database.

Every message that the broker holds in our session ends as stored, duplicate or quarantined; it is acknowledged after
its transaction has committed and not before, in order of receipt; nothing is doubled, and the ledger says so.

Hypothesis makes the scripts. TELEMETRY_TEST_PROMISE_S is how long to try, in seconds for each engine (default 30);
TELEMETRY_TEST_SEED repeats a run: a failure names the seed to begin with.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as hypothesis_settings

from telemetry.settings import load_settings
from telemetry.store import link
from telemetry.store.engine import Engine
from tests.integration.ingest.promise import Promise
from tests.integration.ingest.script import Script, scripts

TRY_FOR_S: Final = float(os.environ.get("TELEMETRY_TEST_PROMISE_S", "30"))
EXAMPLES_PER_SEED: Final = 10


def test_promise_holds_under_any_interleaving(
    database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pauses between two attempts are waits for a server that returns; here it is there at once.
    monkeypatch.setattr(link, "_FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(link, "_LONGEST_PAUSE_S", 0.02)
    settings = load_settings(overrides={"database.url": database_url, "database.engine": engine})
    first = int(os.environ.get("TELEMETRY_TEST_SEED", random.randrange(10**6)))
    until = time.monotonic() + TRY_FOR_S
    with asyncio.Runner() as runner:
        promise = runner.run(Promise.open(settings))
        try:
            attempt = first
            while attempt == first or time.monotonic() < until:
                try_seed(attempt, lambda script: runner.run(promise.check(script)))
                attempt += 1
        finally:
            print(f"seeds {first} to {attempt}; {promise.told()}")
            runner.run(promise.close())


def try_seed(number: int, check: Callable[[Script], None]) -> None:
    """Checks some scripts, always the same ones for a seed."""

    @seed(number)
    @hypothesis_settings(
        max_examples=EXAMPLES_PER_SEED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(scripts)
    def holds(script: Script) -> None:
        check(script)

    try:
        holds()
    except BaseException as error:
        error.add_note(f"TELEMETRY_TEST_SEED={number} begins with this failure")
        raise

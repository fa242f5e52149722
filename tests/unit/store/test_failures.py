"""What the log says of an error."""

from __future__ import annotations

import asyncpg
import pytest

from telemetry.store.failures import in_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "TimeoutError"),
        (OSError("no route"), "no route"),
        (asyncpg.InterfaceError(""), "InterfaceError"),
        (
            asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
            "the server ended a statement before it was sent in full; see its statement_timeout (cannot switch to "
            "state 15; another operation (2) is in progress)",
        ),
    ],
)
def test_error_is_told_in_words_that_are_never_empty(error: Exception, words: str) -> None:
    assert in_words(error) == words

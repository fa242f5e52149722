"""What an error of the database means for the batch that met it: try again, find the bad row, or halt.

PostgreSQL's SQLSTATE classes: 08 connection, 25P03 and 57 interruption, 40 rollback, 53 resources, 55P03 lock timeout
and 58 system are infrastructure and pass; 22 data and 23 integrity are about one row, also a row that has no partition
to go to; everything else, 42 above all, is a fault of ours.
Source: PostgreSQL documentation, appendix A.
"""

from __future__ import annotations

from enum import Enum

import asyncpg

from telemetry.errors import Unavailable

_PASSING = ("08", "40", "53", "57", "58")
_PASSING_STATES = ("55P03", "25P03", "25006")
"""25006 is a server that is read-only for now: a standby, or a primary on its way down."""
_OF_ROWS = ("22", "23")
_WRONG_BINARY = "22P03"
"""Binary COPY data that its column cannot take: our idea of the table is wrong, and no row is to blame."""


class Failure(Enum):
    """What to do about an error."""

    RETRY = "retry"
    ROW = "row"
    HALT = "halt"


def classify(error: BaseException) -> Failure:
    """The class of an error that asyncpg or the operating system raised."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state[:2] in _PASSING or state in _PASSING_STATES:
            return Failure.RETRY
        if state == _WRONG_BINARY:
            return Failure.HALT
        return Failure.ROW if state[:2] in _OF_ROWS else Failure.HALT
    if isinstance(error, (asyncpg.DataError, UnicodeError, OverflowError)):
        return Failure.ROW
    # The last two are what asyncpg raises on a connection that went away under it, amid a COPY for instance.
    if isinstance(error, (OSError, TimeoutError, Unavailable, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return Failure.RETRY
    return Failure.HALT


def in_words(error: BaseException) -> str:
    """What the log says of an error: its text, or what kind it is where it has none, as a TimeoutError of asyncio."""
    if isinstance(error, asyncpg.InternalClientError):
        # The server may end a statement between two of its messages, for a statement_timeout of the role for instance.
        # asyncpg notices only with the next message that it sends, and has then thrown away what the server said.
        return f"the server ended a statement before it was sent in full; see its statement_timeout ({error})"
    return str(error) or type(error).__name__


def is_about_rows(error: BaseException) -> bool:
    """Whether the rows are the reason, wherever they came from: no repetition changes anything."""
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in _OF_ROWS


def lacks_partition(error: BaseException) -> bool:
    """Whether a row has no partition to go to."""
    return isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None

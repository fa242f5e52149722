"""The one family of errors.

    TelemetryError
    ├── Rejected              theirs: a message that cannot become a reading; quarantined, and the next one goes on
    ├── ConfigurationError    ours: a setting, file or schema is wrong; halt loudly, acknowledge nothing
    │   └── MigrationError    the schema on disk and the schema in the database disagree
    ├── Unavailable           ours: broker or database is away; retry with backoff, acknowledge nothing
    └── InvalidQuery          the asker's: a parameter that cannot be answered, named with what is allowed
        ├── TooLarge          the answer would take more than is allowed, told in figures
        └── NotKept           readings that the answer needs were dropped with age

The split decides what happens to a message: the device's fault ends in quarantine and is acknowledged, ours stops the
acknowledgement.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum


class Reason(StrEnum):
    """Why a message was quarantined. The values are a contract: dashboards and alarms filter on them."""

    MALFORMED = "malformed"
    SCHEMA = "schema"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_DEVICE = "unknown_device"
    DEVICE_MISMATCH = "device_mismatch"
    CLOCK_FUTURE = "clock_future"
    CLOCK_PAST = "clock_past"
    BEYOND_RETENTION = "beyond_retention"
    CONFLICT = "conflict"
    OVERSIZE = "oversize"
    REJECTED_BY_DATABASE = "rejected_by_database"


class TelemetryError(Exception):
    """Root of every error that this package raises on purpose."""


class Rejected(TelemetryError):
    """A message, or one reading of it, that goes to quarantine.

    Args:
        reason: the contract's reason.
        detail: one sentence that names what was wrong and what is allowed.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ConfigurationError(TelemetryError):
    """Something that a person has to put right; the sentence says what and how."""


class MigrationError(ConfigurationError):
    """The migrations on disk and those recorded in the database disagree."""


class Unavailable(TelemetryError):
    """Broker or database cannot be reached now; the same call may succeed later."""


class InvalidQuery(TelemetryError):
    """A question that cannot be answered as asked.

    Args:
        parameter: name of the offending parameter.
        given: what was given, as text.
        detail: one sentence on what is wrong.
        allowed: what would be accepted, for the asker to choose from.
    """

    def __init__(self, parameter: str, given: object, detail: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(f"{parameter}={given}: {detail}")
        self.parameter = parameter
        self.given = given
        self.detail = detail
        self.allowed = allowed


class TooLarge(InvalidQuery):
    """A question that would take too much.

    Args:
        estimate: what it would take.
        limit: what it may take.
    """

    def __init__(self, parameter: str, given: object, detail: str, estimate: int, limit: int) -> None:
        super().__init__(parameter, given, detail)
        self.estimate = estimate
        self.limit = limit


class NotKept(InvalidQuery):
    """A question about readings that are not kept any more.

    Args:
        kept_from: readings before it are gone.
    """

    def __init__(
        self, parameter: str, given: object, detail: str, allowed: tuple[str, ...], kept_from: datetime
    ) -> None:
        super().__init__(parameter, given, detail, allowed)
        self.kept_from = kept_from

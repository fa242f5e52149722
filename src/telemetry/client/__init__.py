"""A client of the HTTP service, for notebooks and jobs: `Client`, and `AsyncClient` for asyncio (docs/client.md).

Answers are frozen objects; those of time windows and readings are also Arrow, Polars and pandas tables. It knows
nothing of the service's own modules, and needs the extra `client`.
"""

from __future__ import annotations

from telemetry.client.asynchronous import AsyncClient, AsyncPages, AsyncReadingPages
from telemetry.client.blocking import Client, Pages, ReadingPages
from telemetry.client.buckets import Bucket
from telemetry.client.changes import Change, Changes
from telemetry.client.devices import Device, Imported, Registration
from telemetry.client.domains import Domain, Metric
from telemetry.client.download import Download
from telemetry.client.errors import (
    AnswerTimeout,
    ClientError,
    Conflict,
    InvalidArgument,
    InvalidParameter,
    MissingLibrary,
    NoAnswer,
    NotFound,
    NotKept,
    Problem,
    ServiceFault,
    ServiceUnavailable,
    TooLarge,
    TooManyQuestions,
    UnexpectedAnswer,
)
from telemetry.client.exchange import Question, Retry
from telemetry.client.health import Health, Version
from telemetry.client.latest import LastValue, Latest
from telemetry.client.ledger import Account, Broker, HourAccount, Ledger
from telemetry.client.meter_swaps import MeterSwap
from telemetry.client.quarantine import Refused, RefusedCount, RefusedSummary
from telemetry.client.readings import Reading, readings
from telemetry.client.series import Series, SeriesMeta, series

__all__ = [
    "Account",
    "AnswerTimeout",
    "AsyncClient",
    "AsyncPages",
    "AsyncReadingPages",
    "Broker",
    "Bucket",
    "Change",
    "Changes",
    "Client",
    "ClientError",
    "Conflict",
    "Device",
    "Domain",
    "Download",
    "Health",
    "HourAccount",
    "Imported",
    "InvalidArgument",
    "InvalidParameter",
    "LastValue",
    "Latest",
    "Ledger",
    "MeterSwap",
    "Metric",
    "MissingLibrary",
    "NoAnswer",
    "NotFound",
    "NotKept",
    "Pages",
    "Problem",
    "Question",
    "Reading",
    "ReadingPages",
    "Refused",
    "RefusedCount",
    "RefusedSummary",
    "Registration",
    "Retry",
    "Series",
    "SeriesMeta",
    "ServiceFault",
    "ServiceUnavailable",
    "TooLarge",
    "TooManyQuestions",
    "UnexpectedAnswer",
    "Version",
    "readings",
    "series",
]

"""The settings of each part of the service, with what is allowed and what is so by default."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)

from telemetry.settings.types import Duration, Port, Size, allowed, parse_duration, quantity

_LONGEST_KEEP_ALIVE = timedelta(seconds=65_535)
_SHORTEST_EXPIRY = timedelta(hours=1)
"""Of a session: a restart of the machine, or a failed update and its return, takes less."""
_LONGEST_FUTURE = timedelta(days=1)


class Section(BaseModel):
    """Part of the settings; an unknown key is an error, because a misspelt setting must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DatabaseSettings(Section):
    """Where the readings are stored."""

    url: SecretStr = Field(SecretStr("postgresql://localhost:5432/telemetry"), description="PostgreSQL connection URL")
    engine: Literal["auto", "timescaledb", "postgres"] = Field(
        "auto",
        description="auto takes TimescaleDB where the server offers it; decided once, by the first migration",
    )
    pool_size: int = Field(8, ge=1, le=200, description="Connections that one process of the API opens at the most")
    connect_timeout: Duration = quantity("10s", "How long a connection attempt may take")
    migrations: list[Path] = Field([], description="Further folders with numbered migrations, for domains of one's own")
    reader_password: SecretStr | None = Field(
        None,
        description="Password that `db migrate` gives the read-only role telemetry_reader; none leaves it as it is",
    )

    @field_validator("url")
    @classmethod
    def _is_of_postgresql(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres"):
            raise ValueError("a PostgreSQL URL is needed, postgresql://user:password@host:5432/database")
        return value


class TlsSettings(Section):
    """Encryption towards the broker."""

    enabled: bool = Field(False, description="Speak TLS with the broker")
    ca_file: Path | None = Field(
        None, description="Certificate authority that signed the broker's certificate; none = the system's"
    )
    cert_file: Path | None = Field(None, description="Client certificate, where the broker asks for one")
    key_file: Path | None = Field(None, description="Key of the client certificate")


class MqttSettings(Section):
    """The broker and our session with it."""

    host: str = Field("localhost", description="Broker host")
    port: Port = Field(1883, description="Broker port; 8883 with TLS as a rule")
    username: str | None = Field(None, description="User at the broker")
    password: SecretStr | None = Field(None, description="Password at the broker")
    client_id: Annotated[
        str, allowed(r"[A-Za-z0-9._:-]{1,128}", "1 to 128 characters of A-Z a-z 0-9 . _ : - are allowed")
    ] = Field(
        "telemetry-ingest",
        description="Name of the persistent session; one per process that ingests",
    )
    share_group: (
        Annotated[str, allowed(r"[^/+#\x00]+", "at least one character is needed, and none of / + # and NUL")] | None
    ) = Field(
        None,
        description="Group of the shared subscription where ingest.share is broker; none = the client_id",
    )
    topic_root: Annotated[
        str,
        # Below $ are the broker's own topics, which wildcards pass over, and shared subscriptions.
        allowed(
            r"[^$+#\x00][^+#\x00]*",
            "a topic is needed, e.g. city/v1, without the wildcards + and #, without NUL, and not beginning with $",
        ),
    ] = Field("city/v1", description="Topics are {topic_root}/{domain}/{device_id}")
    keep_alive: Duration = quantity("15s", "The broker declares us gone after 1.5 times this silence")
    qos: int = Field(1, description="Highest QoS at which messages may come: 1, or 2 with its full handshake")
    receive_maximum: int = Field(
        20_000, ge=20, le=65_535, description="Messages in flight that the broker may hold unacknowledged"
    )
    session_expiry: Duration = quantity("7d", "How long the broker keeps our messages while we are away")
    dropped_counters: list[
        Annotated[str, allowed(r"\$SYS/[^#\x00]+", "a topic below $SYS/ is needed; + may be in it, # may not")]
    ] = Field(
        ["$SYS/broker/publish/messages/dropped", "$SYS/brokers/+/metrics/delivery/dropped/queue_full"],
        description="Topics on which the broker counts what it dropped (Mosquitto, EMQX); an empty list asks for none",
    )
    tls: TlsSettings = TlsSettings()

    @field_validator("keep_alive", mode="before")
    @classmethod
    def _is_watched(cls, value: Any) -> Any:
        if parse_duration(value) in (0, timedelta(0)):
            raise ValueError("0 would switch it off, and nobody would notice a dead connection; write e.g. 15s")
        return value

    @field_validator("qos")
    @classmethod
    def _is_kept_for_us(cls, value: int) -> int:
        if value not in (1, 2):
            raise ValueError("1 or 2 is allowed; at 0 the broker keeps nothing for us while we are away")
        return value

    @field_validator("keep_alive")
    @classmethod
    def _can_be_said(cls, value: timedelta) -> timedelta:
        if value > _LONGEST_KEEP_ALIVE:
            raise ValueError("MQTT knows none above 65535s (18h 12m 15s); write e.g. 15s")
        return value

    @field_validator("session_expiry")
    @classmethod
    def _outlasts_a_restart(cls, value: timedelta) -> timedelta:
        if value < _SHORTEST_EXPIRY:
            raise ValueError(
                "at least 1h is needed: whatever is published while ingest is away is lost when the session expires, "
                "so it must outlast every outage; write e.g. 7d"
            )
        return value

    @field_validator("topic_root")
    @classmethod
    def _no_outer_slash(cls, value: str) -> str:
        if value != value.strip("/") or "//" in value:
            raise ValueError("no slash at either end and none doubled, e.g. city/v1")
        return value


class IngestSettings(Section):
    """From message to committed row."""

    workers: int = Field(1, ge=1, le=64, description="Processes that ingest together, under one supervisor")
    share: Literal["topics", "broker"] = Field(
        "topics",
        description="How workers divide the messages: by domain, or by a shared subscription of the broker",
    )
    strays: Literal["quarantine", "ignore"] = Field(
        "quarantine", description="What several workers do with messages of topics that name no domain"
    )
    batch_rows: int = Field(5_000, ge=1, le=60_000, description="A batch is closed at this many messages")
    batch_bytes: Size = quantity("4MiB", "… or at this many bytes of payloads and topics")
    batch_age: Duration = quantity("100ms", "… or at this age of its first message, whichever comes first")
    max_payload_bytes: Size = quantity("1MiB", "A larger payload is quarantined as oversize")
    max_array_elements: int = Field(
        10_000, ge=1, le=100_000, description="An array with more readings is quarantined as oversize"
    )
    max_lateness: Duration = quantity("7d", "Older readings are quarantined as clock_past")
    max_future: Duration = quantity("5m", "Readings further ahead are quarantined as clock_future")
    unknown_devices: Literal["auto", "quarantine"] = Field(
        "auto",
        description="auto registers a device on first sight; quarantine keeps its messages as unknown_device",
    )
    quarantine_per_device: int = Field(
        1_000, ge=1, description="Refused readings of one device and hour whose bytes are kept; more are counted only"
    )
    metrics_host: str = Field("127.0.0.1", description="Address on which ingest shows its metrics")
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port of /metrics of ingest; 0 = none")

    @field_validator("max_future")
    @classmethod
    def _is_a_wrong_clock(cls, value: timedelta) -> timedelta:
        if value > _LONGEST_FUTURE:
            raise ValueError(
                "at most 1d is possible: it is meant for clocks that are a little fast, and what they send from the "
                "future is answered as the newest; write e.g. 5m"
            )
        return value


class SpoolSettings(Section):
    """Where batches wait on disk, acknowledged, while the database is away; for brokers whose queue is short."""

    directory: Path | None = Field(
        None, description="Directory of the spool, one file for each client id; none = no spool"
    )
    after: Duration = quantity("30s", "How long the database may be away before messages go to the spool")
    quota: Size = quantity("1GiB", "Bytes that the file of one client id may have")


class ApiSettings(Section):
    """The HTTP service."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: Port = Field(8000, description="Port to listen on")
    max_values: int = Field(
        500_000, ge=1, description="Buckets x series that one answer may have; more is refused before it runs"
    )
    max_rows_read: int = Field(
        50_000_000, ge=1, description="Rows that one question may read, estimated; more is refused before it runs"
    )
    max_streamed_values: int = Field(
        5_000_000,
        ge=1,
        description="The same for answers that are streamed: all large ones, unless something is to be filled in",
    )
    max_page: int = Field(
        10_000, ge=1, le=100_000, description="Rows that one page of readings, devices or quarantine may have"
    )
    statement_timeout: Duration = quantity("30s", "A query that runs longer is ended with 503")
    stream_timeout: Duration = quantity("15m", "A streamed answer that its client has not taken by then is broken off")
    max_concurrent_per_client: int = Field(
        6, ge=1, description="Questions of one client address that run at a time; more wait shortly, then get 429"
    )
    trusted_proxies: list[str] = Field(
        ["127.0.0.1", "::1"], description="Proxies whose X-Forwarded-For names the client: addresses or networks"
    )


class MaintainSettings(Section):
    """Upkeep: partitions ahead, roll-ups after late data, retention."""

    interval: Duration = quantity("15s", "Pause between two rounds of upkeep")
    closes_after: Duration = quantity(
        "1m", "Time after its end at which a quarter of an hour is closed; what is later is a change"
    )
    partitions_ahead: int = Field(
        3, ge=1, le=60, description="Days for which partitions exist in advance (postgres engine)"
    )


class RetentionSettings(Section):
    """How long things are kept."""

    readings: Duration = quantity("1825d", "Raw readings; roll-ups stay for ever")
    quarantine: Duration = quantity("90d", "Quarantined messages")
    columnstore_after: Duration = quantity("8d", "Age at which chunks move to the columnstore (timescaledb engine)")


class DomainSettings(Section):
    """Domains beyond the built-in ones."""

    directories: list[Path] = Field(
        [], description="Further folders with domain files; their migrations go to database.migrations"
    )


class LoggingSettings(Section):
    """What the processes say on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important line that is shown"
    )
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto is console on a terminal and JSON lines elsewhere"
    )

"""Every setting: the annotated file, overridden by `TELEMETRY_…` variables, overridden by flags.

Durations are written `100ms`, `15s`, `5m`, `12h`, `7d`; sizes in bytes may be written `64KiB`, `4MiB`. Each variable
may also be given as `…_FILE`, a path whose content is the value, which is how secrets reach a container.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from telemetry.errors import ConfigurationError

PREFIX = "TELEMETRY_"
SEARCHED = (Path("config/telemetry.yaml"), Path("/etc/telemetry/telemetry.yaml"))
"""Where the settings file is looked for when neither `--config` nor `TELEMETRY_CONFIG` names one."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BATCHES_SPOOLED = 4
"""Batches that a spool must have room for, or it would serve nothing."""
_SIZES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_duration(value: Any) -> Any:
    """`"5m"` as a timedelta; a plain number is seconds.

    Whatever is a short duration in a question is one here, too; a question knows no fractions and no milliseconds.
    """
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", value.strip())):
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    if isinstance(value, str):
        raise ValueError("write a duration as 100ms, 15s, 5m, 12h, 7d or 1w")
    return value


def format_duration(value: timedelta) -> str:
    """The shortest way to write a duration that `parse_duration` reads back."""
    # Weeks are read, but days are what people compare.
    written = [each for each in _UNITS.items() if each[0] != "w"]
    for unit, seconds in sorted(written, key=lambda item: -item[1]):
        amount = value.total_seconds() / seconds
        if amount >= 1 and amount == int(amount):
            return f"{int(amount)}{unit}"
    return f"{value.total_seconds()}s"


def parse_size(value: Any) -> Any:
    """`"4MiB"` as a number of bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)\s*(B|KiB|MiB|GiB)?", value.strip())
        if match is None:
            raise ValueError("write a size as 65536, 64KiB, 4MiB or 1GiB")
        return int(match[1]) * _SIZES[match[2] or ""]
    return value


def _longer_than_nothing(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration longer than 0 is needed")
    return value


def allowed(pattern: str, sentence: str) -> AfterValidator:
    """Texts of a pattern only; the sentence tells people which these are."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration), AfterValidator(_longer_than_nothing)
]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


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
    connect_timeout: Duration = Field("10s", description="How long a connection attempt may take")  # type: ignore[assignment]
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
        str, allowed(r"[^+#\x00]+", "a topic is needed, e.g. city/v1, without the wildcards + and # and without NUL")
    ] = Field("city/v1", description="Topics are {topic_root}/{domain}/{device_id}")
    keep_alive: Duration = Field("15s", description="The broker declares us gone after 1.5 times this silence")  # type: ignore[assignment]
    receive_maximum: int = Field(
        20_000, ge=20, le=65_535, description="Messages in flight that the broker may hold unacknowledged"
    )
    session_expiry: Duration = Field("7d", description="How long the broker keeps our messages while we are away")  # type: ignore[assignment]
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
    batch_bytes: Size = Field("4MiB", description="… or at this many bytes of payloads and topics")  # type: ignore[assignment]
    batch_age: Duration = Field("100ms", description="… or at this age of its first message, whichever comes first")  # type: ignore[assignment]
    max_payload_bytes: Size = Field("1MiB", description="A larger payload is quarantined as oversize")  # type: ignore[assignment]
    max_array_elements: int = Field(
        10_000, ge=1, le=100_000, description="An array with more readings is quarantined as oversize"
    )
    max_lateness: Duration = Field("7d", description="Older readings are quarantined as clock_past")  # type: ignore[assignment]
    max_future: Duration = Field("5m", description="Readings further ahead are quarantined as clock_future")  # type: ignore[assignment]
    unknown_devices: Literal["auto", "quarantine"] = Field(
        "auto",
        description="auto registers a device on first sight; quarantine keeps its messages as unknown_device",
    )
    quarantine_per_device: int = Field(
        1_000, ge=1, description="Refused readings of one device and hour whose bytes are kept; more are counted only"
    )
    metrics_host: str = Field("127.0.0.1", description="Address on which ingest shows its metrics")
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port of /metrics of ingest; 0 = none")


class SpoolSettings(Section):
    """Where batches wait on disk, acknowledged, while the database is away; for brokers whose queue is short."""

    directory: Path | None = Field(
        None, description="Directory of the spool, one file for each client id; none = no spool"
    )
    after: Duration = Field("30s", description="How long the database may be away before messages go to the spool")  # type: ignore[assignment]
    quota: Size = Field("1GiB", description="Bytes that the file of one client id may have")  # type: ignore[assignment]


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
        description="The same for answers that the database makes row by row: aggregates of rows, nothing filled",
    )
    max_page: int = Field(
        10_000, ge=1, le=100_000, description="Rows that one page of readings, devices or quarantine may have"
    )
    statement_timeout: Duration = Field("30s", description="A query that runs longer is ended with 503")  # type: ignore[assignment]
    stream_timeout: Duration = Field(
        "15m", description="A streamed answer that its client has not taken by then is broken off"
    )  # type: ignore[assignment]
    max_concurrent_per_client: int = Field(
        6, ge=1, description="Questions of one client address that run at a time; more wait shortly, then get 429"
    )
    trusted_proxies: list[str] = Field(
        ["127.0.0.1", "::1"], description="Proxies whose X-Forwarded-For names the client: addresses or networks"
    )


class MaintainSettings(Section):
    """Upkeep: partitions ahead, roll-ups after late data, retention."""

    interval: Duration = Field("15s", description="Pause between two rounds of upkeep")  # type: ignore[assignment]
    closes_after: Duration = Field(
        "1m", description="Time after its end at which a quarter of an hour is closed; what is later is a change"
    )  # type: ignore[assignment]
    partitions_ahead: int = Field(
        3, ge=1, le=60, description="Days for which partitions exist in advance (postgres engine)"
    )


class RetentionSettings(Section):
    """How long things are kept."""

    readings: Duration = Field("1825d", description="Raw readings; roll-ups stay for ever")  # type: ignore[assignment]
    quarantine: Duration = Field("90d", description="Quarantined messages")  # type: ignore[assignment]
    columnstore_after: Duration = Field(
        "8d", description="Age at which chunks move to the columnstore (timescaledb engine)"
    )  # type: ignore[assignment]


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


class Settings(BaseSettings):
    """All settings of every command."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    timezone: str = Field(
        "Europe/Paris", description="IANA time zone of the city: the days of the daily roll-ups are its days"
    )
    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings = MqttSettings()
    ingest: IngestSettings = IngestSettings()
    spool: SpoolSettings = SpoolSettings()
    api: ApiSettings = ApiSettings()
    maintain: MaintainSettings = MaintainSettings()
    retention: RetentionSettings = RetentionSettings()
    domains: DomainSettings = DomainSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        needed = "an IANA time zone is needed, e.g. Europe/Paris or UTC"
        # Some systems have files of these names beside the zones; what they say depends on the machine.
        if value in ("localtime", "posixrules"):
            raise ValueError(needed)
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(needed) from error
        return value

    @model_validator(mode="after")
    def _nothing_is_lost(self) -> Settings:
        """Refuses combinations under which accepted readings would vanish."""
        if self.retention.readings <= self.ingest.max_lateness + timedelta(days=1):
            raise ValueError(
                "retention.readings must exceed ingest.max_lateness by more than a day, or late readings would vanish"
            )
        if self.retention.columnstore_after <= self.ingest.max_lateness:
            raise ValueError(
                "retention.columnstore_after must exceed ingest.max_lateness, or late readings would rewrite "
                "compressed data"
            )
        if self.spool.directory is not None and self.spool.quota < _BATCHES_SPOOLED * self.ingest.batch_bytes:
            raise ValueError(f"spool.quota must be at least {_BATCHES_SPOOLED} times ingest.batch_bytes")
        return self

    @model_validator(mode="after")
    def _memory_is_bounded(self) -> Settings:
        """Refuses messages that would each be more than a batch, for the batches are what bounds the memory."""
        if self.ingest.max_payload_bytes > self.ingest.batch_bytes:
            raise ValueError("ingest.max_payload_bytes must not exceed ingest.batch_bytes")
        return self


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Reads the file, the variables and the overrides, in rising order of precedence.

    Args:
        config: the settings file; otherwise `TELEMETRY_CONFIG`, then the searched places; none at all is fine.
        overrides: dotted names to values, as flags give them (`{"mqtt.port": 1884}`).

    Raises:
        ConfigurationError: the file is missing or not YAML, or a value is wrong; every fault is named.
    """
    path = settings_path(config)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            assert isinstance(env_settings, EnvSettingsSource)
            env_settings.env_vars = _variables()
            return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, path)

    try:
        return Loaded(**_nested(overrides or {}))
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except SettingsError as error:
        raise ConfigurationError(f"a TELEMETRY_ variable cannot be read: {error}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise ConfigurationError(f"cannot read the settings file {path}: {error}") from error


def settings_path(config: Path | None = None) -> Path | None:
    """The settings file that `load_settings` reads, or None."""
    variable = f"{PREFIX}CONFIG"
    named = config or (Path(os.environ[variable]) if os.environ.get(variable) else None)
    if named is not None and not named.is_file():
        raise ConfigurationError(f"the settings file {named} does not exist; --config or {variable} named it")
    return named or next((path for path in SEARCHED if path.is_file()), None)


def _variables() -> dict[str, str | None]:
    """The variables as pydantic-settings wants them, `…_FILE` replaced by the content of the file that it names.

    A variable that names no setting is refused: a misspelt one would otherwise be ignored without a word.
    """
    found: dict[str, str | None] = {}
    for variable, value in sorted(os.environ.items()):
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG" or variable.startswith(f"{PREFIX}TEST_"):
            continue
        name = variable
        if name.endswith("_FILE") and not _is_setting(name):
            name, value = name.removesuffix("_FILE"), _read_secret(variable, value)
        if not _is_setting(name):
            raise ConfigurationError(f"{variable} names no setting; `telemetry config show` lists them all")
        found[name.lower()] = value
    return found


def _is_setting(name: str) -> bool:
    model: type[BaseModel] = Settings
    *sections, last = name.removeprefix(PREFIX).lower().split("__")
    for section in sections:
        field = model.model_fields.get(section)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return False
        model = field.annotation
    return last in model.model_fields


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{variable}: cannot read {path}: {error.strerror}") from error


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *sections, last = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return tree


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        name = ".".join(str(part) for part in fault["loc"]) or "settings"
        said = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            lines.append(f"{name}: there is no such setting; `telemetry config show` lists them all")
        elif any(secret in name for secret in ("password", "url")):
            lines.append(f"{name}: {said}")
        else:
            given = f" (given: {fault['input']!r})" if fault["loc"] else ""
            lines.append(f"{name}: {said}{given}")
    return "\n".join(lines)

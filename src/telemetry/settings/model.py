"""All settings together, and which of them do not go together."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from telemetry.settings.sections import (
    ApiSettings,
    DatabaseSettings,
    DomainSettings,
    IngestSettings,
    LoggingSettings,
    MaintainSettings,
    MqttSettings,
    RetentionSettings,
    SpoolSettings,
)

PREFIX = "TELEMETRY_"
_BATCHES_SPOOLED = 4
"""Batches that a spool must have room for, or it would serve nothing."""


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

"""Every setting: the annotated file, overridden by `TELEMETRY_…` variables, overridden by flags.

Durations are written `100ms`, `15s`, `5m`, `12h`, `7d`; sizes in bytes may be written `64KiB`, `4MiB`. Each variable
may also be given as `…_FILE`, a path whose content is the value, which is how secrets reach a container.
"""

from telemetry.settings.loading import load_settings, settings_path
from telemetry.settings.model import PREFIX, Settings
from telemetry.settings.sections import (
    ApiSettings,
    DatabaseSettings,
    IngestSettings,
    LoggingSettings,
    MqttSettings,
    SpoolSettings,
    TlsSettings,
)
from telemetry.settings.types import format_duration, parse_duration

__all__ = [
    "PREFIX",
    "ApiSettings",
    "DatabaseSettings",
    "IngestSettings",
    "LoggingSettings",
    "MqttSettings",
    "Settings",
    "SpoolSettings",
    "TlsSettings",
    "format_duration",
    "load_settings",
    "parse_duration",
    "settings_path",
]

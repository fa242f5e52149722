"""What every reading of every domain has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Strict

from telemetry.domains.metric import gauge


class Reading(BaseModel):
    """One message of one device at one time.

    Numbers must be JSON numbers and booleans JSON booleans: a quoted number or a `1` for `true` is a fault of the
    gateway that is better named than guessed at. `null` means not measured. Fields that the model does not know are
    kept as attributes.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    time: Annotated[AwareDatetime | None, Strict(False)] = Field(
        None,
        description="When measured: RFC 3339 with an offset, Unix seconds or milliseconds; absent = when received.",
    )
    device_id: str | None = Field(None, description="Optional; must equal the topic's device.")

    battery_pct: float | None = gauge("%", "Charge of the device's battery", ge=0, le=100)
    rssi_dbm: float | None = gauge("dBm", "Received signal strength of the radio", ge=-200, le=50)
    snr_db: float | None = gauge("dB", "Signal-to-noise ratio of the radio", ge=-50, le=100)

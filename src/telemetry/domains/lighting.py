"""Street lighting: lamps and their controllers."""

from typing import Literal

from telemetry.domains import Reading, counter, domain, gauge, state

Fault = Literal["none", "lamp", "driver", "column", "supply", "communication"]


@domain("lighting", title="Street lighting")
class LightingReading(Reading):
    """A street lamp or its controller: electrical values at the lamp, dimming, burning hours and faults."""

    power_w: float | None = gauge("W", "Active power drawn by the luminaire", ge=0, le=10_000)
    voltage_v: float | None = gauge("V", "Supply voltage at the luminaire", ge=0, le=1_000)
    current_a: float | None = gauge("A", "Supply current of the luminaire", ge=0, le=100)
    power_factor: float | None = gauge("1", "Active over apparent power, signed", ge=-1, le=1)
    dim_level_pct: float | None = gauge("%", "Light output, 0 is off and 100 is full", ge=0, le=100)
    temperature_c: float | None = gauge("Cel", "Temperature of the driver or its housing", ge=-60, le=150)
    energy_kwh: float | None = counter("kWh", "Active energy since the meter's start", le=1e9)
    burning_hours_h: float | None = counter("h", "Hours the lamp has been lit since its installation", le=1e6)
    lamp_on: bool | None = state("Whether the lamp is lit")
    fault: Fault | None = state("The fault that the controller reports, or none")

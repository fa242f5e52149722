"""Electrical energy: meters of cabinets and buildings."""

from telemetry.domains import Reading, counter, domain, gauge


@domain("energy", title="Energy meters")
class EnergyReading(Reading):
    """An electricity meter, single-phase or three-phase: power, voltage, current and energy indexes."""

    active_power_w: float | None = gauge("W", "Active power, negative when exporting", ge=-1e8, le=1e8)
    reactive_power_var: float | None = gauge("var", "Reactive power, positive when inductive", ge=-1e8, le=1e8)
    apparent_power_va: float | None = gauge("VA", "Apparent power", ge=0, le=1e8)
    voltage_v: float | None = gauge("V", "Voltage, or the mean of the phases", ge=0, le=500_000)
    voltage_l1_v: float | None = gauge("V", "Voltage of phase L1 to neutral", ge=0, le=500_000)
    voltage_l2_v: float | None = gauge("V", "Voltage of phase L2 to neutral", ge=0, le=500_000)
    voltage_l3_v: float | None = gauge("V", "Voltage of phase L3 to neutral", ge=0, le=500_000)
    current_a: float | None = gauge("A", "Current, or the sum of the phases", ge=-100_000, le=100_000)
    current_l1_a: float | None = gauge("A", "Current of phase L1", ge=-100_000, le=100_000)
    current_l2_a: float | None = gauge("A", "Current of phase L2", ge=-100_000, le=100_000)
    current_l3_a: float | None = gauge("A", "Current of phase L3", ge=-100_000, le=100_000)
    power_factor: float | None = gauge("1", "Active over apparent power, signed", ge=-1, le=1)
    frequency_hz: float | None = gauge("Hz", "Mains frequency", ge=0, le=100)
    energy_import_kwh: float | None = counter(
        "kWh", "Active energy taken from the grid since the meter's start", le=1e12
    )
    energy_export_kwh: float | None = counter("kWh", "Active energy fed into the grid since the meter's start", le=1e12)
    reactive_energy_kvarh: float | None = counter("kvar.h", "Reactive energy since the meter's start", le=1e12)

"""Waste containers: bins, isles and underground containers."""

from telemetry.domains import Reading, domain, gauge, state


@domain("waste", title="Waste containers")
class WasteReading(Reading):
    """A waste container: how full, how heavy, how warm, and whether it stands upright and closed."""

    fill_level_pct: float | None = gauge("%", "How full the container is", ge=0, le=100)
    weight_kg: float | None = gauge("kg", "Weight of the content", ge=0, le=100_000)
    temperature_c: float | None = gauge("Cel", "Temperature inside the container", ge=-60, le=1_000)
    distance_mm: float | None = gauge("mm", "From the sensor at the top down to the waste", ge=0, le=20_000)
    methane_ppm: float | None = gauge("[ppm]", "Methane concentration inside the container", ge=0, le=1_000_000)
    tilted: bool | None = state("Whether the container is tipped over")
    lid_open: bool | None = state("Whether the lid is open")

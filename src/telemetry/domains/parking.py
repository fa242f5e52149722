"""Parking: single spots and car parks."""

from telemetry.domains import Reading, counter, domain, gauge, state


@domain("parking", title="Parking")
class ParkingReading(Reading):
    """A parking spot or a whole car park: how many spots are taken, and the cars that came and went."""

    occupied_spots: float | None = gauge("{spot}", "Spots taken now", ge=0, le=100_000, whole=True)
    total_spots: float | None = gauge("{spot}", "Spots in service", ge=0, le=100_000, whole=True)
    arrivals: float | None = counter("{vehicle}", "Vehicles that came since the counter's start", le=1e12, whole=True)
    departures: float | None = counter("{vehicle}", "Vehicles that left since the counter's start", le=1e12, whole=True)
    occupied: bool | None = state("Whether the single spot is taken")

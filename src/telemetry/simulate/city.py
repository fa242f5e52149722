"""The simulated city: which devices stand where, fixed by a seed."""

from __future__ import annotations

from random import Random
from typing import Final

from telemetry.simulate import energy, lighting, parking, waste
from telemetry.simulate.device import SimulatedDevice

SEED: Final = 47
INTERVAL_S: Final = 900.0
"""Seconds between two readings of a device that the registry is told: a quarter of an hour, as in the backfill."""

ZONES: Final = {
    "centre": (47.4712, -0.5518),
    "gare": (47.4640, -0.5572),
    "nord": (47.4958, -0.5512),
    "sud": (47.4471, -0.5560),
    "est": (47.4722, -0.5214),
    "ouest": (47.4705, -0.5907),
}
"""Centres of the zones around Angers, degrees north and east."""

_STREETS: Final = {
    "centre": ("Rue Saint-Laud", "Rue Toussaint", "Boulevard Foch", "Place du Ralliement", "Rue Baudrière"),
    "gare": ("Place de la Gare", "Rue Denis-Papin", "Avenue Turpin-de-Crissé", "Rue de la Rame", "Rue Fulton"),
    "nord": ("Avenue Montaigne", "Boulevard Gaston-Ramon", "Rue des Capucins", "Rue du Général-Lizé", "Avenue Pasteur"),
    "sud": ("Rue de Létanduère", "Avenue Jean-XXIII", "Rue Saumuroise", "Rue de Villesicard", "Boulevard Mandela"),
    "est": ("Rue Volney", "Avenue Pierre-Mendès-France", "Rue de la Madeleine", "Rue Larévellière", "Rue de Frémur"),
    "ouest": ("Boulevard Jacques-Millot", "Rue Saint-Jacques", "Avenue Patton", "Rue de la Meignanne", "Rue Lionnaise"),
}
_SPREAD_DEG = 0.0045

_PATTERN: Final = (
    "lighting", "lighting", "energy", "lighting", "parking", "lighting", "waste", "lighting", "lighting", "lighting",
    "energy", "lighting", "parking", "lighting", "waste", "lighting", "energy", "lighting", "parking", "lighting",
)  # fmt: skip
"""60 % lighting, 15 % energy, 15 % parking, 10 % waste, mixed so that every twenty devices are a small city."""

_KINDS: Final = {
    "lighting": lighting.KINDS,
    "energy": energy.KINDS,
    "parking": parking.KINDS,
    "waste": waste.KINDS,
}


def city(devices: int, seed: int = SEED) -> list[SimulatedDevice]:
    """The first `devices` devices of the city with that seed; a larger city contains the smaller one.

    Raises:
        ValueError: a negative number.
    """
    if devices < 0:
        raise ValueError(f"a city has 0 or more devices, not {devices}")
    ordinals = dict.fromkeys(_KINDS, 0)
    built = []
    for index in range(devices):
        domain = _PATTERN[index % len(_PATTERN)]
        ordinals[domain] += 1
        built.append(_device(domain, ordinals[domain], seed))
    return built


def _device(domain: str, ordinal: int, seed: int) -> SimulatedDevice:
    chance = Random(f"{seed}/{domain}/{ordinal}")  # noqa: S311 - a seeded city is the point
    kinds = _KINDS[domain]
    kind = kinds[(ordinal - 1) % len(kinds)]
    zone = chance.choice(tuple(ZONES))
    latitude, longitude = ZONES[zone]
    return SimulatedDevice(
        device_id=f"{kind.prefix}-{ordinal:05d}",
        domain=domain,
        kind=kind.name,
        name=f"{kind.title} {chance.choice(_STREETS[zone])} {chance.randint(1, 240)}",
        zone=zone,
        latitude=round(latitude + chance.gauss(0, _SPREAD_DEG), 6),
        longitude=round(longitude + chance.gauss(0, _SPREAD_DEG * 1.4), 6),
        interval_s=INTERVAL_S,
        seed=chance.getrandbits(64),
    )

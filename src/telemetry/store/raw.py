"""Readings that come too late: the raw readings of their time are gone.

Roll-ups are kept for ever, what they were made of is not, and where it is gone they are never made anew. A reading may
wait in a spool until readings of its time were dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from telemetry.errors import Reason
from telemetry.store.batch import Batch, quarantined
from telemetry.store.copy import device_of
from telemetry.store.layout import EPOCH, RECEIVED_AT, SOURCE, TIME


def refuse_older(batch: Batch, raw_from_us: Mapping[str, int]) -> None:
    """Refuses the readings of a batch that are older than the raw readings of their domain.

    Args:
        raw_from_us: by domain, in µs since 1970; a domain that it does not name keeps all.
    """
    for domain, readings in list(batch.readings.items()):
        since = raw_from_us.get(domain)
        if since is None or min(entry[TIME] for entry in readings.entries) >= since:
            continue
        words = f"readings of {domain} from before {_shown(since)} are no longer kept (retention.readings)"
        for entry in readings.entries:
            if entry[TIME] < since:
                source, received_us = entry[SOURCE], entry[RECEIVED_AT]
                batch.refused.append(
                    quarantined(source, received_us, domain, device_of(source), Reason.BEYOND_RETENTION, words)
                )
        readings.entries[:] = [entry for entry in readings.entries if entry[TIME] >= since]
        if not readings.entries:
            del batch.readings[domain]


def _shown(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%SZ")

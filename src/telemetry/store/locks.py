"""The keys of the advisory locks, all in one place: a key that is used twice makes strangers wait for each other.

Locks of one key and locks of two never meet, so each kind has its own numbers. They stay as they are, for releases that
run beside each other must agree on them.
"""

from __future__ import annotations

from typing import Final

MIGRATE: Final = 0x7E1E_0001
"""One key: the runner of migrations."""
LEAD: Final = 0x7E1E_0002
"""One key: the process that does the upkeep."""
MERGE_ALL: Final = 0x7E1E_0004
"""One key: who completes rows of some domains (shared), or of all, as releases of before did it."""
BATCHES: Final = 0x7E1E_0005
"""One key: batches under way (shared), and who removes devices or raw readings. The functions `telemetry_keep_devices`
and `telemetry_stop_batches` take it."""

WORKER: Final = 0x7E1E_0003
"""First of two keys, the other is of a client id: who writes under that name."""
MERGE: Final = 0x7E1E_0004
"""First of two keys, the other is of a domain: who completes rows of it."""
PLACE: Final = 0x7E1E_0005
"""First of two keys, the other is of a client id and a place: who writes what is kept there."""
PARTITIONS: Final = "telemetry_ensure_partitions"
"""Its `hashtext` is the first of two keys, the other is of a domain: who makes partitions of it. The function of that
name takes it."""

"""Keys of advisory locks: each kind of lock has its own, and there is no other place where one is made up."""

from __future__ import annotations

import re
from pathlib import Path

import telemetry
from telemetry.resources import folder
from telemetry.store import locks

ONE_KEY = {"MIGRATE", "LEAD", "MERGE_ALL", "BATCHES"}
TWO_KEYS = {"WORKER", "MERGE", "PLACE", "PARTITIONS"}


def test_each_lock_has_a_key_of_its_own() -> None:
    named = {name for name in vars(locks) if name.isupper()}
    assert named == ONE_KEY | TWO_KEYS
    for kind in (ONE_KEY, TWO_KEYS):
        assert len({getattr(locks, name) for name in kind}) == len(kind)


def test_keys_are_in_one_place() -> None:
    assert telemetry.__file__ is not None
    files = Path(telemetry.__file__).parent.rglob("*.py")
    assert {file.name for file in files if re.search(r"0x7E1E", file.read_text(), re.IGNORECASE)} == {"locks.py"}


def test_migrations_take_the_locks_that_are_listed() -> None:
    taken: set[int | str] = set()
    for file in folder("migrations").glob("*.sql"):
        for arguments in re.findall(r"advisory_\w*lock\w*\((.*)\)", file.read_text()):
            key = re.match(r"x'([0-9A-F]+)'::int$|hashtext\('(\w+)'\), hashtext\(domain\)$", arguments)
            assert key, (file.name, arguments)
            taken.add(int(key[1], 16) if key[1] else key[2])
    assert taken == {locks.BATCHES, locks.PARTITIONS}

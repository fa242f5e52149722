"""The spool's file: what is kept comes back as it was and in order, and damage is never handed out."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.ingest.intake import Arrival, size_of
from telemetry.ingest.parcel import Kept, Parcel, pack, unpack
from telemetry.ingest.spool import Spool, SpoolFull, check_directory
from tests.support.disks import small_disk

QUOTA = 1024 * 1024
Open = Callable[..., Spool]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens spools of the worker `w` and closes them at the end."""
    spools: list[Spool] = []

    def make(directory: Path = tmp_path, quota: int = QUOTA) -> Spool:
        spool = Spool(directory, "w", quota)
        spools.append(spool)
        spool.open()
        return spool

    yield make
    for spool in spools:
        spool.close()


def parcel(number: int, size: int = 10) -> Parcel:
    """A batch of two arrivals, three messages in all."""
    messages = [Kept(f"city/v1/waste/bin-{number}", bytes([number % 256]) * size)]
    size = size_of(messages)
    return Parcel(uuid4(), [Arrival(0, 1_000 + number, messages, size), Arrival(1, 2_000, messages * 2, 2 * size)])


def ids(spool: Spool) -> list[UUID]:
    """Drains it; the ids in the order in which they came out."""
    found: list[UUID] = []
    while spool.messages:
        found.append(drain(spool).id)
    return found


def drain(spool: Spool) -> Parcel:
    """Takes the oldest batch out."""
    oldest = spool.first()
    spool.remove_first()
    return oldest


def write_on(file: Path) -> NoReturn:
    """Writes until it raises."""
    with file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(4096))


def fill(spool: Spool, kept: list[Parcel], size: int = 20_000) -> None:
    """Appends until it raises; notes what was kept."""
    for number in range(1_000):
        spool.append(each := parcel(number, size))
        kept.append(each)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**60), st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=5)),
        max_size=4,
    )
)
def test_messages_come_out_as_they_were_packed(received: list[tuple[int, list[tuple[str, bytes]]]]) -> None:
    arrivals, first = [], 0
    for received_us, messages in received:
        kept = [Kept(topic, payload) for topic, payload in messages]
        arrivals.append(Arrival(first, received_us, kept, size_of(kept)))
        first += len(kept)
    assert unpack(pack(arrivals)) == arrivals


def test_batches_come_out_oldest_first_while_others_are_added(opened: Open) -> None:
    spool = opened()
    parcels = [parcel(number) for number in range(5)]
    for each in parcels[:3]:
        spool.append(each)
    assert spool.messages == 9
    assert spool.first() == parcels[0]
    assert drain(spool) == parcels[0]
    for each in parcels[3:]:
        spool.append(each)
    assert ids(spool) == [each.id for each in parcels[1:]]


def test_batches_survive_a_process_that_was_killed(opened: Open, tmp_path: Path) -> None:
    spool = opened()
    parcels = [parcel(number) for number in range(3)]
    for each in parcels:
        spool.append(each)
    drain(spool)
    # What lies on the disk while the process lives is what it leaves when it is killed.
    shutil.copytree(tmp_path, tmp_path / "after", ignore=shutil.ignore_patterns("after"))
    found = opened(tmp_path / "after")
    assert found.messages == 6
    assert ids(found) == [each.id for each in parcels[1:]]


def test_drained_spool_leaves_no_file(opened: Open, tmp_path: Path) -> None:
    spool = opened()
    assert not spool.exists
    spool.append(parcel(1))
    spool.clear()
    assert spool.exists
    drain(spool)
    spool.clear()
    assert not spool.exists
    assert [path.name for path in tmp_path.iterdir()] == ["w.lock"]
    again = parcel(2)
    spool.append(again)
    assert ids(spool) == [again.id]


def test_committed_batch_and_all_before_it_are_not_drained_again(opened: Open, tmp_path: Path) -> None:
    parcels = [parcel(number) for number in range(4)]
    spool = opened()
    for each in parcels:
        spool.append(each)
    spool.remove_committed([uuid4()])
    assert spool.messages == 12
    spool.remove_committed([uuid4(), parcels[1].id, parcels[0].id])
    assert spool.messages == 6
    assert ids(spool) == [each.id for each in parcels[2:]]


def test_full_spool_refuses_and_takes_again_what_there_is_room_for(opened: Open) -> None:
    spool = opened()
    kept: list[Parcel] = []
    with pytest.raises(SpoolFull, match=r"no room.*spool.quota is 1,048,576"):
        fill(spool, kept)
    assert 10 < len(kept) < 20
    assert QUOTA * 0.9 < spool.size() <= QUOTA
    assert spool.path.stat().st_size <= QUOTA
    assert spool.messages == 3 * len(kept)
    drain(spool)
    spool.append(last := parcel(0, 20_000))
    assert ids(spool) == [each.id for each in [*kept[1:], last]]


@pytest.mark.parametrize("size", ["1m", "8m"])
def test_full_disk_is_named_and_has_room_again_for_what_is_drained(opened: Open, tmp_path: Path, size: str) -> None:
    with small_disk(tmp_path / "disk", size) as disk:
        spool = opened(disk, 64 * QUOTA)
        kept: list[Parcel] = []
        with pytest.raises(SpoolFull, match=r"w\.sqlite has no room: its disk is full, [\d,]+ bytes are left"):
            fill(spool, kept, 50_000)
        assert len(kept) > 2
        for number in range(3 * len(kept)):
            full = spool.size()
            assert drain(spool) == kept.pop(0)
            assert spool.size() < full
            spool.append(each := parcel(number, 50_000))
            kept.append(each)
            with pytest.raises(SpoolFull, match="its disk is full"):
                spool.append(parcel(0, 50_000))
        # Others have taken what we had left: removals still find room in the log.
        with pytest.raises(OSError, match="No space"):
            write_on(disk / "other")
        full = spool.size()
        assert drain(spool) == kept.pop(0)
        assert spool.size() < full
        assert ids(spool) == [each.id for each in kept]
        spool.clear()
        assert not spool.exists
        spool.close()


def test_removal_without_room_on_the_disk_is_made_good_by_the_end(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened()
    parcels = [parcel(number) for number in range(3)]
    for each in parcels:
        spool.append(each)

    class NoRoom:
        """A connection whose disk is full; only the loss of a real one can be tried on a small file system."""

        def __init__(self, database: sqlite3.Connection) -> None:
            self._database = database

        def execute(self, statement: str, arguments: tuple[object, ...] = ()) -> sqlite3.Cursor:
            if statement.startswith("DELETE"):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return self._database.execute(statement, arguments)

        def close(self) -> None:
            self._database.close()

    assert spool._database is not None
    monkeypatch.setattr(spool, "_database", NoRoom(spool._database))
    assert ids(spool) == [each.id for each in parcels]
    spool.clear()
    assert not spool.path.exists()


def test_changed_byte_is_found_when_its_batch_is_drained(opened: Open) -> None:
    spool = opened()
    for number in (1, 2):
        spool.append(parcel(number, 50_000))
    spool.close()
    data = bytearray(spool.path.read_bytes())
    data[data.rindex(b"\x02" * 1000)] ^= 1
    spool.path.write_bytes(data)
    spool = opened()
    drain(spool)
    with pytest.raises(ConfigurationError, match=r"w\.sqlite is damaged: the digest.*move .*w\.sqlite\* away"):
        spool.first()


@pytest.mark.parametrize("place", [0, 4096], ids=["header", "page"])
def test_damaged_file_is_found_when_it_is_opened(opened: Open, place: int) -> None:
    spool = opened()
    spool.append(parcel(1, 50_000))
    spool.close()
    with spool.path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 512)
    with pytest.raises(ConfigurationError, match=r"w\.sqlite is damaged"):
        opened()


def test_file_of_a_later_version_is_refused(opened: Open) -> None:
    spool = opened()
    spool.append(parcel(1))
    spool.close()
    database = sqlite3.connect(spool.path)
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(ConfigurationError, match="has the format 9"):
        opened()


def test_second_process_does_not_get_the_spool(opened: Open) -> None:
    first = opened()
    with pytest.raises(Unavailable, match="another process has the spool"):
        opened()
    first.close()
    opened()


@contextmanager
def no_more_files() -> Iterator[None]:
    """The process may open no further file (EMFILE)."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Also none in place of one that it closes meanwhile.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_batch_that_comes_after_half_a_removal_is_in_a_file_with_a_name(opened: Open, tmp_path: Path) -> None:
    spool = opened()
    spool.append(parcel(1))
    drain(spool)
    with no_more_files(), pytest.raises(SpoolFull, match="cannot be removed: Too many open files"):
        spool.clear()
    assert spool.exists  # a power cut could bring it back, so nothing may go past it yet
    spool.append(kept := parcel(2))
    shutil.copytree(tmp_path, tmp_path / "after", ignore=shutil.ignore_patterns("after"))
    assert ids(opened(tmp_path / "after")) == [kept.id]
    assert ids(spool) == [kept.id]
    spool.clear()
    assert not spool.exists
    assert [path.name for path in tmp_path.glob("w.*")] == ["w.lock"]


def test_removal_that_was_cut_short_is_completed(opened: Open, tmp_path: Path) -> None:
    spool = opened()
    spool.append(parcel(1))
    drain(spool)
    with no_more_files(), pytest.raises(SpoolFull):
        spool.clear()
    spool.clear()
    assert not spool.exists
    assert [path.name for path in tmp_path.iterdir()] == ["w.lock"]


def test_place_is_that_of_the_directory(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first, elsewhere = opened(), opened(tmp_path / "elsewhere")
    first.close()
    assert opened().place == first.place != elsewhere.place


def test_log_without_its_file_brings_nothing_back(opened: Open) -> None:
    spool = opened()
    spool.append(parcel(1))
    log = spool.path.with_name("w.sqlite-wal")
    left = log.read_bytes()
    assert left
    drain(spool)
    spool.clear()
    log.write_bytes(left)
    spool.append(again := parcel(2))
    assert ids(spool) == [again.id]


def test_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    check_directory(tmp_path)
    with pytest.raises(ConfigurationError, match=r"spool\.directory: there is no directory .*nowhere"):
        check_directory(tmp_path / "nowhere")

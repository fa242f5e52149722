"""Batches in a file while the database is away: SQLite with a write-ahead log, flushed to the disk with every batch.

The calls block; the one thread of `ingest.detour` makes them. The file is there only while something waits in it.
SQLite itself refuses what exceeds the quota. Each batch has a digest; what does not agree with it is never handed out.

A batch is removed after its commit, and its pages are used again; that needs room in the write-ahead log, so what the
disk has left must stay beyond a reserve. Where others have taken that, the batch is only remembered as drained, and the
file goes as a whole when all of it is. A crash in between is no harm: the database knows the last id that was
committed, and everything up to it was committed before.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from telemetry.errors import ConfigurationError, Unavailable
from telemetry.ingest.parcel import Parcel, pack, unpack

_FORMAT: Final = 1
_ROOM = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PLENTY: Final = 8 * 1024 * 1024
"""With so many bytes left on the disk, and room for two batches, the log may grow as SQLite has it, to some 4 MiB. With
less, it is brought over into the file before each batch."""
_RESERVE: Final = 128 * 1024
"""Bytes of the log, or of the disk for it, that no batch may take: with them one is taken out."""
_TABLE = """
CREATE TABLE IF NOT EXISTS batches (
    position INTEGER PRIMARY KEY, id BLOB NOT NULL, messages INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL
)
"""


class SpoolFull(Unavailable):
    """The quota or the disk has no room now; what was to be done is not done."""


class Spool:
    """The batches of one worker that wait for the database, oldest first.

    Args:
        directory: must exist.
        worker: the client id; the file is named after it.
        quota: bytes that the file may have; the write-ahead log beside it needs a few MiB more.

    Attributes:
        messages: how many wait.
        place: tells the spool of this directory from one of the same name elsewhere; known once it is open.
    """

    def __init__(self, directory: Path, worker: str, quota: int) -> None:
        self.path = directory / f"{worker}.sqlite"
        self.messages = 0
        self.place = uuid4()
        self._log = directory / f"{worker}.sqlite-wal"
        self._lock_path = directory / f"{worker}.lock"
        self._quota = quota
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None
        self._last = self._drained = 0
        self._largest = 0
        self._handed_out: tuple[int, int] | None = None
        self._leaving = False

    @property
    def exists(self) -> bool:
        """Whether there is a file, or one that was removed could come back with a power cut."""
        return self._database is not None or self._leaving

    def open(self) -> None:
        """Takes the spool for this process, and looks through what an earlier one has left in it.

        Raises:
            Unavailable: another process has it.
            ConfigurationError: the directory cannot be used, or the file is damaged.
        """
        check_directory(self.path.parent)
        self._take_lock()
        if not self.path.exists():
            return
        self._database = self._database or self._connect()
        with self._explained():
            (verdict,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise self._damaged(verdict)
            self._count()

    def append(self, parcel: Parcel) -> None:
        """Keeps a batch; on return it is on the disk.

        Raises:
            SpoolFull: there is no room, nothing of it is kept.
        """
        body = pack(parcel.arrivals)
        messages = sum([len(arrival.messages) for arrival in parcel.arrivals])
        if self._database is None:
            self._create()
        assert self._database is not None
        self._require_room(len(body))
        with self._explained():
            self._database.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?)",
                (self._last + 1, parcel.id.bytes, messages, _digest(parcel.id.bytes, messages, body), body),
            )
        self._last += 1
        self.messages += messages

    def first(self) -> Parcel:
        """The oldest batch; there must be one.

        Raises:
            ConfigurationError: it is not what was kept.
        """
        assert self._database is not None
        with self._explained():
            position, messages, id_bytes, digest, body = self._oldest("position, messages, id, digest, body")
        if not isinstance(body, bytes) or digest != _digest(id_bytes, messages, body):
            raise self._damaged("the digest of a batch does not agree with its content")
        self._handed_out = position, messages
        return Parcel(UUID(bytes=id_bytes), unpack(body))

    def remove_first(self) -> None:
        """Takes out the batch that `first` gave; it is committed, so no want of room may keep it here."""
        assert self._handed_out is not None
        self._remove_through(*self._handed_out)

    def remove_committed(self, batches: Collection[UUID]) -> None:
        """Takes out the batches of these ids, if they are there, and all before; called before anything is drained."""
        if self._database is None:
            return
        for batch in batches:
            with self._explained():
                (position, messages) = self._database.execute(
                    """
                    SELECT position, (
                        SELECT sum(messages) FROM batches AS older WHERE position > ?1 AND position <= batches.position
                    )
                    FROM batches WHERE id = ?2 AND position > ?1 UNION ALL SELECT 0, 0
                    """,
                    (self._drained, batch.bytes),
                ).fetchone()
            if position:
                self._remove_through(position, messages)

    def clear(self) -> None:
        """Gives the room back to the disk, unless something waits.

        Raises:
            SpoolFull: the file cannot be removed now.
        """
        if self.messages or not self.exists:
            return
        try:
            # In this order: without its log, the file would show batches that were removed. Without the file, the log
            # shows nothing.
            if self._database is not None:
                self.path.unlink(missing_ok=True)
                # Before anything can fail: what is kept from now on must not go to a file that has no name.
                self._leaving = True
                self._disconnect()
                self._last = self._drained = 0
            _flush_directory(self.path.parent)
            self._log.unlink(missing_ok=True)
        except OSError as error:
            raise SpoolFull(f"the spool {self.path} cannot be removed: {error.strerror}") from error
        self._leaving = False

    def size(self) -> int:
        """Bytes of the file that are in use."""
        if self._database is None:
            return 0
        with self._explained():
            pages, unused, each = self._pages()
        return (pages - unused) * each

    def close(self) -> None:
        """Leaves the file and the lock; what waits stays."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        try:
            lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(f"the lock {self._lock_path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise Unavailable(
                f"another process has the spool {self.path}; stop it, or give this one an mqtt.client_id of its own"
            ) from error
        self._lock = lock
        self.place = _place(lock)

    def _create(self) -> None:
        try:
            self._log.unlink(missing_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = self._connect()
            _flush_directory(self.path.parent)
        except (OSError, SpoolFull) as error:
            self._disconnect()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            raise SpoolFull(f"the spool {self.path} cannot be made: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        with self._explained():
            database = sqlite3.connect(self.path, isolation_level=None)
            try:
                self._set_up(database)
            except BaseException:
                database.close()
                raise
        return database

    def _set_up(self, database: sqlite3.Connection) -> None:
        """Durable with every statement, of one process only, and no larger than allowed."""
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _FORMAT):
            raise ConfigurationError(
                f"the spool {self.path} has the format {version}, and this version of telemetry writes {_FORMAT}; "
                "let the version that wrote it drain it first"
            )
        (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ConfigurationError(f"the file system of {self.path} allows no write-ahead log; choose a local one")
        database.execute("PRAGMA synchronous = FULL")
        (page_size,) = database.execute("PRAGMA page_size").fetchone()
        database.execute(f"PRAGMA max_page_count = {self._quota // page_size}")
        database.execute(_TABLE)
        database.execute(f"PRAGMA user_version = {_FORMAT}")

    def _require_room(self, size: int) -> None:
        """Refuses a batch after which the disk would have no room to take one out; so one that is drained makes room.

        Raises:
            SpoolFull: it is refused.
        """
        self._largest = max(self._largest, size)
        if self._left() >= _PLENTY + 2 * self._largest:
            return
        with self._explained():
            self._bring_over()
            _, unused, each = self._pages()
        # Each page has four bytes that say where the rest is; and the tree may grow by some.
        grows = max(0, -(-size // (each - 4)) + 4 - unused) * each
        logged = self._largest + self._largest // 64 + _RESERVE
        if (left := self._left()) < grows + max(0, logged - self._log_size()):
            raise SpoolFull(self._disk_is_full(left))

    def _bring_over(self) -> None:
        """Brings what is in the log into the file; the log begins anew and keeps the room that it has."""
        assert self._database is not None
        self._database.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def _pages(self) -> tuple[int, int, int]:
        """Pages of the file, those of them that are not used, and bytes of each."""
        assert self._database is not None
        pages, unused, each = (
            int(self._database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return pages, unused, each

    def _left(self) -> int:
        """Bytes that the disk has left for us."""
        try:
            found = os.statvfs(self.path.parent)
        except OSError as error:
            raise SpoolFull(f"the disk of the spool {self.path} does not answer: {error.strerror}") from error
        return found.f_bavail * found.f_frsize

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _count(self) -> None:
        assert self._database is not None
        self.messages, self._last = self._database.execute(
            "SELECT coalesce(sum(messages), 0), coalesce(max(position), 0) FROM batches"
        ).fetchone()

    def _oldest(self, columns: str) -> tuple[Any, ...]:
        assert self._database is not None
        row: tuple[Any, ...] | None = self._database.execute(
            f"SELECT {columns} FROM batches WHERE position > ? ORDER BY position LIMIT 1",  # noqa: S608 - our own words
            (self._drained,),
        ).fetchone()
        if row is None:
            raise self._damaged("a batch has vanished")
        return row

    def _remove_through(self, position: int, messages: int) -> None:
        assert self._database is not None
        with suppress(SpoolFull), self._explained():
            self._database.execute("DELETE FROM batches WHERE position <= ?", (position,))
            if self._left() < _PLENTY + 2 * self._largest:
                self._bring_over()
        self._drained, self._handed_out = max(self._drained, position), None
        self.messages -= messages

    def _disconnect(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            # The last checkpoint may find no room; the log keeps what it did not bring over.
            with suppress(sqlite3.Error), closing(database):
                pass

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tells what passes from what a person has to put right."""
        try:
            yield
        except sqlite3.Error as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                # SQLite says the same of both; a batch is kept only where the disk has more left than this.
                left = self._left()
                by_quota = f"the spool {self.path} has no room: spool.quota is {self._quota:,} bytes"
                raise SpoolFull(by_quota if left >= _RESERVE else self._disk_is_full(left)) from error
            if code in _ROOM:
                raise SpoolFull(f"the spool {self.path} cannot be written: {error}") from error
            if code in _DAMAGE:
                raise self._damaged(str(error)) from error
            raise ConfigurationError(f"the spool {self.path} cannot be used: {error}") from error

    def _disk_is_full(self, left: int) -> str:
        return (
            f"the spool {self.path} has no room: its disk is full, {left:,} bytes are left "
            f"(spool.quota is {self._quota:,})"
        )

    def _damaged(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"the spool {self.path} is damaged: {what}. Nothing more is acknowledged. The messages in it are nowhere "
            f"else: move {self.path}* away, start again, and recover what you can from there "
            "(docs/ingest.md, The spool)"
        )


def left_behind(directory: Path, base: str) -> list[str]:
    """The client ids whose names begin so and that have a file there."""
    return sorted(path.stem for path in directory.glob("*.sqlite") if path.stem.startswith(base))


def check_directory(directory: Path) -> None:
    """Whether spools can be kept there.

    Raises:
        ConfigurationError: they cannot.
    """
    if not directory.is_dir():
        raise ConfigurationError(f"spool.directory: there is no directory {directory}; make it, on a disk that lasts")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"spool.directory: {directory} cannot be written by the user of this process")


def _place(lock: int) -> UUID:
    """What is written in the lock file; where nothing is, a new one, which is forgotten where there is no room."""
    try:
        return UUID(os.pread(lock, 36, 0).decode())
    except (OSError, ValueError):
        made = uuid4()
    with suppress(OSError):
        os.pwrite(lock, str(made).encode(), 0)
        os.fsync(lock)
    return made


def _digest(id_bytes: bytes, messages: int, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16, key=b"%b %d" % (id_bytes[:32], messages)).digest()


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

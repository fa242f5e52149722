"""The files of the migration folders: numbered plain SQL, some for one engine only.

`0002_storage.postgres.sql` runs on that engine only; a file without an engine in its name runs on both. A file whose
first line is `-- no transaction` holds one statement that PostgreSQL refuses inside a transaction.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from telemetry.errors import MigrationError

NO_TRANSACTION = "-- no transaction"

_NAME = re.compile(r"(?P<version>\d{4}_[a-z0-9_]+)(?:\.(?P<engine>postgres|timescaledb))?\.sql")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Migration:
    """One numbered file.

    Attributes:
        version: its name without engine and ending (`0002_storage`), unique per engine.
        engine: the only engine that it runs on, or None.
    """

    version: str
    engine: str | None
    path: Path
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text; line ends do not count, so that a checkout on another system is the same."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        """Whether it runs in one transaction with its record."""
        return not self.sql.lstrip().startswith(NO_TRANSACTION)


def find_migrations(folders: Iterable[Path], engine: str) -> list[Migration]:
    """The migrations of an engine in the order of their versions, over all folders.

    Raises:
        MigrationError: a misnamed file, a number used twice, or several statements in a file without transaction.
    """
    found: dict[str, Migration] = {}
    for folder in folders:
        if not folder.is_dir():
            raise MigrationError(f"the migration folder {folder} does not exist; see database.migrations")
        for path in sorted(folder.glob("*.sql")):
            migration = _read(path)
            if migration.engine not in (None, engine):
                continue
            number = migration.version[:4]
            if number in found:
                raise MigrationError(f"{path} and {found[number].path} have the same number; renumber one of them")
            found[number] = migration
    return [found[number] for number in sorted(found)]


def _read(path: Path) -> Migration:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise MigrationError(f"{path}: a migration is named 0042_what_it_does.sql or 0042_what_it_does.<engine>.sql")
    migration = Migration(match["version"], match["engine"], path, path.read_text(encoding="utf-8"))
    if not migration.transactional and ";" in _COMMENT.sub("", migration.sql).strip().rstrip(";"):
        raise MigrationError(f"{path}: a file without transaction holds exactly one statement")
    return migration

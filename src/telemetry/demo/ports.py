"""Whether a port is free, told in one sentence that names the way out."""

from __future__ import annotations

import socket

from telemetry.errors import ConfigurationError

HOST = "127.0.0.1"


def require_free(port: int, flag: str, wanted_by: str) -> None:
    """Makes sure that a port can be listened on.

    Raises:
        ConfigurationError: it is taken, or not allowed to us; the flag that moves it is named.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise ConfigurationError(
                f"port {port}, which {wanted_by} wants, is reserved for root; choose another: {flag} {port + 10_000}"
            ) from None
        except OSError:
            raise ConfigurationError(
                f"port {port}, which {wanted_by} wants, is taken by another program; choose another: {flag} {port + 1}"
            ) from None

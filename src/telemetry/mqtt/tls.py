"""Encryption towards the broker, as configured."""

from __future__ import annotations

import ssl

from telemetry.errors import ConfigurationError
from telemetry.settings import TlsSettings


def tls_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """The context to connect with; None without TLS.

    Raises:
        ConfigurationError: a file is missing or is not what it should be.
    """
    if not settings.enabled:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"mqtt.tls.ca_file: {settings.ca_file} cannot be used: {error}") from error
    if settings.key_file is not None and settings.cert_file is None:
        raise ConfigurationError("mqtt.tls.key_file is given without mqtt.tls.cert_file; give both or none")
    if settings.cert_file is not None:
        try:
            # Without a password function OpenSSL would ask on the terminal, where nobody sits.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"mqtt.tls.cert_file and mqtt.tls.key_file: {settings.cert_file} with {settings.key_file} "
                f"cannot be used: {error}; PEM files are needed, the key without a password"
            ) from error
    return context

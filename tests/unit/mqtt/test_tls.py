"""The TLS context: what is configured is used, and what is wrong is named."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from telemetry.errors import ConfigurationError
from telemetry.mqtt.tls import tls_context
from telemetry.settings import TlsSettings


def test_no_tls_no_context() -> None:
    assert tls_context(TlsSettings()) is None


def test_context_checks_certificate_and_host_name() -> None:
    context = tls_context(TlsSettings(enabled=True))
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_missing_authority_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mqtt\.tls\.ca_file: .*none\.pem"):
        tls_context(TlsSettings(enabled=True, ca_file=tmp_path / "none.pem"))


def test_authority_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"mqtt\.tls\.ca_file"):
        tls_context(TlsSettings(enabled=True, ca_file=tmp_path / "ca.pem"))


def test_key_without_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"without mqtt\.tls\.cert_file"):
        tls_context(TlsSettings(enabled=True, key_file=tmp_path / "key.pem"))


def test_unusable_client_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"mqtt\.tls\.cert_file"):
        tls_context(TlsSettings(enabled=True, cert_file=tmp_path / "cert.pem"))

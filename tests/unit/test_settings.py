"""Settings: the annotated file is the reference, and whoever gets one wrong is told which."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from telemetry.errors import ConfigurationError
from telemetry.resources import folder
from telemetry.settings import Settings, format_duration, load_settings, parse_duration

ANNOTATED = folder("config") / "telemetry.yaml"


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names to values."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def names(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted names of all settings."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
        found |= names(inner, f"{prefix}{name}.") if is_section else {f"{prefix}{name}"}  # type: ignore[arg-type]
    return found


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file is found by chance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TELEMETRY_CONFIG", raising=False)


def test_annotated_file_names_every_setting_with_its_default() -> None:
    written = flat(yaml.safe_load(ANNOTATED.read_text()))
    assert set(written) == names(Settings)
    assert load_settings(ANNOTATED).model_dump() == load_settings().model_dump()


def test_annotated_file_comments_every_setting() -> None:
    lines = ANNOTATED.read_text().splitlines()
    for number, line in enumerate(lines):
        if ":" in line and not line.lstrip().startswith("#") and not line.rstrip().endswith(":"):
            above = [each.strip() for each in lines[max(0, number - 4) : number]]
            assert any(each.startswith("#") for each in above), line


def test_flags_go_over_variables_and_variables_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mqtt: {host: file, port: 1, username: file}\n")
    monkeypatch.setenv("TELEMETRY_MQTT__PORT", "2")
    monkeypatch.setenv("TELEMETRY_MQTT__USERNAME", "variable")
    mqtt = load_settings(file, {"mqtt.username": "flag"}).mqtt
    assert (mqtt.host, mqtt.port, mqtt.username) == ("file", 2, "flag")


def test_secret_is_read_from_a_file_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("postgresql://u:hush@db/t\n")
    monkeypatch.setenv("TELEMETRY_DATABASE__URL_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    assert settings.database.url.get_secret_value() == "postgresql://u:hush@db/t"
    assert "hush" not in str(settings.model_dump(mode="json")) + repr(settings)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"mqtt.prot": 1}, "mqtt.prot: there is no such setting"),
        ({"mqtt.port": 70_000}, "mqtt.port"),
        ({"ingest.batch_age": "soon"}, "100ms, 15s, 5m, 12h, 7d or 1w"),
        ({"ingest.batch_bytes": "4 MB"}, "64KiB"),
        ({"timezone": "Mars/Olympus"}, "IANA"),
        ({"timezone": "localtime"}, "IANA"),
        ({"mqtt.topic_root": "/city"}, "no slash"),
        ({"mqtt.topic_root": "city/+"}, "mqtt.topic_root: a topic is needed, e.g. city/v1, without the wildcards"),
        ({"mqtt.client_id": "a b"}, "mqtt.client_id: 1 to 128 characters of A-Z a-z 0-9 . _ : - are allowed"),
        ({"mqtt.client_id": "a\n"}, "mqtt.client_id: 1 to 128 characters"),
        ({"mqtt.share_group": "a/b"}, "mqtt.share_group: at least one character is needed, and none of / + # and NUL"),
        ({"mqtt.dropped_counters": ["$SYS/#"]}, "mqtt.dropped_counters.0: a topic below $SYS/ is needed"),
        (
            {"mqtt.qos": 0},
            "mqtt.qos: 1 or 2 is allowed; at 0 the broker keeps nothing for us while we are away (given: 0)",
        ),
        ({"mqtt.qos": 3}, "mqtt.qos: 1 or 2 is allowed"),
        ({"mqtt.qos": "exactly once"}, "mqtt.qos: Input should be a valid integer"),
        ({"mqtt.keep_alive": 0}, "mqtt.keep_alive: 0 would switch it off, and nobody would notice a dead connection"),
        ({"mqtt.keep_alive": "0s"}, "mqtt.keep_alive: 0 would switch it off"),
        ({"mqtt.keep_alive": -1}, "mqtt.keep_alive: a duration longer than 0 is needed (given: -1)"),
        ({"mqtt.keep_alive": "2d"}, "mqtt.keep_alive: MQTT knows none above 65535s (18h 12m 15s)"),
        ({"mqtt.session_expiry": "1ms"}, "mqtt.session_expiry: at least 1h is needed"),
        ({"mqtt.session_expiry": "59m"}, "published while ingest is away is lost when the session expires"),
        ({"mqtt.topic_root": "$SYS"}, "not beginning with $"),
        ({"mqtt.topic_root": "$share/x/city"}, "not beginning with $"),
        ({"mqtt": 3, "mqtt.port": 4}, "mqtt.port: mqtt was given a value of its own"),
        ({"ingest.max_future": "400d"}, "ingest.max_future: at most 1d is possible"),
        ({"ingest.max_payload_bytes": "5MiB"}, "ingest.max_payload_bytes must not exceed ingest.batch_bytes"),
        ({"database.url": "mysql://u:hush@db/t"}, "database.url: a PostgreSQL URL is needed, postgresql://user"),
        ({"retention.readings": "3d"}, "late readings would vanish"),
        ({"retention.columnstore_after": "1d"}, "retention.columnstore_after must exceed ingest.max_lateness"),
        (
            {"spool.directory": "/tmp", "spool.quota": "15MiB"},
            "spool.quota must be at least 4 times ingest.batch_bytes",
        ),
    ],
)
def test_wrong_setting_is_named(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(overrides=overrides)
    assert named in str(caught.value)
    assert "hush" not in str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(overrides={"mqtt.port": 0, "api.port": "x"})
    assert {"mqtt.port", "api.port"} <= {line.split(":")[0] for line in str(caught.value).splitlines()}


def test_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRY_MQTT__PROT", "1883")
    with pytest.raises(ConfigurationError, match="TELEMETRY_MQTT__PROT names no setting"):
        load_settings()


def test_variables_of_services_and_links_named_as_we_are_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    injected = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8000",
        "PORT": "tcp://10.0.0.1:8000",
        "API_SERVICE_HOST": "10.0.0.1",
        "API_SERVICE_PORT": "8000",
        "API_SERVICE_PORT_HTTP": "8000",
        "API_SERVICE_PORT_HTTP_METRICS": "8000",
        "API_PORT": "tcp://10.0.0.1:8000",
        "API_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "API_PORT_8000_TCP_PROTO": "tcp",
        "API_PORT_8000_TCP_PORT": "8000",
        "API_PORT_8000_TCP_ADDR": "fd00::1",
        "API_V2_PORT_53_UDP": "udp://[fd00::1]:53",
        "CONFIG_SERVICE_HOST": "10.0.0.1",
        "DB_NAME": "/web/telemetry_db",
        "DB_ENV_POSTGRES_PASSWORD_FILE": "/run/secrets/none",
    }
    for name, value in injected.items():
        monkeypatch.setenv(f"TELEMETRY_{name}", value)
    monkeypatch.setenv("TELEMETRY_API__PORT", "8001")
    assert load_settings().api.port == 8001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "8001"),
        ("PORT", "8001"),
        ("MQTT_HOST", "broker"),
        ("API_SERVICE", "x"),
        ("API_SERVICE_PORT", "http"),
        ("API__SERVICE_HOST", "10.0.0.1"),
        ("API__PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("API_PORT_8000_TCP_ADR", "10.0.0.1"),
        ("NAME", "telemetry"),
        ("TIMEZONES", "UTC"),
    ],
)
def test_misspelt_variable_that_looks_injected_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TELEMETRY_{name}", value)
    with pytest.raises(ConfigurationError, match=f"TELEMETRY_{name} names no setting"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "needed"),
    [
        ("TELEMETRY_MQTT__DROPPED_COUNTERS", "x", "a JSON list is needed"),
        ("TELEMETRY_MQTT__DROPPED_COUNTERS", '{"a": 1}', "a JSON list is needed"),
        ("TELEMETRY_API__TRUSTED_PROXIES", "", "or [] for none"),
        ("TELEMETRY_MQTT__TLS", "yes", "or give single settings, as TELEMETRY_MQTT__TLS__… variables"),
    ],
)
def test_variable_that_is_no_json_is_named_with_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, needed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{variable}: ")
    assert needed in str(caught.value)


def test_lists_and_sections_are_read_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRY_MQTT__DROPPED_COUNTERS", "[]")
    monkeypatch.setenv("TELEMETRY_MQTT__TLS", '{"enabled": true}')
    mqtt = load_settings().mqtt
    assert (mqtt.dropped_counters, mqtt.tls.enabled) == ([], True)


def test_wrong_secret_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(overrides={"mqtt.password": ["hush"]})
    assert "hush" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml does not exist"):
        load_settings(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a\n- b\n", "holds a list; sections with settings are needed"),
        ("hello\n", "holds a text; sections with settings are needed"),
        ("3\n", "holds a single value; sections"),
        ("mqtt:\n  port: 1\n  host: a\n  port: 2\n", "line 4: port is there already, in line 2"),
        ("mqtt: {port: 1}\napi: {port: 1}\nmqtt: {host: a}\n", "line 3: mqtt is there already, in line 1"),
        ("mqtt:\n  1: 2\n", "line 2: the name of a setting is needed"),
        ("mqtt:\n  ? [a]\n  : 1\n", "line 2: the name of a setting is needed"),
        ("mqtt: [1,\n", "cannot read the settings file"),
        ("\x00", "cannot read the settings file"),
    ],
)
def test_file_that_holds_no_settings_is_named_with_the_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


def test_empty_file_leaves_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# nothing yet\n")
    assert load_settings(file).model_dump() == load_settings().model_dump()


def test_what_is_merged_into_a_section_may_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mqtt:\n  <<: {port: 1, host: a}\n  port: 2\n")
    mqtt = load_settings(file).mqtt
    assert (mqtt.host, mqtt.port) == ("a", 2)


@pytest.mark.parametrize("text", ["100ms", "15s", "5m", "12h", "7d"])
def test_duration_is_written_as_it_was_read(text: str) -> None:
    duration = parse_duration(text)
    assert isinstance(duration, timedelta)
    assert format_duration(duration) == text

"""The Compose file fits the code, the settings, the broker's configuration and Grafana's provisioning.

No container runs here; what can be run without one is in tests/integration/deploy/test_compose_services.py.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from telemetry.cli import app
from telemetry.settings import PREFIX, load_settings
from tests.unit.deploy.compose import (
    FOLDER,
    ROOT,
    environment,
    interpolated,
    mounted,
    ours,
    project,
    services,
    variables,
)
from tests.unit.deploy.dashboards import data_sources

ALWAYS_ON = {"mqtt", "database", "ingest", "api", "maintain", "grafana"}


@pytest.mark.parametrize(
    ("text", "result"),
    [("${A:-1}", "1"), ("${B:-1}", "2"), ("$$(cat ${A:-x})", "$(cat x)"), ("plain", "plain")],
)
def test_variables_are_replaced_as_compose_does(text: str, result: str) -> None:
    assert interpolated({"x": [text]}, {"B": "2"}) == {"x": [result]}


def test_everything_that_serves_is_there() -> None:
    assert {name for name in services() if "profiles" not in services()[name]} == ALWAYS_ON | {"migrate"}
    assert {name for name in services() if "profiles" in services()[name]} == {"prometheus", "simulate"}


@pytest.mark.parametrize("name", ours())
def test_command_is_one_of_the_program(name: str) -> None:
    command = get_command(app)
    words = ours()[name]["command"]
    while words and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    assert command.callback is not None
    command.make_context(name, list(words))


@pytest.mark.parametrize("name", ours())
def test_settings_of_a_service_load(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value in environment(ours()[name]).items():
        assert variable.startswith(PREFIX)
        if value.startswith("/run/secrets/"):
            secret = tmp_path / Path(value).name
            secret.write_text(f"postgresql://telemetry:{secret.name}@database:5432/telemetry\n")
            value = str(secret)
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert settings.database.url.get_secret_value().startswith("postgresql://telemetry:database_url@database:")
    assert (settings.database.reader_password is not None) is (name == "migrate")
    assert (settings.mqtt.password is not None) is (name in ("ingest", "simulate"))


@pytest.mark.parametrize("name", services())
def test_secret_is_granted_where_it_is_read_and_only_there(name: str) -> None:
    service = services()[name]
    text = yaml.safe_dump({key: service[key] for key in ("command", "environment", "healthcheck") if key in service})
    read = set(re.findall(r"/run/secrets/(\w+)", text))
    assert read == set(service.get("secrets", []))
    assert read <= set(project()["secrets"])


def test_secrets_are_files_that_are_made_and_never_committed(tmp_path: Path) -> None:
    files = {Path(secret["file"]) for secret in project()["secrets"].values()}
    assert files == {Path("secrets") / name for name in project()["secrets"]}
    made = make_secrets(tmp_path)
    assert {path.name for path in made.iterdir()} == set(project()["secrets"])
    assert "secrets/" in (FOLDER / ".gitignore").read_text().split()


def make_secrets(folder: Path) -> Path:
    """Runs the script in a folder of its own; returns where the secrets are."""
    script = folder / "make-secrets"
    script.write_text((FOLDER / "make-secrets").read_text())
    subprocess.run(["sh", script], check=True, capture_output=True)
    return folder / "secrets"


def test_secrets_belong_together_and_stay_when_made_again(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    first = {path.name: path.read_text().strip() for path in made.iterdir()}
    assert first["database_url"] == f"postgresql://telemetry:{first['database_password']}@database:5432/telemetry"
    users = dict(line.split(":") for line in first["mqtt_users"].splitlines())
    assert users == {"telemetry": first["mqtt_password"], "gateway": first["gateway_password"]}
    passwords = [value for name, value in first.items() if name.endswith("password")]
    assert len(set(passwords)) == 5
    # Grafana expands a $, a URL would need its escapes: hexadecimal digits need neither.
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in passwords)
    (made / "reader_password").write_text("my own\n")
    make_secrets(tmp_path)
    again = {path.name: path.read_text().strip() for path in made.iterdir()}
    assert again == first | {"reader_password": "my own"}


def test_secrets_are_closed_to_others_and_open_to_containers(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    assert made.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o644}


def test_script_can_be_executed() -> None:
    assert os.access(FOLDER / "make-secrets", os.X_OK)


def test_example_names_every_variable_with_its_default() -> None:
    lines = (FOLDER / ".env.example").read_text().splitlines()
    assert dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) == variables()


@pytest.mark.parametrize("name", sorted(ALWAYS_ON - {"mqtt", "database"}))
def test_nothing_starts_before_the_tables_are_there(name: str) -> None:
    assert services()[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_tables_wait_for_the_database_and_ingest_for_the_broker() -> None:
    assert services()["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert services()["ingest"]["depends_on"]["mqtt"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", [name for name in services() if name in ALWAYS_ON - {"maintain"}])
def test_service_says_when_it_is_healthy(name: str) -> None:
    assert services()[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(ALWAYS_ON))
def test_service_comes_back_by_itself(name: str) -> None:
    assert services()[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", services())
def test_image_is_pinned(name: str) -> None:
    tag = services()[name]["image"].rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+\.\d+", tag)


def test_database_image_is_one_that_the_service_supports() -> None:
    match = re.fullmatch(r"timescale/timescaledb:(\d+)\.(\d+)\.(\d+)-pg(1[5-9])", services()["database"]["image"])
    assert match is not None
    # -oss images lack the Community edition's continuous aggregates.
    assert tuple(map(int, match.groups()[:3])) >= (2, 26, 3)


@pytest.mark.parametrize("name", ours())
def test_our_containers_may_do_little(name: str) -> None:
    service = ours()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "user" not in service
    assert "privileged" not in service


def test_ports_agree_between_settings_checks_mappings_and_readers() -> None:
    api, ingest, mqtt = (services()[name] for name in ("api", "ingest", "mqtt"))
    api_port = environment(api)["TELEMETRY_API__PORT"]
    metrics_port = environment(ingest)["TELEMETRY_INGEST__METRICS_PORT"]
    assert api["ports"] == [f"127.0.0.1:8000:{api_port}"]
    assert f"127.0.0.1:{api_port}/readyz" in api["healthcheck"]["test"][-1]
    assert f"127.0.0.1:{metrics_port}/readyz" in ingest["healthcheck"]["test"][-1]
    assert broker_options()["listener"] == [environment(ingest)["TELEMETRY_MQTT__PORT"]]
    assert mqtt["ports"] == [f"127.0.0.1:1883:{environment(ingest)['TELEMETRY_MQTT__PORT']}"]
    assert f"-p {environment(ingest)['TELEMETRY_MQTT__PORT']} " in mqtt["healthcheck"]["test"][-1]
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert targets == {"ingest": [f"ingest:{metrics_port}"], "api": [f"api:{api_port}"]}


def test_services_listen_where_other_containers_reach_them() -> None:
    assert environment(services()["api"])["TELEMETRY_API__HOST"] == "0.0.0.0"
    assert environment(services()["ingest"])["TELEMETRY_INGEST__METRICS_HOST"] == "0.0.0.0"
    assert environment(services()["ingest"])["TELEMETRY_MQTT__HOST"] in services()


def test_published_ports_are_this_hosts_own_by_default_and_differ() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)
    assert "ports" not in services()["database"]


def test_grafana_gets_what_its_provisioning_asks_for() -> None:
    grafana = services()["grafana"]
    (source,) = data_sources()
    given = {name.removesuffix("__FILE"): value for name, value in environment(grafana).items()}
    asked = re.findall(r"\$(\w+)", yaml.safe_dump(source))
    assert len(asked) == 4
    assert set(asked) <= set(given)
    assert given[source["url"].removeprefix("$")] == "database:5432"
    assert given["GF_TELEMETRY_DATABASE_NAME"] == environment(services()["database"])["POSTGRES_DB"]
    assert (
        given["GF_TELEMETRY_READER_PASSWORD"]
        == (environment(services()["migrate"])["TELEMETRY_DATABASE__READER_PASSWORD_FILE"])
    )
    assert given["GF_DATE_FORMATS_DEFAULT_TIMEZONE"] == environment(services()["api"])["TELEMETRY_TIMEZONE"]
    assert mounted(grafana)["/etc/grafana/provisioning"] == "../grafana/provisioning"
    assert mounted(grafana)["/etc/grafana/dashboards"] == "../grafana/dashboards"


@pytest.mark.parametrize("name", services())
def test_mounted_folders_exist_and_volumes_are_declared(name: str) -> None:
    for source in mounted(services()[name]).values():
        assert (FOLDER / source).exists() if source.startswith(".") else source in project()["volumes"]


def broker_options() -> dict[str, list[str]]:
    """The lines of the broker's configuration by their first word."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / "mosquitto" / "mosquitto.conf").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name and not name.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_broker_keeps_its_queue_on_a_volume() -> None:
    options, places = broker_options(), mounted(services()["mqtt"])
    assert options["persistence"] == ["true"]
    assert places[options["persistence_location"][0].rstrip("/")] in project()["volumes"]


def test_broker_never_drops_silently() -> None:
    options = broker_options()
    assert options["max_queued_messages"] == options["max_queued_bytes"] == ["0"]
    assert int(options["max_inflight_messages"][0]) >= load_settings().mqtt.receive_maximum
    assert "memory_limit" not in options


def test_broker_knows_its_users_and_what_they_may() -> None:
    options = broker_options()
    assert options["allow_anonymous"] == ["false"]
    assert options["password_file"][0] in services()["mqtt"]["command"][-1]
    acl = (FOLDER / "mosquitto" / "acl").read_text()
    assert f"user {environment(services()['ingest'])['TELEMETRY_MQTT__USERNAME']}\ntopic read city/v1/#\n" in acl
    assert f"user {environment(services()['simulate'])['TELEMETRY_MQTT__USERNAME']}\ntopic write city/v1/#\n" in acl
    assert load_settings().mqtt.topic_root == "city/v1"


def test_data_of_every_server_is_on_a_volume() -> None:
    assert "database" in mounted(services()["database"]).values()
    assert set(project()["volumes"]) == {
        source for service in services().values() for source in mounted(service).values() if not source.startswith(".")
    }

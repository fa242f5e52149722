"""What docs/deployment.md and docs/grafana.md name is there: settings, commands, services, secrets, files and links."""

from __future__ import annotations

import re

import pytest
import yaml
from typer.main import get_command

from telemetry.cli import app
from telemetry.settings import Settings
from tests.unit.deploy.compose import FOLDER, environment, project, services, variables
from tests.unit.deploy.documents import ROOT, code_words, fenced, tables, text

GUIDES = ("deployment", "grafana")


def is_setting(dotted: str) -> bool:
    model = Settings
    *sections, last = dotted.split(".")
    for section in sections:
        field = model.model_fields.get(section)
        if field is None or not hasattr(field.annotation, "model_fields"):
            return False
        model = field.annotation  # type: ignore[assignment]
    return last in model.model_fields


@pytest.mark.parametrize("guide", GUIDES)
def test_variables_name_settings(guide: str) -> None:
    named = {name.removesuffix("_FILE") for name in re.findall(r"\bTELEMETRY_\w+", text(guide))}
    assert named
    assert [each for each in named if not is_setting(each.removeprefix("TELEMETRY_").lower().replace("__", "."))] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_dotted_names_are_settings(guide: str) -> None:
    sections = "|".join(name for name in Settings.model_fields if name != "timezone")
    named = {word for word in code_words(text(guide)) if re.fullmatch(rf"(?:{sections})\.[a-z_]+", word)}
    assert named
    assert [each for each in named if not is_setting(each)] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_exist(guide: str) -> None:
    named = {word for word in code_words(text(guide)) if re.match(r"telemetry [a-z]", word.replace("\n", " "))}
    assert named
    for words in (each.split()[1:] for each in named):
        command = get_command(app)
        for word in words:
            command = command.commands[word]  # type: ignore[attr-defined]


def test_commands_in_containers_exist() -> None:
    shell = "\n".join(fenced(text("deployment"), "sh")).replace("\\\n", " ")
    run = re.findall(r"docker compose run .*?--no-deps (?:--volume \S+ )?(\w+) ([a-z ]+)", shell)
    assert {service for service, _ in run} == {"api"}
    for _, words in run:
        command = get_command(app)
        for word in words.split():
            command = command.commands[word]  # type: ignore[attr-defined]
    named = set(re.findall(r"docker compose exec (?:-T )?(\w+)", shell))
    named |= set(re.findall(r"--profile demo (?:up --detach|down) (\w+)", shell))
    assert named == {"database", "simulate"}
    assert named <= set(services())


@pytest.mark.parametrize("guide", GUIDES)
def test_files_and_links_are_there(guide: str) -> None:
    named = {word for word in code_words(text(guide)) if re.match(r"(deploy|config|tests|docs|src)/", word)}
    named |= {f"docs/{link}" for link in re.findall(r"\]\(([\w./-]+)\)", text(guide))}
    made = "deploy/compose/secrets"
    assert named
    assert [each for each in named if each != made and not (ROOT / each).exists()] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_anchors_are_headings(guide: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text(guide), re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", text(guide))) <= headings


def test_every_service_is_described() -> None:
    (table,) = [table for table in tables(text("deployment")) if table[0][0] == "service"]
    described = [code_words(row[0])[0] for row in table[1:]]
    assert set(described) == set(services()) - {"simulate"}


def test_every_secret_is_described() -> None:
    (table,) = [table for table in tables(text("deployment")) if table[0] == ["file", "holds"]]
    assert {code_words(row[0])[0] for row in table[1:]} == set(project()["secrets"])


def test_variables_of_compose_are_those_of_the_example() -> None:
    assert "PUBLISH_ON" in variables()
    assert "`PUBLISH_ON`" in text("deployment")


def test_variables_of_grafana_are_those_that_it_gets() -> None:
    given = {name.removesuffix("__FILE") for name in environment(services()["grafana"])}
    named = set(re.findall(r"\bGF_\w+", text("grafana") + text("deployment")))
    assert len(named) == 5
    assert named <= given


def test_example_of_an_own_broker_overrides_what_is_there() -> None:
    (example,) = fenced(text("deployment"), "yaml")
    override = yaml.safe_load(example.replace("!override", ""))["services"]
    assert set(override) <= set(services())
    assert set(override["ingest"]["depends_on"]) == set(services()["ingest"]["depends_on"]) - {"mqtt"}
    assert all(name in environment(services()["ingest"]) or "TLS" in name for name in override["ingest"]["environment"])


def test_script_of_the_quick_start_is_there() -> None:
    assert "./make-secrets" in fenced(text("deployment"), "sh")[0]
    assert (FOLDER / "make-secrets").exists()

"""The client asks what the service answers: the same routes, parameters, defaults, words and fields of a device.

A parameter that the client lacks cannot be asked for; a field of a device that it lacks would be deleted by a put.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest

from telemetry import errors
from telemetry.api.app import create_app
from telemetry.api.devices import DeviceBody
from telemetry.api.negotiation import Format
from telemetry.client import AsyncClient, Client, Question, Registration, parameters, questions
from telemetry.client.transport import CONCURRENCY
from telemetry.domains import Kind, load_domains
from telemetry.query.aggregates import Combine, available
from telemetry.query.question import By, Fill, Reset
from telemetry.settings import load_settings

PATHS = create_app(load_settings()).openapi()["paths"]
READ: Mapping[str, Callable[..., Any]] = {
    "/v1/domains": questions.domains,
    "/v1/{domain}/series": questions.series,
    "/v1/{domain}/readings": questions.readings,
    "/v1/{domain}/latest": questions.latest,
    "/v1/{domain}/changes": questions.changes,
    "/v1/ledger": questions.ledger,
    "/v1/devices": questions.devices,
    "/v1/devices/{device_id}": questions.device,
    "/v1/devices/{device_id}/meter-swaps": questions.meter_swaps,
    "/v1/devices/{device_id}/meter-swaps/{counter}/{time}": questions.meter_swap,
    "/v1/quarantine": questions.quarantine,
    "/v1/quarantine/{number}": questions.quarantine_entry,
    "/v1/quarantine/summary": questions.quarantine_summary,
    "/readyz": questions.health,
    "/version": questions.version,
}
NOT_ASKED = {"/livez", "/metrics"}
"""For the process's supervisor and for Prometheus."""
OWN = {"limit": "page_size"}
PLUMBING = {"cursor", "format"}


def test_every_route_can_be_asked() -> None:
    assert set(PATHS) == set(READ) | NOT_ASKED


@pytest.mark.parametrize("path", READ)
def test_question_has_the_parameters_and_defaults_of_its_route(path: str) -> None:
    listed = {
        OWN.get(each["name"], each["name"]): each["schema"].get("default")
        for each in PATHS[path]["get"].get("parameters", ())
        if each["name"] not in PLUMBING
    }
    signature = inspect.signature(READ[path])
    assert set(signature.parameters) == set(listed)
    for name, parameter in signature.parameters.items():
        if parameter.default not in (inspect.Parameter.empty, None):
            assert parameter.default == listed[name], name


def test_words_are_those_of_the_service() -> None:
    every = {
        name for domain in load_domains().values() for metric in domain.metrics.values() for name in available(metric)
    }
    assert set(get_args(parameters.Aggregate)) == every
    pairs: list[tuple[Any, Any]] = [
        (parameters.By, By),
        (parameters.Combine, Combine),
        (parameters.Fill, Fill),
        (parameters.Reset, Reset),
        (parameters.Kind, Kind),
        (parameters.Format, Format),
        (parameters.Reason, errors.Reason),
    ]
    for literal, enum in pairs:
        assert set(get_args(literal)) == set(enum), enum


def test_client_has_as_many_questions_under_way_as_the_service_answers() -> None:
    assert load_settings().api.max_concurrent_per_client == CONCURRENCY
    bounded = {path for path, ask in READ.items() if _question(ask).is_bounded}
    assert bounded == {path for path in READ if path.startswith("/v1/")}


def _question(ask: Callable[..., Any]) -> Question[Any]:
    needed = [each for each in inspect.signature(ask).parameters.values() if each.default is each.empty]
    asked = ask(*("1" if each.name != "number" else 1 for each in needed))
    return asked if isinstance(asked, Question) else asked.page(asked.first)


def test_registration_has_every_field_of_a_device() -> None:
    assert set(Registration.__dataclass_fields__) == {"device_id", *DeviceBody.model_fields}


@pytest.mark.parametrize("name", questions.__all__)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_method_has_signature_and_documentation_of_its_question(client: type, name: str) -> None:
    method, question = getattr(client, name), getattr(questions, name)
    parameters = inspect.signature(method).parameters
    assert list(parameters) == ["self", *inspect.signature(question).parameters]
    assert (method.__name__, method.__doc__) == (name, question.__doc__)
    assert method.__doc__

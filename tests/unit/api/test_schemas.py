from __future__ import annotations

import pytest

from telemetry.api.schemas import ANY_TEXT, schema_of


def test_schema_has_the_fields_of_the_example() -> None:
    example = {"meta": {"next": None}, "data": [{"name": "lamp", "count": 3, "share": 0.5, "on": True}]}
    found = schema_of(example, {"next": ANY_TEXT})
    assert found["required"] == ["meta", "data"]
    assert found["properties"]["meta"]["properties"] == {"next": {"type": ["string", "null"]}}
    types = {name: each["type"] for name, each in found["properties"]["data"]["items"]["properties"].items()}
    assert types == {"name": "string", "count": "integer", "share": "number", "on": "boolean"}


def test_null_that_nothing_is_told_of_is_refused() -> None:
    with pytest.raises(KeyError):
        schema_of({"next": None}, {})

"""JSON schemas of answers for OpenAPI, made from their examples: the example shows the fields, and its route names
the schemas of those that may be something else. Answers are not checked against them when they are given; the tests do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]
Overrides = dict[str, Schema]
"""Schemas by name of a field, at any depth, of those that the example does not show all of."""

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def schema_of(example: Any, overrides: Overrides) -> Schema:
    """The schema of an answer like the example. Every field of an object is always there, and has the example's type
    unless the overrides name its schema.

    Raises:
        KeyError: the example has a null whose schema they do not name.
    """
    if isinstance(example, dict):
        fields = {
            name: overrides[name] if name in overrides else schema_of(value, overrides)
            for name, value in example.items()
        }
        return {"type": "object", "required": list(fields), "properties": fields}
    if isinstance(example, list):
        return {"type": "array", "items": schema_of(example[0], overrides) if example else {}}
    return {"type": _TYPES[type(example)]}


def nullable(*types: str) -> Schema:
    """One of these JSON types, or null."""
    return {"type": [*types, "null"]}


def mapping(values: Schema) -> Schema:
    """An object of any fields."""
    return {"type": "object", "additionalProperties": values}


def rows_of(fields: Mapping[str, Schema], optional: Mapping[str, Schema], others: Schema) -> Schema:
    """Objects with these fields, perhaps those, and any others."""
    every = {**fields, **optional}
    row = {"type": "object", "required": list(fields), "properties": every, "additionalProperties": others}
    return {"type": "array", "items": row}


TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
ANY_TEXT = nullable("string")
ANY_NUMBER = nullable("number")
ANY_INTEGER = nullable("integer")
NEXT: Overrides = {"next": ANY_TEXT}
"""The cursor of the next page."""

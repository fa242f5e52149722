"""JSON answers into typed objects. What a newer service tells beyond that is passed over."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from telemetry.client.errors import UnexpectedAnswer
from telemetry.client.exchange import Answer

Meta = TypeVar("Meta")
Data = TypeVar("Data")
Body = TypeVar("Body", bound=BaseModel)


class Envelope(BaseModel, Generic[Meta, Data]):
    """`{"meta": …, "data": …}`."""

    meta: Meta
    data: Data


class DataOnly(BaseModel, Generic[Data]):
    """`{"data": …}`."""

    data: Data


def body(model: type[Body], answer: Answer) -> Body:
    """The body of an answer.

    Raises:
        UnexpectedAnswer: it has another form.
    """
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise UnexpectedAnswer(f"the answer is none that this client understands: {error}") from error

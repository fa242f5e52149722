"""What a field of a model declares."""

from __future__ import annotations

import math

import pytest
from pydantic import BaseModel

from telemetry.domains import Metric, counter, gauge, load_domains
from telemetry.errors import ConfigurationError


class Model(BaseModel):
    usual: float | None = counter("kWh", "An index")
    strict: float | None = counter("kWh", "An index that never falls by itself", glitch=0)
    level: float | None = gauge("W", "A level")


def declared(name: str) -> Metric:
    metric = Metric.of(name, Model.model_fields[name])
    assert metric is not None
    return metric


def test_glitch_of_a_counter_is_the_declared_share_and_of_others_none() -> None:
    assert [declared(name).glitch for name in ("usual", "strict", "level")] == [0.05, 0.0, None]
    assert load_domains()["energy"].metrics["energy_import_kwh"].glitch == 0.05


@pytest.mark.parametrize("glitch", [-0.01, 1, 5, math.nan])
def test_glitch_that_is_no_share_is_refused_with_what_is_allowed(glitch: float) -> None:
    with pytest.raises(ConfigurationError, match=r"'An index': glitch is .*from 0 to less than 1"):
        counter("kWh", "An index", glitch=glitch)

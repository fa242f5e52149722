"""The tests' own Grafana expands as the real one does, and refuses what it does not know."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.unit.deploy.macros import All, View, expand

VIEW = View(
    start=datetime(2026, 3, 1, tzinfo=UTC),
    end=datetime(2026, 3, 2, 12, 30, tzinfo=UTC),
    chosen={"zone": ["centre", "L'Île"], "device": All("SELECT device_id FROM d"), "window": "1h"},
)


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("$__timeFrom()", "'2026-03-01T00:00:00Z'"),
        ("$__timeTo()", "'2026-03-02T12:30:00Z'"),
        ("$__timeFilter(r.time)", "r.time BETWEEN '2026-03-01T00:00:00Z' AND '2026-03-02T12:30:00Z'"),
        ("$__timeGroup(time, 1h)", "floor(extract(epoch from time)/3600)*3600"),
        ("$__timeGroupAlias(time, $__interval)", 'floor(extract(epoch from time)/300)*300 AS "time"'),
        ("zone IN (${zone:sqlstring})", "zone IN ('centre','L''Île')"),
        ("device_id IN (${device:sqlstring})", "device_id IN (SELECT device_id FROM d)"),
        ("FROM lighting_${window}", "FROM lighting_1h"),
        ("FROM lighting_$window ", "FROM lighting_1h "),
    ],
)
def test_query_is_expanded(sql: str, expanded: str) -> None:
    assert expand(sql, VIEW) == expanded


@pytest.mark.parametrize("sql", ["zone IN ($zone)", "${street}", "$__unixEpochFilter(time)", "$__timeFilter"])
def test_what_grafana_would_get_wrong_is_refused(sql: str) -> None:
    with pytest.raises(LookupError):
        expand(sql, VIEW)

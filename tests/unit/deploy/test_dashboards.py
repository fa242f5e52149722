"""The dashboards fit together: one for each domain, alike in their frame, and reading nothing but Grafana's views."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from telemetry.domains import load_domains
from tests.unit.deploy.dashboards import FOLDER, Json, Query, dashboards, data_sources, queries, relations, variables

BOARDS = dashboards()
QUERIES = list(queries())
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]
SCHEMA = 42
"""The last version of the classic dashboard schema; a higher one does not exist, a lower one Grafana would migrate."""
SUFFIXES = ("", "_15m", "_1h", "_1d", "_${window}")
VIEWS = {f"grafana.{name}" for name in ("devices", "ledger", "quarantine")} | {
    f"grafana.{domain}{suffix}" for domain in load_domains() for suffix in SUFFIXES
}


def title(panel: tuple[str, Json]) -> str:
    return f"{panel[0]}: {panel[1]['title']}"


def test_every_domain_has_its_dashboard() -> None:
    assert set(BOARDS) == {*load_domains(), "data-quality"}


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard_has_a_stable_frame(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"telemetry-{name}"
    assert board["schemaVersion"] == SCHEMA
    assert "id" not in board
    assert board["tags"] == ["telemetry"]
    # Empty is Grafana's default time zone, which the deployment sets to the city's.
    assert board["timezone"] == ""
    assert board["title"]
    assert board["description"]


def test_titles_of_dashboards_differ() -> None:
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_ids_and_titles_of_their_own(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert len({panel["title"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_panel_says_what_it_shows(panel: tuple[str, Json]) -> None:
    assert len(panel[1]["description"]) > 20
    assert panel[1]["targets"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    assert all(place["x"] >= 0 and place["w"] > 0 and place["x"] + place["w"] <= 24 for place in places)
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []


def overlap(one: Json, other: Json) -> bool:
    return bool(
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [
        ({"x": 6, "y": 0, "w": 6, "h": 4}, False),
        ({"x": 0, "y": 4, "w": 6, "h": 4}, False),
        ({"x": 5, "y": 3, "w": 6, "h": 4}, True),
    ],
)
def test_overlap_is_found(other: Json, overlaps: bool) -> None:
    assert overlap({"x": 0, "y": 0, "w": 6, "h": 4}, other) is overlaps


def test_everything_reads_the_provisioned_data_source() -> None:
    (source,) = data_sources()
    wanted = {"type": source["type"], "uid": source["uid"]}
    for board in BOARDS.values():
        used = [panel["datasource"] for panel in board["panels"]]
        used += [target["datasource"] for panel in board["panels"] for target in panel["targets"]]
        used += [variable["datasource"] for variable in variables(board).values() if variable["type"] == "query"]
        assert all(each == wanted for each in used)


def test_data_source_is_the_reader_with_a_password_from_outside() -> None:
    (source,) = data_sources()
    assert source["user"] == "telemetry_reader"
    assert re.fullmatch(r"\$[A-Z_]+", source["secureJsonData"]["password"])


def test_macros_keep_to_plain_sql_for_both_engines() -> None:
    (source,) = data_sources()
    assert source["jsonData"]["timescaledb"] is False
    assert [query for query in QUERIES if re.search(r"\b(time_bucket|first|last)\(", query.sql)] == []


@pytest.mark.parametrize("name", BOARDS)
def test_zone_and_device_take_several_and_all(name: str) -> None:
    wanted = {"zone", "domain"} if name == "data-quality" else {"zone", "device"}
    found = variables(BOARDS[name])
    assert wanted <= set(found)
    assert all(found[each]["multi"] and found[each]["includeAll"] for each in wanted)
    # Thousands of ids would make every query as long; the custom value of "All" is a subquery instead.
    assert all(found[each]["allValue"].startswith("SELECT ") for each in wanted)


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query_reads_views_of_its_own_domain_only(query: Query) -> None:
    read = relations(query.sql)
    assert read
    assert read <= VIEWS
    if query.dashboard != "data-quality":
        assert {each.removeprefix("grafana.").partition("_")[0] for each in read} <= {query.dashboard, "devices"}


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query_obeys_the_variables(query: Query) -> None:
    used = set(re.findall(r"\$\{(\w+)", query.sql))
    assert used <= set(variables(BOARDS[query.dashboard]))
    assert used >= ({"domain"} if query.dashboard == "data-quality" else {"zone", "device"})


@pytest.mark.parametrize("query", [query for query in QUERIES if query.kind == "timeseries"], ids=str)
def test_curve_is_drawn_over_the_range(query: Query) -> None:
    assert query.format == "time_series"
    assert re.search(r"\$__timeFilter\((time|hour)\)", query.sql)


@pytest.mark.parametrize("query", [query for query in QUERIES if "per day" in query.panel], ids=str)
def test_days_are_those_of_the_city(query: Query) -> None:
    """$__timeGroup cuts days at midnight UTC; only the daily roll-up knows the city's midnight."""
    assert relations(query.sql) == {f"grafana.{query.dashboard}_1d"}
    assert "__timeGroup" not in query.sql


def test_wider_windows_are_offered_where_curves_ask_for_them() -> None:
    for name, board in BOARDS.items():
        drawn = any("${window}" in query.sql for query in QUERIES if query.dashboard == name)
        options = [option["value"] for option in variables(board).get("window", {"options": []})["options"]]
        assert options == (["15m", "1h", "1d"] if drawn else [])


def test_dashboards_are_found_where_grafana_is_told_to_look() -> None:
    text = (FOLDER / "provisioning" / "dashboards" / "telemetry.yaml").read_text()
    assert "path: /etc/grafana/dashboards" in text


def test_relations_are_read_off_a_query() -> None:
    sql = "WITH a AS (SELECT 1 FROM grafana.waste_${window}) SELECT extract(epoch FROM b) FROM a JOIN grafana.devices"
    assert relations(sql) == {"grafana.waste_${window}", "grafana.devices"}

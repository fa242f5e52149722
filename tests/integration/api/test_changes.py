"""`GET /v1/{domain}/changes`: what was billed on and changed afterwards, told once, with nothing missed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from telemetry.settings import Settings
from telemetry.store.pool import connection as connected
from telemetry.upkeep.changes import closed_before
from telemetry.upkeep.rounds import run_once
from tests.integration.api.conftest import DEVICES
from tests.integration.query.rows import City, Row

MORNING = closed_before(datetime.now(UTC), timedelta(days=2)).replace(hour=6, minute=0)
"""Of a day that is over in every zone of these tests."""
RANGE = {"start": MORNING.isoformat(), "end": (MORNING + timedelta(hours=2)).isoformat()}


def rows(*minutes: float) -> list[Row]:
    return [Row(MORNING + timedelta(minutes=each), DEVICES[0], {"power_w": each}) for each in minutes]


async def billed(client: httpx.AsyncClient) -> tuple[str, list[dict[str, Any]]]:
    """What a bill is made of: an answer and its `as_of`."""
    asked = {"metric": "power_w", "agg": "count", "window": "15m", "tz": "UTC", **RANGE}
    answer = (await client.get("/v1/lighting/series", params=asked)).json()
    return answer["meta"]["as_of"], answer["data"]


async def changes(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.get("/v1/lighting/changes", params={"tz": "UTC", **asked})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def told(answer: dict[str, Any]) -> list[tuple[str, list[str], int | None]]:
    return [(row["bucket"], row["reasons"], row["late"]) for row in answer["data"]]


@pytest.mark.asyncio
async def test_late_readings_are_told_once_after_the_answer_that_lacked_them(
    client: httpx.AsyncClient, settings: Settings, city: City
) -> None:
    await city.add(rows(0, 16))
    await run_once(settings)
    as_of, before = await billed(client)
    assert [row["count"] for row in before] == [1, 1]
    assert told(await changes(client, since=as_of)) == []
    await city.add(rows(17, 18, 40))
    # The readings are there, but not noted yet: the answer is honest about how far it goes.
    waiting = await changes(client, since=as_of)
    assert (told(waiting), waiting["meta"]["as_of"]) == ([], as_of.replace("Z", "+00:00"))
    await run_once(settings)
    answer = await changes(client, since=as_of)
    second, third = (f"{MORNING + timedelta(minutes=each):%FT%T}+00:00" for each in (15, 30))
    assert told(answer) == [(second, ["late"], 2), (third, ["late"], None)]
    assert answer["data"][0]["changes"] == 1
    assert as_of < answer["data"][0]["first_change"] == answer["data"][0]["last_change"]
    assert answer["meta"]["closed_until"] > RANGE["end"]
    again = await changes(client, since=answer["meta"]["as_of"])
    assert told(again) == []
    await run_once(settings)
    assert told(await changes(client, since=again["meta"]["as_of"])) == []
    assert [row["count"] for row in (await billed(client))[1]] == [1, 3, 1]


@pytest.mark.asyncio
async def test_changes_of_days_and_hours_are_those_of_their_quarters(
    client: httpx.AsyncClient, settings: Settings, city: City
) -> None:
    await city.add(rows(0, 16, 70))
    await run_once(settings)
    for minute in (1, 17, 71, 2):
        await city.add(rows(minute))
        await run_once(settings)
    hours = await changes(client, window="1h")
    assert [(row["late"], row["changes"]) for row in hours["data"]] == [(3, 3), (1, 1)]
    (day,) = (await changes(client, window="1d", tz="Europe/Paris"))["data"]
    assert day["bucket"].endswith(("T00:00:00+01:00", "T00:00:00+02:00"))
    assert (day["late"], day["changes"]) == (4, 4)
    assert day["first_change"] == hours["data"][0]["first_change"] or day["first_change"] < day["last_change"]


@pytest.mark.asyncio
async def test_pages_tell_what_the_first_one_was_about(
    client: httpx.AsyncClient, settings: Settings, city: City
) -> None:
    await city.add(rows(0, 15, 30, 45))
    await run_once(settings)
    await city.add(rows(1, 16, 31))
    await run_once(settings)
    first = await changes(client, limit=2)
    await city.add(rows(46))
    await run_once(settings)
    rest = await changes(client, limit=2, cursor=first["meta"]["next"])
    assert [len(first["data"]), len(rest["data"]), rest["meta"]["next"]] == [2, 1, None]
    assert rest["meta"]["as_of"] == first["meta"]["as_of"]
    assert [row["bucket"][11:16] for row in first["data"] + rest["data"]] == ["06:00", "06:15", "06:30"]
    assert [row["bucket"][11:16] for row in (await changes(client, since=rest["meta"]["as_of"]))["data"]] == ["06:45"]


@pytest.mark.asyncio
async def test_transaction_that_outlasts_a_round_is_told_to_those_who_did_not_see_it(
    client: httpx.AsyncClient, settings: Settings, city: City
) -> None:
    await city.add(rows(0))
    await run_once(settings)
    async with connected(settings, "test") as slow:
        transaction = slow.transaction()
        await transaction.start()
        await City(slow, "lighting", DEVICES).add(rows(1))
        await city.add(rows(2))
        as_of, before = await billed(client)
        await run_once(settings)
        polled = (await changes(client, since=as_of))["meta"]["as_of"]
        await transaction.commit()
    await run_once(settings)
    assert [row["count"] for row in before] == [2]
    assert [late for _, _, late in told(await changes(client, since=as_of))] == [2]
    assert [late for _, _, late in told(await changes(client, since=polled))] == [1]


@pytest.mark.asyncio
async def test_every_answer_learns_what_changed_and_every_change_is_polled_once(
    client: httpx.AsyncClient, settings: Settings, city: City
) -> None:
    chance = random.Random(20261125)
    minutes = list(range(120))
    chance.shuffle(minutes)
    await city.add(rows(*(minutes.pop() for _ in range(40))))
    await run_once(settings)
    bills, polled, added = [await billed(client)], Counter[str](), Counter[str]()
    since = bills[0][0]
    while minutes:
        match chance.choice(("add", "add", "round", "bill", "poll")):
            case "add":
                chosen = [minutes.pop() for _ in range(min(len(minutes), chance.randint(1, 4)))]
                await city.add(rows(*chosen))
                added.update(f"{MORNING + timedelta(minutes=each // 15 * 15):%FT%T}+00:00" for each in chosen)
            case "round":
                await run_once(settings)
            case "bill":
                bills.append(await billed(client))
            case "poll":
                answer = await changes(client, since=since)
                since = answer["meta"]["as_of"]
                polled.update({bucket: late or 0 for bucket, _, late in told(answer)})
    await run_once(settings)
    polled.update({bucket: late or 0 for bucket, _, late in told(await changes(client, since=since))})
    assert polled == added
    _, final = await billed(client)
    for as_of, data in bills:
        known = {row["bucket"]: row["count"] for row in data}
        differing = {row["bucket"] for row in final if row["count"] != known.get(row["bucket"])}
        assert differing <= {bucket for bucket, _, _ in told(await changes(client, since=as_of))}


@pytest.mark.asyncio
async def test_domain_without_upkeep_says_that_nothing_is_closed(client: httpx.AsyncClient, city: City) -> None:
    await city.add(rows(0))
    meta = (await changes(client))["meta"]
    assert (meta["closed_until"], meta["recorded_from"]) == (None, None)
    assert meta["as_of"] == meta["since"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"since": "2199-01-01T00:00:00Z"}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"window": "5m"}, "window"),
        ({"tz": "Mars/Base"}, "tz"),
        ({"limit": 0}, "limit"),
        ({"cursor": "WzFd"}, "cursor"),
        ({"metric": "power_w"}, "metric"),
    ],
)
async def test_what_cannot_be_answered_is_refused(
    client: httpx.AsyncClient, asked: dict[str, Any], parameter: str
) -> None:
    answer = await client.get("/v1/lighting/changes", params=asked)
    assert (answer.status_code, answer.json().get("parameter")) == (422, parameter)
    assert answer.json()["allowed"]


@pytest.mark.asyncio
@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
async def test_series_says_as_of_in_every_form(
    client: httpx.AsyncClient, settings: Settings, city: City, form: str
) -> None:
    await city.add(rows(0))
    await run_once(settings)
    before = datetime.now(UTC)
    answer = await client.get("/v1/lighting/series", params={"metric": "power_w", "format": form, **RANGE})
    as_of = datetime.fromisoformat(answer.headers["Telemetry-As-Of"])
    assert before <= as_of <= datetime.now(UTC)
    known = {"If-None-Match": answer.headers["ETag"]}
    again = await client.get("/v1/lighting/series", params=dict(answer.request.url.params), headers=known)
    assert again.status_code == 304
    assert datetime.fromisoformat(again.headers["Telemetry-As-Of"]) > as_of

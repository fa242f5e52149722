"""A fifth domain is one file and one migration: it works from MQTT through to HTTP."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from telemetry.api.app import create_app
from telemetry.settings import Settings
from telemetry.store.migrate import check, migrate
from tests.support.gateway import gateway
from tests.support.ingesting import ingesting, received

GUIDE = (Path(__file__).parents[3] / "docs" / "domains.md").read_text()


@pytest.fixture
def air_quality(settings: Settings, tmp_path: Path) -> Settings:
    """The example of the guide, word for word, in folders of its own."""
    code, migration = re.findall(r"```(?:python|sql)\n(.*?)```", GUIDE, re.DOTALL)
    for folder, name, text in (("domains", "air_quality.py", code), ("sql", "0100_air_quality.sql", migration)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return settings.model_copy(
        update={
            "domains": settings.domains.model_copy(update={"directories": [tmp_path / "domains"]}),
            "database": settings.database.model_copy(update={"migrations": [tmp_path / "sql"]}),
        }
    )


@pytest.mark.asyncio
async def test_fifth_domain_works_from_mqtt_to_http(air_quality: Settings, connection: asyncpg.Connection) -> None:
    assert await migrate(air_quality) == ["0100_air_quality"]
    assert await check(air_quality) == []
    time = datetime.now(UTC) - timedelta(minutes=1)
    async with ingesting(air_quality), gateway(air_quality) as sender:
        await sender.send("air_quality/station", {"time": time.isoformat(), "pm10_ug_m3": 21.5, "inlet_blocked": False})
        await sender.send("air_quality/station", {"time": time.isoformat(), "no2_ug_m3": -1})
        assert await received(connection, 2) == {"received": 2, "stored": 1, "out_of_range": 1}
    app = create_app(air_quality)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        domains = (await client.get("/v1/domains")).json()
        assert "air_quality" in str(domains)
        latest = await client.get("/v1/air_quality/latest")
        assert latest.status_code == 200
        assert "21.5" in latest.text
        asked = {"metric": "pm10_ug_m3", "agg": "avg", "start": "-1h", "window": "1h"}
        series = await client.get("/v1/air_quality/series", params=asked)
        assert series.status_code == 200, series.text
        assert [row["avg"] for row in series.json()["data"]] == [21.5]
    assert await connection.fetchval("SELECT pm10_ug_m3 FROM grafana.air_quality") == 21.5

"""`/docs` in a browser, as somebody uses it who has never seen it.

A page of the same server holds it in a frame of some width, does what people do, and writes down what it sees.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from telemetry.demo.mosquitto import free_port
from tests.integration.api.filled import fill
from tests.integration.query.rows import City

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

HEIGHT = 800
FRAME = """<!doctype html><body style="margin:0">
<iframe src="/docs" style="border:0;width:%(width)spx;height:%(height)spx"></iframe><pre id="seen"></pre>
<script>
const frame = document.querySelector("iframe"), page = () => frame.contentDocument;
const all = (what) => [...page().querySelectorAll(what)], one = (what) => page().querySelector(what);
const until = async (found) => {
  for (let tries = 0; tries < 400; tries++) {
    const it = found();
    if (it) return it;
    await new Promise((next) => setTimeout(next, 25));
  }
  throw new Error(`never seen: ${found}; ${all(".answer").map((each) => each.textContent).join("")}`);
};
frame.onload = async () => {
  const top = (what) => Math.round(one(what).getBoundingClientRect().top);
  const form = () => Object.fromEntries(
    all("#series input").filter((each) => each.value).map((each) => [each.id.replace("series-", ""), each.value]));
  const input = (name) => one(`#series-${name}`), answer = "#series .answer";
  const run = async (seen) => { one("#series form button[type=submit]").click(); return until(seen); };
  let seen;
  try {
    await until(() => one("#series form"));
    seen = await (async () => { %(program)s })();
  } catch (error) { seen = { error: String(error) }; }
  document.getElementById("seen").textContent = JSON.stringify(seen);
};
</script>
"""


@pytest_asyncio.fixture
async def address(app: FastAPI, city: City) -> AsyncIterator[str]:
    """Where the service answers, with the page that holds its documentation."""
    await fill(city)

    async def frame(request: Request) -> HTMLResponse:
        return HTMLResponse(FRAME % {"height": HEIGHT, **request.query_params})

    outer = Starlette(routes=[Route("/frame", frame), Mount("/", app)])
    server = uvicorn.Server(
        uvicorn.Config(outer, port=(port := free_port()), lifespan="off", log_config=None, ws="none")
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await running


async def seen(address: str, folder: Path, width: int, program: str) -> dict[str, Any]:
    """What a program sees that runs beside the page in a window of that width."""
    assert BROWSER is not None
    process = await asyncio.create_subprocess_exec(
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--dump-dom"),
        *("--virtual-time-budget=15000", f"--window-size={width},{HEIGHT + 200}"),
        f"{address}/frame?{urlencode({'width': width, 'program': program})}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            text, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    found = re.search(r'<pre id="seen">(.+?)</pre>', text.decode(), re.DOTALL)
    assert found, text[-500:]
    told: dict[str, Any] = json.loads(html.unescape(found[1]))
    assert "error" not in told, told
    return told


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("width", [390, 1400])
async def test_example_fills_the_form_and_its_answer_is_seen(address: str, tmp_path: Path, width: int) -> None:
    told = await seen(
        address,
        tmp_path,
        width,
        """
        input("device").value = "lamp-9";
        one("#series .questions button").click();
        const filled = form();
        await until(() => one(answer + " tbody tr"));
        const names = () => all(answer + " th").map((each) => each.textContent);
        const first = { rows: all(answer + " tbody tr").length, columns: names(), top: top(answer) };
        input("by").value = "device";
        await run(() => names().includes("device_id"));
        return { filled, ...first, asked: one(answer + " pre").textContent };
        """,
    )
    assert told["filled"] == {"domain": "lighting", "metric": "power_w", "start": "-24h", "window": "1h", "by": "zone"}
    assert told["columns"] == ["bucket", "zone", "metric", "avg", "samples", "coverage"]
    assert told["rows"] > 20
    assert 0 <= told["top"] < HEIGHT / 4
    assert told["asked"].endswith("/v1/lighting/series?metric=power_w&start=-24h&window=1h&by=device'")


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_answer_in_binary_is_a_file_with_a_name(address: str, tmp_path: Path) -> None:
    told = await seen(
        address,
        tmp_path,
        1000,
        """
        const found = {};
        for (const format of ["parquet", "arrow", "csv", "ndjson", "excel"]) {
          input("format").value = format;
          await run(() => one(answer).textContent.includes("format=" + format) && one(answer + " a[download]"));
          const link = one(answer + " a[download]"), content = await (await fetch(link.href)).arrayBuffer();
          const beginning = new TextDecoder("latin1").decode(content.slice(0, 4));
          found[format] = [link.download, content.byteLength, beginning, one(answer).textContent.includes("�")];
        }
        input("metric").value = "power";
        await run(() => one(answer + " .bad"));
        return { found, isOffered: !!one(answer + " a[download]"), problem: one(answer).textContent };
        """,
    )
    names = {form: (name, beginning, is_rubbish) for form, (name, _, beginning, is_rubbish) in told["found"].items()}
    assert names["parquet"] == ("lighting-series.parquet", "PAR1", False)
    assert names["arrow"] == ("lighting-series.arrow", "\xff\xff\xff\xff", False)
    assert names["csv"] == ("lighting-series.csv", "buck", False)
    assert names["ndjson"] == ("lighting-series.ndjson", '{"bu', False)
    assert names["excel"] == ("lighting-series.csv", "ï»¿b", False)
    assert all(size > 100 for _, size, _, _ in told["found"].values())
    assert not told["isOffered"]
    assert "lighting has no such metric" in told["problem"]


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize(("width", "is_folded"), [(390, True), (1000, False)])
async def test_menu_leaves_the_first_screen_to_the_page(
    address: str, tmp_path: Path, width: int, is_folded: bool
) -> None:
    told = await seen(
        address,
        tmp_path,
        width,
        """
        const title = top("h1"), link = one("nav a[href='#ledger']"), isShown = () => link.checkVisibility();
        const before = isShown(), wide = page().documentElement.scrollWidth;
        if (!before) one("nav summary").click();
        const opened = isShown();
        link.click();
        return { title, before, opened, after: isShown(), wide, ledger: top("#ledger") };
        """,
    )
    assert told["title"] < HEIGHT / 4
    assert (told["before"], told["opened"], told["after"]) == (not is_folded, True, not is_folded)
    assert told["wide"] <= width
    assert 0 <= told["ledger"] < HEIGHT / 4


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_last_values_are_a_table_with_a_column_for_each_metric(address: str, tmp_path: Path) -> None:
    told = await seen(
        address,
        tmp_path,
        1400,
        """
        one("#latest .questions button").click();
        await until(() => one("#latest .answer tbody tr"));
        const names = all("#latest th").map((each) => each.textContent);
        return { names, lamps: all("#latest tbody tr").map((row) => row.cells[names.indexOf("power_w")].textContent) };
        """,
    )
    assert {"device_id", "status", "power_w", "lamp_on"} <= set(told["names"])
    assert "values" not in told["names"]
    assert told["lamps"][-1] == "–"
    assert all(float(each) > 0 for each in told["lamps"][:3])

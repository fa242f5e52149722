"""`/docs` in a browser, as somebody uses it who has never seen it.

A page of the same server holds it in a frame of some width, does what people do, and sends back what it sees.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from tests.integration.api.filled import fill
from tests.integration.query.rows import City
from tests.support.serving import serving

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

PATIENCE_S = 120.0
HEIGHT = 800
FRAME = """<!doctype html><body style="margin:0">
<iframe style="border:0;width:%(width)spx;height:%(height)spx"></iframe>
<script>
const frame = document.querySelector("iframe"), page = () => frame.contentDocument;
const all = (what) => [...page().querySelectorAll(what)], one = (what) => page().querySelector(what);
const until = async (found) => {
  for (const end = performance.now() + 60000; performance.now() < end;) {
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
  await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
};
frame.src = "/docs";
</script>
"""


@dataclass(frozen=True)
class Page:
    """The page that holds the documentation.

    Attributes:
        seen: what it has sent back.
    """

    address: str
    seen: asyncio.Queue[dict[str, Any]]


@pytest_asyncio.fixture
async def page(app: FastAPI, city: City) -> AsyncIterator[Page]:
    """Served beside the service."""
    await fill(city)
    seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def frame(request: Request) -> HTMLResponse:
        return HTMLResponse(FRAME % {"height": HEIGHT, **request.query_params})

    async def keep(request: Request) -> Response:
        seen.put_nowait(await request.json())
        return Response()

    outer = Starlette(routes=[Route("/frame", frame), Route("/seen", keep, methods=["POST"]), Mount("/", app)])
    async with serving(outer) as address:
        yield Page(address, seen)


@asynccontextmanager
async def browsing(address: str, folder: Path, width: int) -> AsyncIterator[Path]:
    """A browser that shows a page in a window of that width until the end of the block; gives its log."""
    assert BROWSER is not None
    log = folder / "browser.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"),
            # Without it there would be nothing to stay for.
            "--remote-debugging-port=0",
            f"--window-size={width},{HEIGHT + 200}",
            address,
            stdout=output,
            stderr=output,
        )
    try:
        yield log
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def seen(page: Page, folder: Path, width: int, program: str) -> dict[str, Any]:
    """What a program sees that runs beside the page in a window of that width."""
    address = f"{page.address}/frame?{urlencode({'width': width, 'program': program})}"
    async with browsing(address, folder, width) as log:
        try:
            told = await asyncio.wait_for(page.seen.get(), PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"the page sent nothing: {log.read_text(errors='replace')}") from None
    assert "error" not in told, told
    return told


@pytest.mark.asyncio
@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("width", [390, 1400])
async def test_example_fills_the_form_and_its_answer_is_seen(page: Page, tmp_path: Path, width: int) -> None:
    told = await seen(
        page,
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
async def test_answer_in_binary_is_a_file_with_a_name(page: Page, tmp_path: Path) -> None:
    told = await seen(
        page,
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
    page: Page, tmp_path: Path, width: int, is_folded: bool
) -> None:
    told = await seen(
        page,
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
async def test_last_values_are_a_table_with_a_column_for_each_metric(page: Page, tmp_path: Path) -> None:
    told = await seen(
        page,
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

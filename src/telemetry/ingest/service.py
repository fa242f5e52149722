"""`telemetry ingest`: one process between any broker and any database that the settings name."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final

import structlog

from telemetry.domains import load_domains
from telemetry.errors import ConfigurationError
from telemetry.ingest.assembly import Assembly, patience_s
from telemetry.ingest.exposition import Page, answer_supervisor, serve_page
from telemetry.ingest.metrics import of_process
from telemetry.ingest.schema import wait_for_schema
from telemetry.ingest.shares import Share, made_after, may_be, shares
from telemetry.ingest.spool import left_behind
from telemetry.ingest.tasks import together, unless
from telemetry.settings import Settings
from telemetry.store.sessions import Known, Sessions

log = structlog.get_logger()

_AGAIN_S: Final = 60.0
"""Before a former session with a fault is tried again."""


async def run(settings: Settings, stop: asyncio.Event, worker: int = 1, report_to: Connection | None = None) -> None:
    """Ingests until told to stop; waits for a database or a broker that is away.

    Args:
        worker: which of `ingest.workers` this process is, from 1.
        report_to: the supervisor that shows the metrics of all workers; without one they are shown here.

    Raises:
        ConfigurationError: a setting, the schema or the broker's rights are wrong. Nothing unsettled is acknowledged.
    """
    divided = shares(settings, list(load_domains(settings.domains.directories)))
    everybody = [share for one in divided for share in one]
    page = Page()
    page.add(str(worker), of_process())
    with serve_page(page, settings) if report_to is None else answer_supervisor(page, report_to):
        work = [_take(settings, share, page, stop) for share in divided[worker - 1] if not share.strays]
        if worker == len(divided):
            work.append(_take_the_rest(settings, everybody, page, stop))
        await together(work)


async def _take(settings: Settings, share: Share, page: Page, stop: asyncio.Event) -> None:
    """One session from its announcement to its end."""
    sessions = Sessions(settings)

    async def announce() -> Known:
        await wait_for_schema(settings)
        return await sessions.announce(share.client_id, share.filters)

    replaced = True
    try:
        while replaced and not stop.is_set():
            known = None
            # With a spool, the database may be away: the session is announced when it is back.
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s(settings)):
                    known = await unless(stop, announce())
            replaced = not stop.is_set() and await Assembly(settings, share, known, sessions, page).run(stop)
    finally:
        await sessions.close()


async def _take_the_rest(settings: Settings, everybody: list[Share], page: Page, stop: asyncio.Event) -> None:
    """Takes what needs the sessions of the domains to be there: the strays beside them, and sessions before them."""
    sessions = Sessions(settings)

    async def named() -> list[Share]:
        await wait_for_schema(settings)
        made = await sessions.wait_for([share.client_id for share in everybody if not share.strays])
        return [made_after(share, made) if share.strays else share for share in everybody]

    try:
        present = await unless(stop, named())
    finally:
        await sessions.close()
    if present is not None:
        strays = [_take(settings, share, page, stop) for share in present if share.strays]
        await together([*strays, _empty_former(settings, [share.client_id for share in present], page, stop)])


async def _empty_former(settings: Settings, present: list[str], page: Page, stop: asyncio.Event) -> None:
    """Takes what sessions hold that are used no more, once those that are used have subscribed, and gives them up."""
    sessions = Sessions(settings)

    async def look() -> list[Known]:
        await sessions.wait_for(present)
        await _recall(settings, sessions, present)
        return await sessions.former(present)

    async def empty(former: Known) -> None:
        log.warning(
            "ingest_session_former",
            detail="A session is used no more; what it holds is taken.",
            client_id=former.client_id,
        )
        while not stop.is_set():
            mine = Sessions(settings)
            try:
                if not await Assembly(settings, Share(former.client_id, ()), former, mine, page).run(stop):
                    return
                continue
            except ConfigurationError as error:
                # It concerns that session alone; nothing of it is given up, and the others go on.
                log.error(
                    "ingest_session_former_fails",
                    detail="A session that is used no more cannot be emptied; it is tried again.",
                    client_id=former.client_id,
                    retry_s=_AGAIN_S,
                    error=str(error),
                )
            finally:
                await mine.close()
                page.remove(former.client_id)
            await unless(stop, asyncio.sleep(_AGAIN_S))

    try:
        found = await unless(stop, look())
    finally:
        await sessions.close()
    await together([empty(former) for former in found or []])


async def _recall(settings: Settings, sessions: Sessions, present: list[str]) -> None:
    """Puts sessions on record again that have a spool and would be looked for by nobody."""
    directory = settings.spool.directory
    if directory is None:
        return
    domains = list(load_domains(settings.domains.directories))
    found = set(await asyncio.to_thread(left_behind, directory, settings.mqtt.client_id)) - set(present)
    for client_id in await sessions.unknown(found):
        ours = may_be(client_id, settings, domains)
        log.warning(
            "spool_without_session",
            detail="The session of a spool is not on record; what is in it is stored."
            if ours
            else "No session is on record for a spool. Unless another ingest keeps it there, its messages are nowhere "
            "else: run ingest once with the mqtt.client_id that it is named after.",
            file=str(directory / f"{client_id}.sqlite"),
        )
        if ours:
            await sessions.recall(client_id)


def collect_garbage_rarely() -> None:
    """Tunes Python's cyclic garbage collector for a process that only ingests.

    Messages and readings form no cycles: they are freed when the last of them is done. By default the collector walks
    through all that is in flight every few thousand messages nevertheless, a sixth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

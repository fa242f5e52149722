"""The sessions that ingest has at the broker, on record: one that is used no more still holds messages."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from telemetry.settings import Settings
from telemetry.store.link import Link

_LOOK_EVERY_S: Final = 0.2


class Known(NamedTuple):
    """What is on record of a session.

    Attributes:
        filters: what the broker may have for it beside what is wanted now.
        subscribed: whether the broker has had it already.
    """

    client_id: str
    filters: tuple[str, ...]
    subscribed: bool


class Sessions:
    """The record of the sessions that belong to one `mqtt.client_id`; waits for the database as long as it takes."""

    def __init__(self, settings: Settings) -> None:
        self._base = settings.mqtt.client_id
        self._everything = f"{settings.mqtt.topic_root}/#"
        self._link = Link(settings, "ingest sessions")

    async def announce(self, client_id: str, filters: Sequence[str]) -> Known:
        """Records a session before it subscribes; returns what was on record."""

        async def work(database: asyncpg.Connection) -> Known:
            # Both stay on record until the broker has confirmed which of them it has.
            row = await database.fetchrow(
                """
                INSERT INTO ingest_sessions AS s (client_id, base, filters) VALUES ($1, $2, $3)
                ON CONFLICT (client_id) DO UPDATE SET base = excluded.base, filters = ARRAY(
                    SELECT DISTINCT unnest(s.filters || excluded.filters)
                )
                RETURNING filters, subscribed_at IS NOT NULL AS subscribed
                """,
                client_id,
                self._base,
                list(filters),
            )
            assert row is not None
            stale = tuple(each for each in row["filters"] if each not in filters)
            return Known(client_id, stale, row["subscribed"])

        return await self._link.call(work)

    async def confirm(self, client_id: str, filters: Sequence[str]) -> None:
        """The broker has these subscriptions for the session, and no others."""
        await self._execute(
            """
            UPDATE ingest_sessions SET filters = $2, subscribed_at = coalesce(subscribed_at, now())
            WHERE client_id = $1
            """,
            client_id,
            list(filters),
        )

    async def forget(self, client_id: str) -> None:
        """The session holds nothing any more and will not be used."""
        await self._execute("DELETE FROM ingest_sessions WHERE client_id = $1", client_id)

    async def answer(self, client_id: str, *, made_anew: bool) -> None:
        """Tells whoever asks that the broker has the session now; also that it had forgotten the one before."""
        await self._execute(
            """
            UPDATE ingest_sessions SET answered = true, made_at = CASE WHEN $2 THEN now() ELSE made_at END
            WHERE client_id = $1 AND ($2 OR NOT answered)
            """,
            client_id,
            made_anew,
        )

    async def wait_for(self, client_ids: Collection[str]) -> dict[str, datetime]:
        """Asks whether the broker has these sessions, and waits until a running ingest has said so of each.

        Returns:
            When each of them was made.
        """

        async def answers(database: asyncpg.Connection) -> dict[str, datetime]:
            rows = await database.fetch(
                "SELECT client_id, made_at FROM ingest_sessions WHERE client_id = ANY ($1) AND answered",
                list(client_ids),
            )
            return {row["client_id"]: row["made_at"] for row in rows}

        # What is on record was true in former times; a broker may have forgotten the session since.
        await self._execute("UPDATE ingest_sessions SET answered = false WHERE client_id = ANY ($1)", list(client_ids))
        while len(made := await self._link.call(answers)) < len(client_ids):  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(_LOOK_EVERY_S)
        return made

    async def former(self, present: Collection[str]) -> list[Known]:
        """The sessions on record beside those that are used now."""

        async def work(database: asyncpg.Connection) -> list[Known]:
            rows = await database.fetch(
                """
                SELECT client_id, filters, subscribed_at IS NOT NULL AS subscribed FROM ingest_sessions
                WHERE base = $1 AND client_id <> ALL ($2)
                """,
                self._base,
                list(present),
            )
            # Before there was this record, there was one kind of session.
            return [
                Known(row["client_id"], tuple(row["filters"]) or (self._everything,), row["subscribed"]) for row in rows
            ]

        return await self._link.call(work)

    async def unknown(self, client_ids: Collection[str]) -> list[str]:
        """Those of which nothing is on record, of this ingest or of another one."""

        async def work(database: asyncpg.Connection) -> list[str]:
            rows = await database.fetch(
                """
                SELECT client_id FROM unnest($1::text[]) AS asked (client_id)
                WHERE NOT EXISTS (SELECT FROM ingest_sessions AS s WHERE s.client_id = asked.client_id)
                """,
                list(client_ids),
            )
            return [row["client_id"] for row in rows]

        return await self._link.call(work)

    async def recall(self, client_id: str) -> None:
        """Puts a session on record again of which something was found; it counts as a former one."""
        await self._execute(
            "INSERT INTO ingest_sessions (client_id, base, filters) VALUES ($1, $2, '{}') ON CONFLICT DO NOTHING",
            client_id,
            self._base,
        )

    async def close(self) -> None:
        """Closes the connection."""
        await self._link.close()

    async def _execute(self, statement: str, *values: object) -> None:
        async def work(database: asyncpg.Connection) -> None:
            await database.execute(statement, *values)

        await self._link.call(work)

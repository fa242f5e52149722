"""Who takes what: the sessions at the broker, and the workers that hold them.

One worker has one session for everything. Several workers with static shares have a session for each domain, named
after it and not after the worker: however many workers there are, the same sessions hold the same messages, so their
number may change without a message being left behind. Filters of MQTT cannot say "everything else"; topics that name no
domain are found by one more session, which is sent everything and leaves what has a domain to the session of that one.

A shared subscription lets the broker divide the messages; then there is a session for each worker.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from telemetry.errors import ConfigurationError
from telemetry.settings import Settings


@dataclass(frozen=True)
class Share:
    """One session at the broker.

    Attributes:
        client_id: its name, also that of the worker in the ledger; of strays, the beginning of it (`made_after`).
        filters: what it is subscribed to; nothing where it is only emptied.
        strays: whether it leaves messages of known domains.
        watches: whether it reads what the broker says that it dropped: one does, for it is told of all sessions alike.
    """

    client_id: str
    filters: tuple[str, ...]
    strays: bool = False
    watches: bool = False


def shares(settings: Settings, domains: Sequence[str]) -> list[list[Share]]:
    """The sessions of each worker.

    Raises:
        ConfigurationError: there are more workers than domains to share out.
    """
    divided = _divided(settings, domains)
    divided[0][0] = replace(divided[0][0], watches=True)
    return divided


def _divided(settings: Settings, domains: Sequence[str]) -> list[list[Share]]:
    base, root, workers = settings.mqtt.client_id, settings.mqtt.topic_root, settings.ingest.workers
    if settings.ingest.share == "broker":
        everything = (f"$share/{settings.mqtt.share_group or base}/{root}/#",)
        names = [base] if workers == 1 else [f"{base}-{number}" for number in range(1, workers + 1)]
        return [[Share(name, everything)] for name in names]
    if workers == 1:
        return [[Share(base, (f"{root}/#",))]]
    if workers > len(domains):
        raise ConfigurationError(
            f"ingest.workers is {workers}, but ingest.share: topics divides whole domains and there are {len(domains)} "
            f"({', '.join(domains)}); set at most {len(domains)} workers, or ingest.share: broker where the broker is "
            "fit for it"
        )
    of_domains = [Share(f"{base}-{domain}", (f"{root}/{domain}/#",)) for domain in domains]
    divided = [of_domains[number::workers] for number in range(workers)]
    if settings.ingest.strays == "quarantine":
        divided[-1].append(Share(f"{base}-strays", (f"{root}/#",), strays=True))
    return divided


def may_be(client_id: str, settings: Settings, domains: Sequence[str]) -> bool:
    """Whether this ingest, and no other one, would give a session that name, as things are or as they were.

    A number behind our name tells nothing: it is a worker of ours, or another ingest beside us.
    """
    base = re.escape(settings.mqtt.client_id)
    named = "|".join(re.escape(domain) for domain in domains)
    return re.fullmatch(f"{base}(-({named}|strays-[0-9a-f]{{8}}))?", client_id) is not None


def made_after(strays: Share, sessions: Mapping[str, datetime]) -> Share:
    """The session of what has no domain, under the name that goes with the sessions of the domains.

    It may leave what has a domain only because it was made after the sessions of all of them. With another domain, or
    where the broker had forgotten one of these sessions, it is therefore another session; the former one is emptied.

    Args:
        sessions: those of the domains, and when each was made.
    """
    known = zlib.crc32(" ".join(f"{name} {sessions[name].isoformat()}" for name in sorted(sessions)).encode())
    return replace(strays, client_id=f"{strays.client_id}-{known:08x}")

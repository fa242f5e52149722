"""How sessions are divided among workers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest

from telemetry.errors import ConfigurationError
from telemetry.ingest.shares import Share, made_after, may_be, shares
from telemetry.settings import load_settings

DOMAINS = ["energy", "lighting", "parking", "waste"]
MADE = datetime(2026, 11, 23, tzinfo=UTC)


def divided(domains: list[str] = DOMAINS, **more: Any) -> list[list[Share]]:
    overrides = {"mqtt.client_id": "us", **{name.replace("__", "."): value for name, value in more.items()}}
    return shares(load_settings(overrides=overrides), domains)


def test_one_worker_has_one_session_for_everything() -> None:
    assert divided() == [[Share("us", ("city/v1/#",), watches=True)]]


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_sessions_are_the_same_however_many_workers_there_are(workers: int) -> None:
    found = divided(ingest__workers=workers)
    assert len(found) == workers
    sessions = sorted(chain(*found), key=lambda share: share.client_id)
    assert [share.watches for share in sessions].count(True) == 1
    assert sessions == sorted(chain(*divided(ingest__workers=2)), key=lambda share: share.client_id)
    assert [share.filters for share in sessions if not share.strays] == [(f"city/v1/{name}/#",) for name in DOMAINS]
    assert [share.filters for share in sessions if share.strays] == [("city/v1/#",)]


def test_domains_are_spread_evenly_and_strays_go_to_the_last_worker() -> None:
    names = [[share.client_id.split("-")[1] for share in one] for one in divided(ingest__workers=3)]
    assert names == [["energy", "waste"], ["lighting"], ["parking", "strays"]]


def test_stray_session_beside_other_sessions_is_another_one() -> None:
    """What the one holds of a new domain, or of a session that was forgotten, may be nowhere else: not to be left."""
    strays = Share("us-strays", ("city/v1/#",), strays=True)
    four = dict.fromkeys(DOMAINS, MADE)
    several = (four, four | {"noise": MADE}, four | {"waste": MADE + timedelta(microseconds=1)})
    names = [made_after(strays, sessions).client_id for sessions in several]
    assert len(set(names)) == 3
    assert all(name.startswith("us-strays-") for name in names)
    assert made_after(strays, dict(reversed(four.items()))).client_id == names[0]


def test_shared_subscription_has_a_session_for_each_worker() -> None:
    everything = ("$share/us/city/v1/#",)
    assert divided(ingest__share="broker", ingest__workers=2) == [
        [Share("us-1", everything, watches=True)],
        [Share("us-2", everything)],
    ]
    (only,) = divided(ingest__share="broker", mqtt__share_group="city")
    assert only == [Share("us", ("$share/city/city/v1/#",), watches=True)]


def test_more_workers_than_domains_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"ingest\.workers is 5, .*energy, lighting, parking, waste\); set at"):
        divided(ingest__workers=5)
    assert len(divided(ingest__share="broker", ingest__workers=5)) == 5


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("us", True),
        ("us-waste", True),
        ("us-strays-0123abcd", True),
        ("us-strays", False),  # only the beginning of a name
        ("us-2", False),  # perhaps the session of another ingest
        ("us-east", False),
        ("usa", False),
        ("other", False),
    ],
)
def test_session_is_known_by_its_name_only_where_no_other_ingest_can_have_it(name: str, ours: bool) -> None:
    assert may_be(name, load_settings(overrides={"mqtt.client_id": "us"}), DOMAINS) is ours

"""The proof at the end of a demo: published, received, stored and asked for, domain by domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from telemetry.demo import http
from telemetry.demo.accounts import Accounts

SERIES: Mapping[str, Mapping[str, str]] = {
    "lighting": {"metric": "power_w", "agg": "avg"},
    "energy": {"metric": "active_power_w", "agg": "avg"},
    "parking": {"metric": "occupied_spots", "agg": "avg"},
    "waste": {"metric": "fill_level_pct", "agg": "avg"},
}
"""A question for each domain that every city can answer."""


@dataclass(frozen=True, slots=True)
class DomainAccount:
    """One domain's run, in readings.

    Attributes:
        published: acknowledged to the simulator by the broker.
        received: seen by ingest; more than published when others published to the demo as well.
        rows: new rows of the table.
        series: rows that the HTTP service answers for two days of hourly values.
    """

    published: int
    received: int
    stored: int
    merged: int
    duplicate: int
    quarantined: int
    imbalance: int
    rows: int
    series: int

    @property
    def is_balanced(self) -> bool:
        """Nothing is lost, nothing is doubled, and the table holds what the ledger says."""
        return self.imbalance == 0 and self.received >= self.published and self.rows == self.stored - self.merged


@dataclass(frozen=True, slots=True)
class Summary:
    """The accounts of all domains of the city."""

    domains: Mapping[str, DomainAccount]
    elapsed_s: float

    @property
    def is_balanced(self) -> bool:
        """Every domain is."""
        return all(account.is_balanced for account in self.domains.values())

    @property
    def is_complete(self) -> bool:
        """Every domain has stored readings and answers with a series."""
        return all(account.stored and account.series for account in self.domains.values())

    def facts(self) -> dict[str, Any]:
        """For `--json-status`."""
        names = ("published", "received", "stored", "duplicate", "quarantined", "imbalance")
        return {
            **{name: sum(getattr(account, name) for account in self.domains.values()) for name in names},
            "balanced": self.is_balanced,
            "elapsed_s": round(self.elapsed_s, 1),
            "per_domain": {domain: asdict(account) for domain, account in self.domains.items()},
            "series": {domain: account.series for domain, account in self.domains.items()},
        }

    def verdict(self) -> str:
        """The accounts in one sentence."""
        if not self.is_balanced:
            wrong = ", ".join(domain for domain, account in self.domains.items() if not account.is_balanced)
            return f"NOT balanced in {wrong}: see the table; the logs say more."
        if not self.is_complete:
            empty = ", ".join(d for d, account in self.domains.items() if not account.stored or not account.series)
            return f"Balanced, but without readings or series in {empty}."
        return "Balanced to the reading: received = stored + duplicate + quarantined, and nothing published is missing."

    def table(self) -> Table:
        """The accounts for people."""
        columns = ("published", "received", "stored", "duplicate", "quarantined")
        table = Table("This run", box=None, padding=(0, 2), header_style="dim")
        for column in columns:
            table.add_column(column, justify="right")
        for domain, account in self.domains.items():
            table.add_row(domain, *(f"{getattr(account, column):,}" for column in columns))
        return table


async def series_rows(api_url: str, domains: Iterable[str]) -> dict[str, int]:
    """How many rows the HTTP service answers for the last two days of each domain, by the hour; 0 for no answer."""
    found = {}
    for domain in domains:
        question = {**SERIES[domain], "start": "-48h", "end": "now", "window": "1h"}
        answer = await http.get_json(f"{api_url}/v1/{domain}/series", question)
        found[domain] = 0 if answer is None else len(answer["data"])
    return found


def summarise(
    published: Mapping[str, int], before: Accounts, after: Accounts, series: Mapping[str, int], elapsed_s: float
) -> Summary:
    """The differences of the accounts over the run, beside what was published and what can be asked for."""
    domains = {}
    for domain in sorted(series):
        (ledger_before, rows_before), (ledger_after, rows_after) = before.of(domain), after.of(domain)
        run = ledger_after - ledger_before
        domains[domain] = DomainAccount(
            published=published.get(domain, 0),
            received=run.received,
            stored=run.stored,
            merged=run.merged,
            duplicate=run.duplicate,
            quarantined=run.quarantined,
            imbalance=run.imbalance,
            rows=rows_after - rows_before,
            series=series[domain],
        )
    return Summary(domains, elapsed_s)

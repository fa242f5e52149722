"""How many refused readings may leave their raw bytes in quarantine: a cap for each device and hour of receipt.

A device that has gone mad, or somebody who means harm, sends broken messages as fast as the network carries them. Each
is counted in the ledger with its reason; but the bytes of the hundred-thousandth tell nothing that those of the first
thousand did not, and would fill the disk. So beyond the cap they are counted and not kept.

What a batch takes is worked out before its transaction and charged after it has committed: a batch that is repeated is
charged once. The account is in memory and begins anew with the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import structlog

from telemetry.store.batch import Quarantined
from telemetry.store.layout import HOUR_US

log = structlog.get_logger()

Account: TypeAlias = tuple[str, str | None]
"""(domain, device id); None for messages without a device, which share one account for each domain."""

_ACCOUNTS_AT_MOST: Final = 100_000
"""Device ids that somebody makes up without end must not fill the memory: further ones share the account of None."""


class Choice:
    """What of a batch is kept.

    Attributes:
        kept: the readings whose bytes go to quarantine, in the order of receipt.
        spent: kept readings by account.
        left_out: the others by account.
    """

    __slots__ = ("hour", "kept", "left_out", "spent")

    def __init__(self, hour: int) -> None:
        self.hour = hour
        self.kept: list[Quarantined] = []
        self.spent: Counter[Account] = Counter()
        self.left_out: Counter[Account] = Counter()


class Allowance:
    """The accounts of the present hour.

    Args:
        per_hour: refused readings of one device that are kept in an hour.
        on_left_out: told a domain and how many of its refused readings were not kept.
    """

    def __init__(self, per_hour: int, on_left_out: Callable[[str, int], None] | None = None) -> None:
        self._per_hour = per_hour
        self._on_left_out = on_left_out
        self._hour = 0
        self._spent: Counter[Account] = Counter()
        self._warned: set[Account] = set()

    def choose(self, refused: Sequence[Quarantined], received_us: int) -> Choice:
        """What to keep of the refused readings of a batch; charges nothing."""
        choice = Choice(received_us // HOUR_US)
        before = self._spent if choice.hour == self._hour else Counter[Account]()
        for each in refused:
            account = self._account(before, choice.spent, each)
            if before[account] + choice.spent[account] < self._per_hour:
                choice.spent[account] += 1
                choice.kept.append(each)
            else:
                choice.left_out[account] += 1
        return choice

    def charge(self, choice: Choice) -> None:
        """The batch of a choice has committed."""
        if choice.hour != self._hour:
            self._hour = choice.hour
            self._spent.clear()
            self._warned.clear()
        self._spent.update(choice.spent)
        for account, count in choice.left_out.items():
            self._note(account, count)

    def _account(self, before: Counter[Account], spent: Counter[Account], each: Quarantined) -> Account:
        account = each.domain, each.device_id
        known = account in before or account in spent
        return account if known or len(before) + len(spent) < _ACCOUNTS_AT_MOST else (each.domain, None)

    def _note(self, account: Account, count: int) -> None:
        domain, device_id = account
        if self._on_left_out is not None:
            self._on_left_out(domain, count)
        if account not in self._warned:
            self._warned.add(account)
            log.warning(
                "quarantine_full",
                detail="More refused readings than ingest.quarantine_per_device allows in an hour: further ones are "
                "counted in the ledger, and their bytes are not kept.",
                domain=domain,
                device_id=device_id,
                allowed=self._per_hour,
            )

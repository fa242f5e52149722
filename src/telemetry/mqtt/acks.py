"""The ack frontier: which acknowledgements may go out now. The theory is told in `session.py`."""

from __future__ import annotations

import sys
from array import array
from heapq import heappop, heappush
from typing import Final

PUBACK: Final = 0x4002_0000
PUBREC: Final = 0x5002_0000
PUBCOMP: Final = 0x7002_0000
"""Packet type, remaining length 2 and, in the lower half, the packet id: an acknowledgement is one 32-bit word."""

NOTHING: Final = 0
"""In place of the word of a QoS 0 message, which has a number, too."""

KIND: Final = 0xFFFF_0000
PACKET_ID: Final = 0x0000_FFFF


def encode(words: array[int]) -> bytes:
    """The packets of these words, as they go over the wire."""
    packets = array("I", filter(None, words))
    if sys.byteorder == "little":
        packets.byteswap()
    return packets.tobytes()


class AckFrontier:
    """Numbers of delivered messages, and the acknowledgements that wait for them to be settled.

    Attributes:
        push: numbers the next message; its argument is the word that acknowledges it.
    """

    def __init__(self) -> None:
        self._frontier = 0
        self._words = array("I")
        self._settled: list[tuple[int, int]] = []
        self._repeats: dict[int, int] = {}
        self.push = self._words.append

    @property
    def next(self) -> int:
        """Number of the message that is delivered next."""
        return self._frontier + len(self._words)

    @property
    def unsettled(self) -> int:
        """Messages of this epoch at or behind the frontier."""
        return len(self._words)

    def begin_epoch(self) -> None:
        """Forgets what was not acknowledged; the broker will send it again."""
        self._frontier = self.next
        del self._words[:]
        self._settled.clear()
        self._repeats.clear()

    def repeat(self, word: int) -> None:
        """Answers once more, when everything received up to now is settled; the order of receipt holds for it, too.

        Until then one answer stands for any number of repetitions, so that a broker cannot fill our memory with them.
        """
        self._repeats.setdefault(word, self.next)

    def settle(self, first: int, end: int) -> array[int]:
        """Notes that the messages [first, end) are settled; returns the words that are due now, in order.

        Raises:
            ValueError: one of them was never delivered.
        """
        if end > self.next:
            raise ValueError(f"message {end - 1} cannot be settled: only those below {self.next} were delivered")
        if first < end and end > self._frontier:
            heappush(self._settled, (first, end))
        reached = self._frontier
        while self._settled and self._settled[0][0] <= reached:
            reached = max(reached, heappop(self._settled)[1])
        return self._advance(reached)

    def due(self) -> array[int]:
        """The repeats that wait for nothing."""
        return self._advance(self._frontier)

    def _advance(self, reached: int) -> array[int]:
        words = self._words[: reached - self._frontier]
        if self._repeats:
            words = self._with_repeats(words, reached)
        del self._words[: reached - self._frontier]
        self._frontier = reached
        return words

    def _with_repeats(self, words: array[int], reached: int) -> array[int]:
        """The words with each repeat before the message that was received after it."""
        due = [(word, before) for word, before in self._repeats.items() if before <= reached]
        mixed, taken = array("I"), 0
        for word, before in due:
            mixed.extend(words[taken : before - self._frontier])
            mixed.append(word)
            taken = before - self._frontier
            del self._repeats[word]
        mixed.extend(words[taken:])
        return mixed

"""What happens around ingest, step by step, as Hypothesis draws it; every step is possible at any time, if in vain."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias, TypeVar

from hypothesis import strategies as st
from mqtt5 import QoS

from tests.integration.ingest.commit_proxy import Cut
from tests.integration.ingest.readings_model import FLAWS, POISON, WHOLE_FLAWS, Content, Flawed, Measured

ALL: Final = 1_000_000

Drawn = TypeVar("Drawn")


class Publish(NamedTuple):
    """A gateway publishes."""

    contents: list[Content]
    qos: QoS


class Deliver(NamedTuple):
    """So many bytes of the broker arrive, as one read; a connection is made where there is none."""

    size: int


class Write(NamedTuple):
    """The next batch is written; something may happen to the connection on the way."""

    cut: Cut | None


class WriteAndDie(NamedTuple):
    """The same, and the process dies when the connection is cut: of COMMIT it will never learn the outcome."""

    cut: Cut


class Settle(NamedTuple):
    """The session hears of a batch that is committed, not always of the oldest first."""

    which: int


class Acknowledge(NamedTuple):
    """So many bytes of ours arrive at the broker."""

    size: int


class Lose(NamedTuple):
    """The MQTT connection breaks."""


class Silence(NamedTuple):
    """The broker says nothing for so many seconds."""

    seconds: float


class Noise(NamedTuple):
    """The broker sends what is no MQTT."""


class Restart(NamedTuple):
    """The broker restarts; its messages may come with other packet ids."""

    other_ids: bool


class Die(NamedTuple):
    """Ingest dies, and is started again."""


class Terminate(NamedTuple):
    """The server ends the sessions of ingest."""


Step: TypeAlias = (
    Publish | Deliver | Write | WriteAndDie | Settle | Acknowledge | Lose | Silence | Noise | Restart | Die | Terminate
)


class World(NamedTuple):
    """What stays the same during a script; see `Broker` and the settings for what it means."""

    batch_rows: int
    receive_maximum: int
    overrun: int
    open_ids: int


class Script(NamedTuple):
    """A world, and what happens in it."""

    world: World
    steps: list[Step]


def weighted(*choices: tuple[int, st.SearchStrategy[Drawn]]) -> st.SearchStrategy[Drawn]:
    """One of these, each as often as its number says; `one_of` would take a repeated one once."""
    return st.sampled_from([choice for times, choice in choices for _ in range(times)]).flatmap(lambda drawn: drawn)


fields = st.fixed_dictionaries(
    {},
    optional={
        "power_w": weighted((3, st.just(1.0)), (1, st.just(2.0))),
        "lamp_on": weighted((3, st.just(True)), (1, st.just(False))),
        "note": weighted((4, st.just("a")), (1, st.sampled_from(["b", POISON, "\0"]))),
        "tag": st.just("x"),
    },
).map(lambda found: tuple(found.items()) or (("power_w", 1.0),))
measured = st.builds(Measured, st.integers(0, 8), fields)
elements = weighted((12, measured), (1, st.sampled_from(FLAWS).map(Flawed)))
devices = st.integers(0, 2)
one = st.builds(lambda device, element: Content(device, (element,)), devices, elements)
several = st.builds(
    lambda device, found: Content(device, tuple(found), array=True),
    devices,
    st.lists(elements, min_size=1, max_size=4),
)
strange = st.one_of(
    st.builds(lambda device, whole: Content(device, (), whole=whole), devices, st.sampled_from(WHOLE_FLAWS)),
    st.just(Content(None, (Measured(0, (("power_w", 1.0),)),))),
)
contents = weighted((16, one), (3, several), (1, strange))
publish = st.builds(
    Publish,
    st.lists(contents, min_size=1, max_size=16),
    weighted((6, st.just(QoS.AT_LEAST_ONCE)), (2, st.just(QoS.EXACTLY_ONCE)), (1, st.just(QoS.AT_MOST_ONCE))),
)
cuts = st.one_of(st.sampled_from(["before commit", "after commit"]), st.integers(1, 12))
faults = st.one_of(
    st.builds(Lose),
    st.builds(Restart, st.booleans()),
    st.builds(Die),
    st.builds(WriteAndDie, cuts),
    st.builds(Terminate),
    st.builds(Silence, st.sampled_from([5.0, 14.0, 30.0])),
    st.builds(Noise),
)
steps: st.SearchStrategy[Step] = weighted(
    (3, st.builds(Settle, st.integers(0, 3))),
    (3, publish),
    (5, st.builds(Deliver, weighted((2, st.just(ALL)), (1, st.integers(1, 600))))),
    (5, st.builds(Write, weighted((3, st.none()), (1, cuts)))),
    (4, st.builds(Acknowledge, weighted((1, st.just(ALL)), (1, st.integers(1, 20))))),
    (2, faults),
)
worlds = st.builds(
    World,
    batch_rows=st.integers(1, 8),
    receive_maximum=st.integers(2, 12),
    overrun=weighted((2, st.just(0)), (1, st.integers(1, 6))),
    open_ids=weighted((3, st.just(0)), (1, st.just(3))),
)
scripts = st.builds(Script, worlds, st.lists(steps, min_size=10, max_size=80))

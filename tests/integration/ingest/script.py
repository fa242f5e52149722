"""What happens around ingest, step by step, as Hypothesis draws it; every step is possible at any time, if in vain."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from hypothesis import strategies as st
from mqtt5 import QoS

from tests.integration.ingest.commit_proxy import Cut
from tests.integration.ingest.readings_model import FLAWS, WHOLE_FLAWS, Content, Flawed, Measured

ALL: Final = 1_000_000


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


fields = st.fixed_dictionaries(
    {},
    optional={
        "power_w": st.sampled_from([1.0, 2.0]),
        "lamp_on": st.booleans(),
        "note": st.sampled_from(["a", "b", "\0"]),
        "tag": st.just("x"),
    },
).map(lambda found: tuple(found.items()) or (("power_w", 1.0),))
measured = st.builds(Measured, st.integers(0, 4), fields)
elements = st.one_of(*[measured] * 8, st.sampled_from(FLAWS).map(Flawed))
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
contents = st.one_of(*[one] * 8, several, several, strange)
publish = st.builds(
    Publish,
    st.lists(contents, min_size=1, max_size=16),
    st.sampled_from([QoS.AT_LEAST_ONCE] * 6 + [QoS.EXACTLY_ONCE] * 2 + [QoS.AT_MOST_ONCE]),
)
sizes = st.one_of(st.just(ALL), st.just(ALL), st.integers(1, 600))
cuts = st.one_of(st.sampled_from(["before commit", "after commit"]), st.integers(1, 12))
write = st.builds(Write, st.one_of(st.none(), st.none(), st.none(), cuts))
fault = st.one_of(
    st.builds(Lose),
    st.builds(Lose),
    st.builds(Restart, st.booleans()),
    st.builds(Die),
    st.builds(WriteAndDie, cuts),
    st.builds(Terminate),
    st.builds(Silence, st.sampled_from([5.0, 14.0, 30.0])),
    st.builds(Noise),
)
settle = st.builds(Settle, st.integers(0, 3))
acknowledge = st.builds(Acknowledge, st.one_of(st.just(ALL), st.integers(1, 20)))
steps = st.one_of(
    settle,
    publish,
    publish,
    st.builds(Deliver, sizes),
    st.builds(Deliver, sizes),
    st.builds(Deliver, sizes),
    write,
    write,
    write,
    settle,
    acknowledge,
    acknowledge,
    fault,
)
worlds = st.builds(
    World,
    batch_rows=st.integers(1, 8),
    receive_maximum=st.integers(2, 12),
    overrun=st.sampled_from([0, 0, 1, 6]),
    open_ids=st.sampled_from([0, 0, 0, 3]),
)
scripts = st.builds(Script, worlds, st.lists(steps, min_size=10, max_size=60))

"""One TCP or TLS connection: carries bytes between the transport and the session, and keeps its timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from telemetry.mqtt.oversize import Message
from telemetry.mqtt.session import Session, State

Deliver = Callable[[int, list[Message]], None]
"""Called with the number of the first message and the messages of one read."""

CLOSE_WITHIN_S: Final = 1.0
"""How long the broker may take to close the connection after our DISCONNECT."""

REST_S: Final = 0.005
SMALL_READ: Final = 64 * 1024
"""After a read below this size nothing is read for so long. A broker writes message by message, and a process that has
nothing else to do would wake up for every few of them: most of the CPU would go into waking up. See docs/adr/0003."""


class Connection(asyncio.Protocol):
    """Begins the session's next epoch when it is made and ends it when it is lost.

    Reading stops while the consumer is paused, while the broker has sent more than it may, and while it does not take
    our acknowledgements. It goes on until we are subscribed, and after the end, when what comes is thrown away: closing
    a socket with unread bytes in it would reset the connection and could take our last packets with it.

    Attributes:
        lost: done when the connection is gone.
        crash: what the consumer raised; the connection is closed then.
    """

    def __init__(self, session: Session, deliver: Deliver, paused: bool) -> None:
        self._session = session
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._epoch = 0
        self._paused = paused
        self._congested = False
        self._resting = False
        self._overrun = False
        self._closing = False
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.crash: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends CONNECT."""
        # uvloop's transports are no subclasses of asyncio's, they only behave like them.
        self._transport = cast(asyncio.Transport, transport)
        self._epoch = self._session.connect(self._loop.time())
        self.flush()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Takes one read."""
        first, messages = self._session.receive(data, self._loop.time())
        if messages:
            try:
                self._deliver(first, messages)
            except Exception as error:
                # In the event loop it would be logged and forgotten, and the same messages would come again.
                self.crash = error
                self._session.disconnect()
        self.flush()
        if len(data) < SMALL_READ and self._session.state is State.READY and not self._resting:
            self._resting = True
            self._loop.call_later(REST_S, self._wake_up)
        self._read_or_not()
        if self._session.deadline() < self._wakes_at:
            # An answer has come: what falls due next is a ping, perhaps at an interval that the broker has set.
            self._wait()

    def settled(self) -> None:
        """Something was settled: sends its acknowledgements, and reads on where this has made room."""
        self.flush()
        if self._overrun:
            self._read_or_not()

    def flush(self) -> None:
        """Sends what the session has to say."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if data := self._session.output(self._loop.time()):
            transport.write(data)
        if self._session.state is State.ENDED and not self._closing:
            self._finish(transport)

    def pause(self, paused: bool) -> None:
        """Stops reading for the consumer, or goes on."""
        self._paused = paused
        self._read_or_not()

    def close(self) -> None:
        """Takes leave of the broker; `lost` tells when it is done."""
        self._session.disconnect()
        self.flush()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The broker does not take what we send."""
        self._congested = True
        self._read_or_not()

    def resume_writing(self) -> None:
        """It does again."""
        self._congested = False
        self._read_or_not()

    def connection_lost(self, error: Exception | None) -> None:
        """The end; `error` is None when one side closed in order."""
        if self._timer is not None:
            self._timer.cancel()
        self._session.lost(self._epoch)
        if not self.lost.done():
            self.lost.set_result(None)

    def _read_or_not(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        ready = self._session.state is State.READY
        self._overrun = ready and self._session.is_overrun
        deaf = self._overrun or (ready and self._paused)
        stopped = deaf or (ready and (self._congested or self._resting))
        # A broker that takes nothing from us for so long is judged; one that we do not listen to is not.
        self._session.listen(not deaf, self._loop.time())
        if stopped and transport.is_reading():
            transport.pause_reading()
        elif not stopped and not transport.is_reading():
            transport.resume_reading()

    def _wake_up(self) -> None:
        self._resting = False
        self._read_or_not()

    def _finish(self, transport: asyncio.Transport) -> None:
        self._closing = True
        self._read_or_not()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_WITHIN_S, transport.abort)

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = self._session.deadline()
        self._timer = self._loop.call_at(self._wakes_at, self._tick)

    def _tick(self) -> None:
        self._session.tick(self._loop.time())
        self.flush()
        if self._session.state is not State.ENDED:
            self._wait()

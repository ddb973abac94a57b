"""
One connection, from the first packet to the last, and the session that is spoken over it.

With wire.py and dialling.py the only place that knows `websockets` as a client.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidProxy, WebSocketException
from websockets.protocol import State

from ..dialects import Refusal
from ..errors import LinkError, OkstreamError
from ..feed import Delivery, Feed
from ..feed.source import Source
from ..inflate import EXPANSION
from ..journal import Journal
from ..rest import date_ms
from ..session import Session
from ..session.terms import Terms
from .dialling import OPEN_TIMEOUT, WIRE_LOG, Dial, ending, gap_lines, header
from .wire import Connection

log = logging.getLogger("okstream.link")

_SEND_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 2.0
_EARLY = 1e-6
"""Timers fire early by the resolution of the clock; what is due then is due, or it would be asked for ever anew."""

_TOLD_EVERY = 1.0
"""Seconds between lines about gaps: those of a moment share one."""

_LINES_LATE = 10_000

_TOGETHER = 64
"""Frames whose deliveries are handed over at once: what they bring is made into lines while it is in the caches."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a connection goes, and how.

    Args:
        url: the whole URL.
        deflate: whether to offer permessage-deflate.
        proxy, tls: see Stream.
        local: the address of this machine to connect from, None for any.
    """

    url: str
    deflate: bool = False
    proxy: str | None = None
    tls: ssl.SSLContext | None = None
    local: str | None = None


@dataclass(frozen=True, slots=True)
class Outlet:
    """
    Where what arrives goes.

    Args:
        deliver: takes what arrives; called between frames, must not block.
        settled: told of each subscription that was acknowledged (None) or refused.
        wall_ns: the wall clock, ns since the epoch.
        journal: writes down what the core is told; None where nobody wants that.
        group: what the journal calls the links that carry the same.
        unseen: feeds that nobody asked for, which watch over others.
    """

    deliver: Callable[[list[Delivery]], None]
    settled: Callable[[Feed, Refusal | None], None]
    wall_ns: Callable[[], int]
    journal: Journal | None = None
    group: int = 0
    unseen: Set[Feed | None] = frozenset()


Probe = Callable[[Source], Awaitable[bool]]
"""Asks REST whether it shows something newer than a source brought; never raises for what the network does."""


def portions(frames: list[bytes], binary: bool, cap: int) -> Iterator[list[bytes]]:
    """
    Split `frames` into those that are taken together.

    What these bring is held until all of them are read, out of the reach of any bound: so there is no more text to
    several of them than to one, `cap` bytes.
    """
    longest = cap // EXPANSION if binary else cap
    if len(frames) == 1 or (len(frames) <= _TOGETHER and sum(map(len, frames)) <= longest):
        yield frames  # as nearly always
        return
    begin = length = 0
    for at, frame in enumerate(frames):
        length += len(frame)
        if at > begin and (length > longest or at - begin == _TOGETHER):
            yield frames[begin:at]
            begin, length = at, len(frame)
    if begin < len(frames):
        yield frames[begin:]


class Conversation:
    """
    One connection to one place.

    `changed` is set when it is let in, wants to be replaced, ends, or, while it `succeeds` another one, when all flows.

    Args:
        name: of its link, for the log.
        feeds: what to subscribe to, by key; shared with the link.
        counters: see Session; they outlive it.
        probe: asks REST whether it shows something newer than a source brought.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        terms: Terms,
        feeds: dict[str, Feed],
        outlet: Outlet,
        counters: Counter[str],
        probe: Probe | None = None,
    ) -> None:
        self.cap = terms.cap
        self.wake = asyncio.Event()
        self.wall_ns = outlet.wall_ns
        self.changed = asyncio.Event()
        self.frames = 0
        self.opened = 0.0
        self.retiring = False
        self.succeeds = False
        self.session: Session | None = None
        self._name = name
        self._address = address
        self._terms = terms
        self._feeds = feeds
        self._outlet = outlet
        self._journal = outlet.journal
        self._number = 0
        self._counters = counters
        self._probe = probe
        self._gaps: list[Delivery] = []
        self._told = 0.0
        self._probes: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._bug: Exception | None = None

    async def open(self, clock_offset_ms: int) -> None:
        """Connect; raises what dialling raises."""
        self._connection = await self._dial()
        self.opened = self._loop.time()
        wall_ms = self.wall_ns() // 1_000_000
        date = date_ms(header(self._connection.response, "Date"))
        hint = None if date is None else date - wall_ms
        asks = self._probe is not None
        self.session = Session(self._terms, self._feeds, self.opened, wall_ms, clock_offset_ms, hint, asks)
        self.session.counters = self._counters
        if self._journal is not None:
            self._number = self._journal.opened(
                self._name, self._address.url, self._outlet.group, self.opened, wall_ms, clock_offset_ms, hint, asks,
                self._terms,
            )  # fmt: skip

    def want(self, key: str) -> None:
        """Subscribe to the feed under `key`."""
        if self.session is not None:
            if self._journal is not None:
                self._journal.wanted(self._number, key)
            self.session.want(key)
        self.wake.set()

    def unwant(self, key: str) -> None:
        """Unsubscribe from the feed under `key`; called while it is still there."""
        if self.session is not None:
            if self._journal is not None:
                self._journal.unwanted(self._number, key)
            self.session.unwant(key)
        self.wake.set()

    def call(self, now: float) -> None:
        """Ask for a sign of life."""
        if self.session is not None:
            if self._journal is not None:
                self._journal.called(self._number, now)
            self.session.call(now)
            self.wake.set()

    def doubt(self) -> None:
        """What was not brought here, another connection that brings it at once shows to be lost."""
        if self.session is not None:
            if self._journal is not None:
                self._journal.doubted(self._number)
            self.session.doubt()

    async def talk(self) -> None:
        """
        Converse until the connection ends, and close it.

        Raises:
            LinkError: it ended. LoginRefusedError: the exchange does not let us in.
        """
        session, connection = self.session, self._connection
        assert session is not None
        assert connection is not None
        lost, why = True, None
        try:
            await self._converse(session, connection)
        except asyncio.CancelledError:
            lost = self.retiring  # else we end it ourselves, and nothing was promised beyond
            raise
        except OkstreamError as error:
            why = str(error).encode(errors="replace").decode()
            raise
        finally:
            self.session = None
            for probe in self._probes:
                probe.cancel()
            wall = self.wall_ns()
            if self._journal is not None:
                self._journal.closed(self._number, wall, lost, why)
            if lost:
                self._hand_over(session.closed(wall))
            self._tell()
            self.changed.set()
            await self._close(connection)

    def hear(self, frames: list[bytes], binary: bool, recv: int) -> None:
        """Take the data frames of one read of the socket, from within it."""
        self.frames += len(frames)
        now = self._loop.time()
        for together in portions(frames, binary, self.cap):
            session = self.session
            if session is None or self._bug is not None:
                return
            self._take(session, together, binary, now, recv)

    def _take(self, session: Session, frames: list[bytes], binary: bool, now: float, recv: int) -> None:
        brought: list[Delivery] = []
        if self._journal is not None:
            for data in frames:
                self._journal.frame(self._number, data, binary, now, recv)
        try:
            try:
                session.receive_all(frames, binary, now, recv, brought)
            finally:
                if brought:
                    self._hand_over(brought)
        except Exception as bug:  # the boundary between the socket's callback and us: nothing may pass it
            self._bug = bug
            self.wake.set()
            return
        if session.stirred:
            self.wake.set()

    def _hand_over(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.statements and delivery.feed not in self._outlet.unseen:
                self._gaps.append(delivery)
        if len(self._gaps) > _LINES_LATE:
            self._tell()
        self._outlet.deliver(deliveries)

    def _tell(self) -> None:
        """Say for people what may be missing, and where it goes on, in as few lines as there are reasons."""
        told, self._gaps = self._gaps, []
        self._told = self._loop.time()
        for level, state in ((logging.WARNING, "open"), (logging.INFO, "closed")):
            for line in gap_lines(told, state):
                log.log(level, "%s: %s", self._name, line)

    async def _dial(self) -> Connection:
        try:
            return await self._dialled()
        except InvalidProxy:  # its text shows the proxy's password
            raise LinkError("the proxy cannot be used; is its URL right?") from None

    async def _dialled(self) -> Connection:
        address = self._address
        options: dict[str, Any] = {"ssl": address.tls} if address.tls and address.url.startswith("wss:") else {}
        if address.local is not None:
            options["local_addr"] = (address.local, 0)
        connection = await Dial(
            address.url,
            create_connection=cast(type[ClientConnection], partial(Connection, listener=self)),
            compression="deflate" if address.deflate else None,
            proxy=address.proxy,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=_CLOSE_TIMEOUT,
            ping_interval=None,
            max_size=self.cap,
            logger=WIRE_LOG,
            **options,
        )
        assert isinstance(connection, Connection)
        return connection

    async def _converse(self, session: Session, connection: Connection) -> None:
        told: tuple[bool, str | None, bool] = (False, None, False)
        while True:
            self.wake.clear()
            session.stirred = False
            if self._bug is not None:
                raise self._bug
            at, wall = self._loop.time() + _EARLY, self.wall_ns()
            if self._journal is not None:
                self._journal.ticked(self._number, at, wall)
            if deliveries := session.tick(at, wall):
                self._hand_over(deliveries)
            self._look_after(session)
            settled, session.settled = session.settled, []
            for feed, answer in settled:
                self._outlet.settled(feed, answer)
            if session.ending is not None:
                raise session.ending
            now = (session.ready, session.leaving, self.succeeds and session.flowing)
            if now != told:
                told = now
                self.changed.set()
            if connection.state is not State.OPEN:
                raise LinkError(session.scrub(ending(connection)))
            await self._send(session, connection)
            try:
                # Of the same time as what was due, or what is due in between would be waited for without end.
                async with asyncio.timeout_at(session.deadline(self._loop.time() + _EARLY)):
                    await self.wake.wait()
            except TimeoutError:
                pass

    def _look_after(self, session: Session) -> None:
        """Pass on what the session has for people, and ask REST what it wants to know."""
        if self._gaps and self._loop.time() >= self._told + _TOLD_EVERY:
            self._tell()
        for remark in session.remarks:
            log.warning("%s: %s", self._name, remark)
        session.remarks.clear()
        for alarm in session.oversight.alarms:
            log.error("%s: %s", self._name, alarm)
        session.oversight.alarms.clear()
        probes, session.oversight.probes = session.oversight.probes, []
        for source in probes:
            task = self._loop.create_task(self._ask(session, source), name=f"okstream {self._name} probe")
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    async def _ask(self, session: Session, source: Source) -> None:
        assert self._probe is not None
        newer, wall = await self._probe(source), self.wall_ns()
        if self._journal is not None:
            self._journal.answered(self._number, source.key, newer, wall)
        session.oversight.answered(source, newer, wall)

    async def _send(self, session: Session, connection: Connection) -> None:
        now = self._loop.time() + _EARLY
        requests = session.to_send(now)
        if self._journal is not None:
            self._journal.asked(self._number, now, requests)
        try:
            async with asyncio.timeout(_SEND_TIMEOUT):
                for request in requests:
                    await connection.send(request, text=True)
        except ConnectionClosed:
            pass  # seen, and said, in the next round
        except TimeoutError:
            raise LinkError(f"nothing could be sent for {_SEND_TIMEOUT:.0f} s") from None

    async def _close(self, connection: Connection) -> None:
        # The closing handshake is a courtesy; a link that is stuck or half open must not wait for it.
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await connection.close()
        except (TimeoutError, OSError, WebSocketException):
            pass
        finally:
            connection.transport.abort()
            await connection.wait_closed()

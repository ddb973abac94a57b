"""
One WebSocket: dial, read, write, close. Only this and dialling.py know `websockets` as a client.

Frames are handed over as they arrive: a subclass of the client's connection overrides the hook that its own
receive queue is fed from, so that between socket and session there is neither a queue nor a task switch. The
hook is not documented API; tests/test_link.py holds what is relied on, and pyproject.toml the upper bound.
"""

import asyncio
import logging
import random
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

from .dialects import Refusal
from .dialling import OPEN_TIMEOUT, WIRE_LOG, Backoff, Dial, Spacing, describe, ending, gap_lines, header, refusal
from .errors import LinkError, LoginRefusedError, RefusedError
from .feed import Delivery, Feed
from .records import Status
from .rest import date_ms, retry_after, shown
from .session import Session, Terms
from .venues import Venue

log = logging.getLogger("okstream.link")

HEALTHY = 60.0
"""Seconds after which a connection counts as healthy: the next one is dialled without the backlog of delays."""

SLOW_RETRY = 60.0
"""Seconds between attempts once an exchange that had let us in refuses us."""

# First bytes of whole frames: text and binary; close, ping and pong.
_TEXT, _BINARY = 0x81, 0x82
_DATA = frozenset({_TEXT, _BINARY})
_CONTROL = frozenset({0x88, 0x89, 0x8A})
_MUCH = 64 * 1024
_PIECE = 16 * 1024
_SEND_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 2.0


class _Connection(ClientConnection):
    """
    Hands complete data frames to `link` as they arrive.

    Reads the plain ones itself, which is most of what costs time here: unfragmented, unmasked, of no extension. The
    parser of `websockets` sees the handshake, control frames, and everything from the first frame on that is not
    plain; until then it stands between two frames. Whatever is against the protocol is thus judged in one place.
    """

    def __init__(self, *args: Any, link: "Link", **options: Any) -> None:
        super().__init__(*args, **options)
        self.link = link
        self._recv = 0
        self._opcode: Opcode | None = None
        self._fragments: list[bytes] = []
        self._plain = False
        self._rest = bytearray()
        self._needed = 2

    def data_received(self, data: bytes) -> None:
        self._recv = self.link.wall_ns()
        if self._plain:
            self._rest += data
            if len(self._rest) >= self._needed:
                data, self._rest = bytes(self._rest), bytearray()
                self._read(data)
        else:
            opening = self.protocol.state is State.CONNECTING
            # In pieces, so that frames are on their way before the processor's caches are full of later ones.
            for start in range(0, len(data), _PIECE):
                super().data_received(data[start : start + _PIECE])
            if opening and self.protocol.state is State.OPEN and not self.protocol.extensions:
                # Where the answer to the handshake came alone, the parser stands between two frames.
                self._plain = 0 <= data.find(b"\r\n\r\n") == len(data) - 4
        if self.state is not State.OPEN:
            self.link.wake.set()
        if len(data) >= _MUCH and not self.transport.is_closing():
            # uvloop reads on for as long as there is something to read; the lanes must have their turns, too.
            self.transport.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _read(self, data: bytes) -> None:
        at, size, cap, frame, recv = 0, len(data), self.link.terms.cap, self.link.frame, self._recv
        self._needed = 2
        while size - at >= 2:
            kind, length, start = data[at], data[at + 1], at + 2
            if length == 126:
                start += 2
                length = int.from_bytes(data[at + 2 : start])
            elif length > 126:
                start += 8
                length = int.from_bytes(data[at + 2 : start])
            stop = start + length
            if data[at + 1] > 127 or length > cap or (kind not in _DATA and kind not in _CONTROL):
                self._plain = False
            elif stop > size:
                self._needed = stop - at
                break
            elif kind in _DATA:
                frame(data[start:stop], kind == _BINARY, recv)
                at = stop
                continue
            else:
                super().data_received(data[at:stop])
                at = stop
                self._plain = self.protocol.state is State.OPEN
            if not self._plain:
                super().data_received(data[at:])
                return
        self._rest += data[at:]

    def process_event(self, event: Event) -> None:
        if type(event) is not Frame or event.opcode > Opcode.BINARY:
            super().process_event(event)
        elif self._opcode is None and event.fin:
            self.link.frame(event.data, event.opcode is Opcode.BINARY, self._recv)
        else:
            self._fragment(event)

    def _fragment(self, event: Frame) -> None:
        if event.opcode is not Opcode.CONT:
            self._opcode, self._fragments = event.opcode, []
        self._fragments.append(bytes(event.data))
        if event.fin:
            opcode, self._opcode = self._opcode, None
            self.link.frame(b"".join(self._fragments), opcode is Opcode.BINARY, self._recv)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.link.wake.set()


@dataclass(slots=True)
class Counters:
    """What one link has been through, since it was made."""

    connects: int = 0
    failures: int = 0
    frames: int = 0
    session: Counter[str] = field(default_factory=Counter)


class Link:
    """
    One connection to one path of one venue, of one account or none, and whatever it takes to keep it.

    Args:
        deliver: takes what arrives; called between frames, must not block.
        settled: told of each subscription that was acknowledged (None) or refused.
        known: names of venues that let us in before, shared by all links.
        clock_offset: measures the exchange's clock minus ours in ms; awaited before a login.
    """

    def __init__(
        self,
        name: str,
        venue: Venue,
        path: str,
        terms: Terms,
        account: str | None = None,
        *,
        deliver: Callable[[list[Delivery]], None],
        settled: Callable[[Feed, Refusal | None], None],
        spacing: Spacing,
        known: set[str],
        wall_ns: Callable[[], int],
        chance: random.Random,
        clock_offset: Callable[[], Any] | None = None,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.venue = venue
        self.url = venue.link_url(path)
        self.terms = terms
        self.feeds: dict[str, Feed] = {}
        self.wake = asyncio.Event()
        self.wall_ns = wall_ns
        self.state = "connecting"
        self.counters = Counters()
        self._account = account
        self._deliver = deliver
        self._settled = settled
        self._spacing = spacing
        self._known = known
        self._backoff = Backoff(chance)
        self._chance = chance
        self._measure_clock = clock_offset
        self._proxy = proxy
        self._tls = tls
        self._session: Session | None = None
        self._loop = asyncio.get_running_loop()
        self._bug: Exception | None = None
        self._succeeded = False
        self._lost_at: float | None = None

    def add(self, feed: Feed) -> None:
        """Subscribe to `feed`, now and after each reconnect."""
        self.feeds[feed.traits.key] = feed
        if self._session is not None:
            self._session.want(feed.traits.key)
        self.wake.set()

    def remove(self, feed: Feed) -> None:
        """Unsubscribe from `feed`."""
        if self._session is not None:
            self._session.unwant(feed.traits.key)
            self.wake.set()
        del self.feeds[feed.traits.key]

    def frame(self, data: bytes | bytearray | memoryview, binary: bool, recv: int) -> None:
        """Take one data frame, from within the socket's read."""
        session = self._session
        if session is None or self._bug is not None:
            return
        self.counters.frames += 1
        try:
            deliveries = session.receive(bytes(data), binary, self._loop.time(), recv)
            if deliveries:
                self._hand_over(deliveries)
        except Exception as bug:  # the boundary between the socket's callback and us: nothing may pass it
            self._bug = bug
            self.wake.set()
            return
        if session.stirred:
            self.wake.set()

    def _hand_over(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.statements:
                for line in gap_lines(deliveries):
                    log.warning("%s: %s", self.name, line)
                break
        self._deliver(deliveries)

    async def run(self) -> None:
        """
        Keep the connection until cancelled.

        Raises:
            RefusedError: the exchange refused us before it ever let us in.
        """
        while True:
            while not self.feeds:
                self.wake.clear()
                await self.wake.wait()
            try:
                await self._once()
            except (OSError, WebSocketException, LinkError, RefusedError) as error:
                self.counters.failures += 1
                delay = self._failed(error)
            else:
                delay = self._backoff.next()
            await asyncio.sleep(delay)

    def _failed(self, error: Exception) -> float:
        """Say why the connection failed; return the seconds until the next; raise if there is no point in it."""
        if self._lost_at is None:
            self._lost_at = self._loop.time()
        refused = refusal(error)
        if refused is not None:
            # Credentials are this link's own; whether we are let in at all, another one may know.
            login = isinstance(refused, LoginRefusedError)
            if not (self._succeeded or (self.venue.name in self._known and not login)):
                self._say("failed", {"code": refused.code, "message": str(refused)})
                raise type(refused)(f"{self.name}: {refused}", refused.code) from None
            delay = max(self._backoff.next(), SLOW_RETRY * self._chance.uniform(0.8, 1.2))
            log.error("%s: %s; next attempt in %.0f s", self.name, refused, delay)
            self._say("refused", {"code": refused.code, "message": str(refused)})
            return delay
        asked = header(error.response, "Retry-After") if isinstance(error, InvalidStatus) else ""
        delay = max(self._backoff.next(), retry_after(asked, self.wall_ns() // 1_000_000))
        log.warning("%s: %s; next attempt in %.1f s", self.name, describe(error), delay)
        self._say("disconnected", describe(error))
        return delay

    async def _once(self) -> None:
        """One connection, from the first packet to the last."""
        self._say("connecting", shown(self.url))
        offset = await self._measure_clock() if self._measure_clock else 0
        await self._spacing.turn()
        connection = await self._dial()
        opened = self._loop.time()
        wall_ms = self.wall_ns() // 1_000_000
        date = date_ms(header(connection.response, "Date"))
        session = Session(self.terms, self.feeds, opened, wall_ms, offset, None if date is None else date - wall_ms)
        session.counters = self.counters.session
        self._session = session
        self.counters.connects += 1
        lost = True
        try:
            await self._converse(session, connection)
        except asyncio.CancelledError:
            lost = False  # we end it ourselves, and nothing was promised beyond
            raise
        finally:
            self._session = None
            if self._loop.time() - opened >= HEALTHY:
                self._backoff.reset()
            if lost:
                self._hand_over(session.closed(self.wall_ns()))
            await self._close(connection)

    async def _dial(self) -> _Connection:
        try:
            return await self._dialled()
        except InvalidProxy:  # its text shows the proxy's password
            raise LinkError("the proxy cannot be used; is its URL right?") from None

    async def _dialled(self) -> _Connection:
        options: dict[str, Any] = {"ssl": self._tls} if self._tls and self.url.startswith("wss:") else {}
        connection = await Dial(
            self.url,
            create_connection=cast(type[ClientConnection], partial(_Connection, link=self)),
            compression="deflate" if self.venue.deflate else None,
            proxy=self._proxy,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=_CLOSE_TIMEOUT,
            ping_interval=None,
            max_size=self.terms.cap,
            logger=WIRE_LOG,
            **options,
        )
        assert isinstance(connection, _Connection)
        return connection

    async def _converse(self, session: Session, connection: _Connection) -> None:
        was_ready, opened = False, self._loop.time()
        while True:
            self.wake.clear()
            session.stirred = False
            if self._bug is not None:
                raise self._bug
            if deliveries := session.tick(self._loop.time(), self.wall_ns()):
                self._hand_over(deliveries)
            for remark in session.remarks:
                log.warning("%s: %s", self.name, remark)
            session.remarks.clear()
            if session.notice is not None:
                log.warning("%s: %.0f s after connecting: %s", self.name, self._loop.time() - opened, session.notice)
                session.notice = None
            settled, session.settled = session.settled, []
            for feed, answer in settled:
                self._settled(feed, answer)
            if session.ending is not None:
                raise session.ending
            if session.ready and not was_ready:
                was_ready = self._succeeded = True
                self._known.add(self.venue.name)
                if self._lost_at is not None:
                    log.warning("%s: connected again after %.1f s", self.name, self._loop.time() - self._lost_at)
                    self._lost_at = None
                self._say("live", None)
            if connection.state is not State.OPEN:
                raise LinkError(session.scrub(ending(connection)))
            await self._send(session, connection)
            try:
                async with asyncio.timeout_at(session.deadline(self._loop.time())):
                    await self.wake.wait()
            except TimeoutError:
                pass

    async def _send(self, session: Session, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT):
                for request in session.to_send(self._loop.time()):
                    await connection.send(request, text=True)
        except ConnectionClosed:
            pass  # seen, and said, in the next round
        except TimeoutError:
            raise LinkError(f"nothing could be sent for {_SEND_TIMEOUT:.0f} s") from None

    async def _close(self, connection: _Connection) -> None:
        # The closing handshake is a courtesy; a link that is stuck or half open must not wait for it.
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await connection.close()
        except (TimeoutError, OSError, WebSocketException):
            pass
        finally:
            connection.transport.abort()
            await connection.wait_closed()

    def _say(self, state: str, detail: Any) -> None:
        self.state = state
        status = Status(self.venue.name, None, None, self._account, None, self.wall_ns(), state, detail)
        self._deliver([Delivery(None, [status])])

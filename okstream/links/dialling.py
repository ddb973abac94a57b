"""When to dial and how, and what it means when that fails, or a connection ends."""

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from ..errors import RefusedError
from ..feed import Delivery
from ..records import Gap

OPEN_TIMEOUT = 10.0
"""Seconds from the first packet to the end of the handshake."""

_ANSWERING = 1.0
"""Seconds that a connect which is not answered holds up others."""

_MARGIN = 1.05
"""Their second may be longer than ours."""

_REFUSING = frozenset({401, 403, 404})


class _Discreet(logging.LoggerAdapter[logging.Logger]):
    """websockets logs whole frames at DEBUG, logins too: for it that level is off, however logging is set up."""

    def isEnabledFor(self, level: int) -> bool:
        return level > logging.DEBUG and super().isEnabledFor(level)


WIRE_LOG = _Discreet(logging.getLogger("okstream.link.websockets"))


class Backoff:
    """Full jitter: each delay is random between 0 and a ceiling, which doubles from 0.5 s up to 30 s."""

    def __init__(self, chance: random.Random, first: float = 0.5, cap: float = 30.0) -> None:
        self._chance = chance
        self._first = first
        self._cap = cap
        self.reset()

    def reset(self) -> None:
        self._ceiling = self._first

    def next(self) -> float:
        """Return the next delay in seconds."""
        delay = self._chance.uniform(0, self._ceiling)
        self._ceiling = min(self._cap, self._ceiling * 2)
        return delay


class Spacing:
    """
    Keeps connects to one host within so many a second, whichever link makes them.

    When one arrives there nobody can know; it has once it is answered. So a second counts from then.
    """

    def __init__(self, connects_per_second: float) -> None:
        self._interval = 1 / connects_per_second
        self._most = max(1, int(connects_per_second))
        self._next = 0.0
        self._latest: deque[asyncio.Future[float]] = deque(maxlen=self._most)
        self._order = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until one more connect is in order; leave this once it is answered, or has failed."""
        loop = asyncio.get_running_loop()
        async with self._order:
            at = self._next
            if len(self._latest) == self._most:
                before = self._latest[0]
                await asyncio.wait([before], timeout=_ANSWERING)
                at = max(
                    at, (before.result() if before.done() else loop.time()) + _MARGIN * self._most * self._interval
                )
            await asyncio.sleep(at - loop.time())
            self._next = loop.time() + self._interval
            answered: asyncio.Future[float] = loop.create_future()
            self._latest.append(answered)
        try:
            yield
        finally:
            answered.set_result(loop.time())


class Dial(connect):
    """Redirects are not followed: what we sign must not go where somebody else says."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def refusal(error: Exception) -> RefusedError | None:
    """Return the refusal that `error` amounts to, None where trying again may help."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, InvalidStatus) and error.response.status_code in _REFUSING:
        status = error.response.status_code
        hint = "; is this an address of that venue?" if status == 404 else ""
        return RefusedError(f"the handshake was answered with HTTP {status}{hint}", str(status))
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(f"the certificate does not prove who answers: {error.verify_message}")
    return None


def describe(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"the handshake was answered with HTTP {error.response.status_code}"
    if isinstance(error, InvalidHandshake):
        return f"no WebSocket handshake: {error}"
    if isinstance(error, TimeoutError):
        return f"no answer within {OPEN_TIMEOUT:.0f} s"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "cannot reach the exchange: what answers there speaks no TLS; is it ws:// and not wss://?"
    if isinstance(error, OSError):
        return f"cannot reach the exchange: {error.strerror or error}"
    return str(error) or type(error).__name__


def ending(connection: ClientConnection) -> str:
    received, sent = connection.protocol.close_rcvd, connection.protocol.close_sent
    if received is not None:
        return f"closed by the exchange: {received.code} {received.reason}".rstrip()
    return f"closed by us: {sent.code} {sent.reason}" if sent is not None else "the connection was lost"


def header(response: Response | None, name: str) -> str:
    """Return the first value of a header, empty where there is none."""
    return next(iter(response.headers.get_all(name)), "") if response is not None else ""


def gap_lines(deliveries: list[Delivery], state: str) -> list[str]:
    """Return a line for people for each reason of gaps that are `open` or `closed` now, however many they are."""
    found: dict[str, dict[str, None]] = {}
    for delivery in deliveries:
        for said in delivery.statements:
            if isinstance(said, Gap) and said.state == state:
                found.setdefault(said.reason, {})[str(delivery.feed.sub) if delivery.feed else ""] = None
    what = "something may be missing" if state == "open" else "the gap has ended"
    return [
        f"{what} ({reason}) in {next(iter(subs))}" + (f" and {len(subs) - 1} more" if len(subs) > 1 else "")
        for reason, subs in found.items()
    ]

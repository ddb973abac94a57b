"""What the conversations of all dialects share: hearing, timers, the idle close, the budget of requests."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from okstream.simulator.connection import Connection
from okstream.simulator.engine import Engine
from okstream.simulator.settings import Account

_HOUR = 3600.0


class Talk:
    """
    What one client and the exchange say to each other. `phase` is where in the conflation rhythm this
    connection stands, in steps; `peers` gives all connections, for the limit on user channels.
    """

    idle_code = 4004
    idle_reason = "No data received in 30s."
    hourly: int | None = None

    def __init__(
        self, engine: Engine, connection: Connection, phase: int, peers: Callable[[], list[Connection]]
    ) -> None:
        self.engine = engine
        self.connection = connection
        self.phase = phase
        self.peers = peers
        self._requests: deque[float] = deque()
        self._heard = engine.clock.now()
        self._timers: set[asyncio.TimerHandle] = set()

    def opened(self) -> None:
        if self.idle_limit() is not None:
            self._check_idle()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def idle_limit(self) -> float | None:
        """Seconds of silence from both sides after which the exchange closes."""
        return self.engine.settings.idle_close

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call after a while, unless the connection is gone by then."""

        def fire() -> None:
            self._timers.discard(timer)
            frozen = self.engine.frozen_until - self.engine.clock.now()
            if frozen > 0:
                self.later(frozen, call)
            else:
                call()

        timer = self.engine.clock.later(seconds, fire)
        self._timers.add(timer)

    def _check_idle(self) -> None:
        limit = self.idle_limit()
        assert limit is not None
        pushed = [s.last_push for s in self.connection.subscriptions.values()]
        # What came while the exchange was frozen has yet to be read.
        quiet = self.engine.clock.now() - max([self._heard, self.engine.frozen_until, *pushed])
        if quiet >= limit - 1e-6:
            self.connection.close(self.idle_code, self.idle_reason)
        else:
            self.later(limit - quiet, self._check_idle)

    def text(self, text: str) -> None:
        """One text frame from the client."""
        self._heard = self.engine.clock.now()
        if self.ping(text):
            self.engine.counters.pings += 1
            return
        self.engine.counters.requests += 1
        late = self.take("slow-ack")
        if late is not None:
            self.later(late.number("seconds"), lambda: self.request(text))
        else:
            self.request(text)

    def take(self, name: str, channel: str = "", inst: str = "") -> Any:
        """An armed fault meant for this connection, counted, or None."""
        fault = self.engine.armed.take(name, self.connection.id, self.connection.path, channel, inst)
        if fault is not None:
            self.engine.counters.faults[name] += 1
        return fault

    def too_many(self, limit: int | None) -> bool:
        """Count a request; True where the hour's budget is spent."""
        now = self.engine.clock.now()
        while self._requests and now - self._requests[0] >= _HOUR:
            self._requests.popleft()
        if limit is not None and len(self._requests) >= limit:
            return True
        self._requests.append(now)
        return False

    def account(self, key: Any) -> Account | None:
        return next((a for a in self.engine.settings.accounts if a.key == key), None)

    def stale(self, stamp: str) -> bool | None:
        """Whether a login's timestamp in seconds is too far from the exchange's clock; None: not a number."""
        if not re.fullmatch(r"\d{1,12}(\.\d+)?", stamp):
            return None
        age = self.engine.settings.login_age
        return age is not None and abs(self.engine.clock.ms() / 1000 - float(stamp)) > age

    # What each dialect says in its own way

    def ping(self, text: str) -> bool:
        """Answer a heartbeat. False where this is none."""
        raise NotImplementedError

    def request(self, text: str) -> None:
        raise NotImplementedError

    def notice(self) -> None:
        """Announce a restart, where the dialect has words for it."""

    def unknown_event(self) -> str | bytes:
        return self.wire(orjson.dumps({"event": "weather", "msg": "sunny"}))

    def wire(self, text: bytes) -> str | bytes:
        """How a message travels: as it is in a text frame, or compressed in a binary one."""
        return text.decode()

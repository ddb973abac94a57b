"""
The heart of the simulated exchange: time, the market, subscriptions, faults and the oracle, without sockets.

One timer advances the market by `Settings.step` and then asks every subscription that is due for its
pushes. Each connection has its own phase, so two clients see the same book cut at different moments.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import orjson

from okstream.simulator.account import User
from okstream.simulator.book import MarketBook
from okstream.simulator.clock import Clock
from okstream.simulator.connection import Connection
from okstream.simulator.faults import Armed
from okstream.simulator.log import Counters, Entry, Log
from okstream.simulator.market import Market
from okstream.simulator.settings import Settings

Push = tuple[str, Any, int]  # kind, payload, ts
Wire = Callable[[bytes], str | bytes]


class Subscription:
    """
    One subscription of one connection, or what is left of it (a ghost) after the connection was lost.

    Subclasses give `first` (what is pushed at once) and `poll` (what is due now), and name in `watched`
    the instruments that must move for it. `interval` is the conflation in seconds.
    """

    interval = 0.1
    sequenced = False  # True for books whose pushes form a chain
    incremental = False  # True for books of a snapshot and updates
    rank = 6  # of several channels due at once on one connection, the lowest goes first
    arg: dict[str, Any]

    def __init__(self, engine: Engine, key: str, channel: str, inst: str) -> None:
        self.engine = engine
        self.key = key
        self.channel = channel
        self.inst = inst
        self.connection: Connection | None = None
        self.connection_id = ""
        self.login: str | None = None
        self.phase = 0
        self.ended = False
        self.every = max(1, round(self.interval / engine.settings.step))  # in steps of the market
        self.stalled_until = 0.0
        self.broken_by = ""  # the fault that its next update has
        self.last_push = engine.clock.now()
        self.holds: list[MarketBook] = []
        self.wire: Wire = bytes.decode

    def watched(self) -> Iterable[str]:
        return (self.inst,) if self.inst in self.engine.market.instruments else ()

    def first(self) -> Iterable[Push]:
        return ()

    def poll(self) -> Iterable[Push]:
        return ()

    def shows(self, payload: Any) -> bool:
        """Whether it would show if this update of a book were lost."""
        return True

    def snapshot(self) -> Iterable[Push]:
        """A whole state nobody asked for, where the channel knows one."""
        return ()

    def finished(self) -> None:
        """Called once, when nobody will ask any more."""


class Engine:
    """Everything but the sockets."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.clock = Clock(loop, settings.start_ms, settings.clock_offset)
        self.log = Log(settings.log_limit)
        self.counters = Counters()
        self.armed = Armed()
        self.market = Market(settings, self.clock.ms())
        self.market.on_trade.append(lambda book, trade: self.log.add_trade(book.instrument.inst, trade))
        self.rng = random.Random(f"{settings.seed}/engine")
        self.users = {a.name: User(a, self.market, self.clock, settings) for a in settings.accounts}
        for user in self.users.values():
            self.market.on_trade.append(user.market_trade)
        self._due: list[tuple[int, int, int, Subscription]] = []
        self._subs: dict[Subscription, None] = {}
        self._order = count()
        self._ghosts: dict[str, Subscription] = {}
        self._busy = asyncio.Event()
        self.frozen_until = 0.0
        self.thawed = asyncio.Event()
        self.thawed.set()

    # Subscriptions

    def attach(self, sub: Subscription, connection: Connection, phase: int) -> None:
        """Give a subscription to its connection. It pushes nothing before `start`."""
        ghost = self._ghosts.pop(sub.key, None)
        if ghost is not None:
            self._finish(ghost)
        sub.login = connection.login
        sub.connection, sub.connection_id, sub.phase = connection, connection.id, phase
        sub.stalled_until = connection.stalled_until.get(sub.key, 0.0)
        connection.subscriptions[sub.key] = sub
        sub.holds = [self.market.hold(inst, self.clock.ms()) for inst in sub.watched()]
        self._subs[sub] = None

    def start(self, sub: Subscription) -> None:
        """The first pushes leave now, the others in the rhythm of the connection."""
        if sub.ended:
            return
        sub.last_push = self.clock.now()
        for push in sub.first():
            self.deliver(sub, *push)
        after = self.market.step_number + 1
        due = after + (sub.phase - after) % sub.every
        heapq.heappush(self._due, (due, sub.rank, next(self._order), sub))
        self._busy.set()

    def remove(self, sub: Subscription) -> None:
        """End a subscription that its client, or the exchange by its rules, no longer wants."""
        if sub.connection is not None:
            sub.connection.subscriptions.pop(sub.key, None)
        elif self._ghosts.get(sub.key) is sub:
            del self._ghosts[sub.key]
        self._finish(sub)

    def lost(self, connection: Connection, clean: bool) -> None:
        """
        A connection is gone. Unless the client said goodbye, its subscriptions live on as ghosts, which
        only write to the log; one ghost for each key, and none where another connection has the same.
        """
        for key, sub in list(connection.subscriptions.items()):
            if clean or key in self._ghosts or self._elsewhere(key, connection):
                self._finish(sub)
            else:
                sub.connection = None
                self._ghosts[key] = sub
        connection.subscriptions.clear()

    def _elsewhere(self, key: str, connection: Connection) -> bool:
        return any(s.key == key and s.connection not in (None, connection) for s in self._subs)

    def _finish(self, sub: Subscription) -> None:
        if not sub.ended:
            sub.ended = True
            self._subs.pop(sub, None)
            for book in sub.holds:
                self.market.release(book)
            sub.finished()

    def subscriptions(self) -> list[Subscription]:
        """The live ones."""
        return [s for s in self._subs if s.connection is not None]

    def about(self, inst: str) -> list[Subscription]:
        """Those that name this instrument, ghosts included; an index is another thing than the pair of its name."""
        return [s for s in self._subs if s.inst == inst and "index" not in s.channel]

    # Time

    async def run(self) -> None:
        """Advance for ever. Sleeps without a timer while nobody watches anything."""
        step, clock = self.settings.step, self.clock
        due = clock.now() + step
        while True:
            if not self._subs:
                self._busy.clear()
                await self._busy.wait()
                due = clock.now() + step
            await self.thawed.wait()
            # After a stall of the loop at most a second is made up for; the market then simply was quiet.
            due = max(due, clock.now() - 1.0)
            while due <= clock.now():
                self.step()
                due += step
            await asyncio.sleep(max(0.0, due - clock.now()))

    def step(self) -> None:
        self.market.step(self.clock.ms())
        for user in self.users.values():
            user.step()
        number, heap = self.market.step_number, self._due
        while heap and heap[0][0] <= number:
            due, rank, order, sub = heap[0]
            if sub.ended:
                heapq.heappop(heap)
                continue
            heapq.heapreplace(heap, (max(due + sub.every, number + 1), rank, order, sub))
            for push in sub.poll():
                self.deliver(sub, *push)

    def freeze(self, seconds: float) -> None:
        """Nothing happens for a while: no market, no pushes, nothing is read or written."""
        self.frozen_until = max(self.frozen_until, self.clock.now() + seconds)
        self.thawed.clear()
        self.clock.later(seconds, self._thaw)

    def _thaw(self) -> None:
        if self.clock.now() >= self.frozen_until - 1e-6:
            self.thawed.set()

    # Delivery

    def deliver(self, sub: Subscription, kind: str, payload: Any, ts: int) -> None:
        """Log one push, damage it where a fault asks for that, and hand it to its connection."""
        now = self.clock.now()
        sub.last_push = now
        connection = sub.connection
        entry = Entry(sub.key, payload, ts, False, sub.connection_id, now, kind, sub.login)
        self.log.add(entry)
        if connection is None:
            return
        if now < sub.stalled_until or now < connection.muted_until:
            self.counters.suppressed += 1
            return
        if (self.armed or sub.broken_by) and self._damaged(sub, connection, entry):
            return
        self._send(sub, connection, orjson.dumps(payload), entry)

    def _send(self, sub: Subscription, connection: Connection, text: bytes, entry: Entry | None) -> None:
        if connection.send(sub.wire(text), entry):
            self.counters.pushes += 1
            if entry is not None:
                entry.sent = True

    def struck(self, name: str, sub: Subscription, connection: Connection, named: bool = False) -> bool:
        """True, and counted, where a fault is meant for this subscription; `named`: armed for its channel."""
        if sub.broken_by == name:
            sub.broken_by = ""
            self.counters.faults["break-books"] += 1
            return True
        if self.armed.take(name, connection.id, connection.path, sub.channel, sub.inst, named) is None:
            return False
        self.counters.faults[name] += 1
        return True

    def _damaged(self, sub: Subscription, connection: Connection, entry: Entry) -> bool:
        """Apply the armed faults about single pushes. True where the push has been dealt with."""
        fault = self.armed.take("stall", connection.id, connection.path, sub.channel, sub.inst)
        if fault is not None:
            self.counters.faults["stall"] += 1
            sub.stalled_until = self.clock.now() + fault.number("seconds")
            if fault.number("sticky"):
                connection.stalled_until[sub.key] = sub.stalled_until
            return True
        if entry.kind == "keepalive" and self.struck("no-keepalive", sub, connection):
            return True
        text = orjson.dumps(entry.payload)
        # Without a channel's name a gap is one of a book, where the chain of numbers or the checksum shows it.
        shows = entry.kind == "push" or (entry.kind == "update" and sub.shows(entry.payload))
        if shows and self.struck("gap", sub, connection, entry.kind == "push"):
            return True
        if b'"checksum":' in text and self.struck("checksum", sub, connection):
            self._send(sub, connection, _wrong_checksum(text), None)
        elif self.struck("malformed", sub, connection):
            self._send(sub, connection, text[:-1] + b",,", None)
        elif self.struck("truncate", sub, connection):
            wire = sub.wire(text)
            connection.send(wire[: len(wire) // 2])
        elif self.struck("pad", sub, connection):
            wire = sub.wire(text)
            connection.send(wire + "\0\0\0\0" if isinstance(wire, str) else wire + b"\0\0\0\0")
        elif self.struck("duplicate", sub, connection):
            self._send(sub, connection, text, entry)
            self._send(sub, connection, text, None)
        else:
            return False
        return True


def _wrong_checksum(text: bytes) -> bytes:
    head, _, tail = text.partition(b'"checksum":')
    digits = len(tail) - len(tail.lstrip(b"-0123456789"))
    return head + b'"checksum":123456789' + tail[digits:]

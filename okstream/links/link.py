"""
What it takes to keep one connection: when to dial, how long to wait, and when to replace it before it breaks.

A replacement is opened beside the connection it replaces, and takes over once everything flows there: make before
break. What both bring meanwhile is merged by the feeds.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import InvalidStatus, WebSocketException

from ..errors import LinkError, LoginRefusedError, RefusedError
from ..feed import Delivery, Feed
from ..records import Status
from ..rest import retry_after, shown
from ..session.terms import Terms
from ..venues import Venue
from .conversation import Address, Conversation, Outlet, Probe
from .dialling import Backoff, Spacing, describe, header, refusal

log = logging.getLogger("okstream.link")

HEALTHY = 60.0
"""Seconds after which a connection counts as healthy: the next one is dialled without the backlog of delays."""

SLOW_RETRY = 60.0
"""Seconds between attempts once an exchange that had let us in refuses us."""

_TAKE_OVER = 25.0
_COVERED_DELAY = 0.5
_COVERED_ATTEMPTS = 5
_FAILURES = (OSError, WebSocketException, LinkError, RefusedError)


@dataclass(slots=True)
class Counters:
    """What one link has been through, since it was made."""

    connects: int = 0
    failures: int = 0
    rotations: int = 0
    session: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Habits:
    """
    How a link goes about it.

    Args:
        spacing: keeps connects to one host apart.
        known: names of venues that let us in before, shared by all links.
        chance: randomness for delays.
        rotate_after: seconds after which a connection is replaced; None: only when the exchange says so.
        clock_offset: measures the exchange's clock minus ours in ms; awaited before a login.
        probe: asks REST whether it shows something newer than a source brought; None where there is none to ask.
    """

    spacing: Spacing
    known: set[str]
    chance: random.Random
    rotate_after: float | None = None
    clock_offset: Callable[[], Awaitable[int]] | None = None
    probe: Probe | None = None


class Link:
    """
    One connection to one path of one venue, of one account or none, and whatever it takes to keep it.

    Args:
        feeds: what it carries, by key; shared with the links that carry the same.
        twins: all links that carry the same, this one included.
    """

    def __init__(
        self,
        name: str,
        venue: Venue,
        address: Address,
        terms: Terms,
        account: str | None,
        feeds: dict[str, Feed],
        twins: list["Link"],
        outlet: Outlet,
        habits: Habits,
    ) -> None:
        self.name = name
        self.venue = venue
        self.feeds = feeds
        self.state = "connecting"
        self.counters = Counters()
        self._address = address
        self._terms = terms
        self._account = account
        self._twins = twins
        self._outlet = outlet
        self._habits = habits
        self._backoff = Backoff(habits.chance)
        self._wanted = asyncio.Event()
        self._talks: dict[Conversation, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._succeeded = False
        self._lost_at: float | None = None
        self._attempts = 0
        twins.append(self)

    @property
    def up(self) -> bool:
        """Whether it converses with the exchange, and is logged in where it must be."""
        return any(talk.session is not None and talk.session.ready for talk in self._talks)

    @property
    def frames(self) -> int:
        return sum(talk.frames for talk in self._talks)

    def add(self, key: str) -> None:
        """Subscribe to the feed under `key`, now and after each reconnect."""
        for talk in self._talks:
            talk.want(key)
        self._wanted.set()

    def remove(self, key: str) -> None:
        """Unsubscribe from the feed under `key`; called while it is still there."""
        for talk in self._talks:
            talk.unwant(key)

    async def run(self) -> None:
        """
        Keep the connection until cancelled.

        Raises:
            RefusedError: the exchange refused us before it ever let us in.
        """
        try:
            while True:
                while not self.feeds:
                    self._wanted.clear()
                    await self._wanted.wait()
                try:
                    await self._keep(await self._begin("connecting"))
                except _FAILURES as error:
                    self.counters.failures += 1
                    delay = self._failed(error)
                await asyncio.sleep(delay)
        finally:
            await self._end()

    async def _begin(self, state: str) -> Conversation:
        """Open a connection and start to converse."""
        measure = self._habits.clock_offset
        offset = await measure() if measure else 0
        talk = Conversation(
            self.name, self._address, self._terms, self.feeds, self._outlet, self.counters.session, self._habits.probe
        )
        async with self._habits.spacing.turn():
            self._say(state, shown(self._address.url))
            await talk.open(offset)
        self.counters.connects += 1
        self._talks[talk] = self._loop.create_task(talk.talk(), name=f"okstream {self.name}")
        return talk

    async def _keep(self, talk: Conversation) -> None:
        """Stay with `talk` and its successors; raises what ends the last of them."""
        since = talk.opened
        while True:
            await self._stay(talk, since)
            successor = await self._replaced(talk)
            since = self._loop.time()  # by its age it is due again after as long
            if successor is not None:
                await self._retire(talk)
                talk, since = successor, successor.opened

    async def _stay(self, talk: Conversation, since: float) -> None:
        """Return when `talk` is to be replaced, by its age as if opened at `since`; raises what ends it."""
        let_in = False
        age = self._habits.rotate_after
        until = None if age is None else since + age * self._habits.chance.uniform(0.9, 1.0)
        while True:
            talk.changed.clear()
            session = talk.session
            if session is None or self._talks[talk].done():
                await self._ended(talk)
            elif session.ready and not let_in:
                let_in = True
                self._let_in()
            if session is not None and session.leaving is not None:
                age = self._loop.time() - talk.opened
                log.warning(
                    "%s: %.0f s after connecting: %s; opening another connection", self.name, age, session.leaving
                )
                return
            try:
                async with asyncio.timeout_at(until):
                    await talk.changed.wait()
            except TimeoutError:
                log.info("%s: %.0f s old, opening another connection", self.name, self._loop.time() - talk.opened)
                return

    async def _ended(self, talk: Conversation) -> None:
        """Raise what ended `talk`."""
        task = self._talks[talk]
        await asyncio.wait([task])
        del self._talks[talk]
        if self._loop.time() - talk.opened >= HEALTHY:
            self._backoff.reset()
            self._attempts = 0
        task.result()
        raise LinkError("the connection was lost")

    def _let_in(self) -> None:
        first, self._succeeded = not self._succeeded, True
        self._habits.known.add(self.venue.name)
        if first and self._lost_at is None:
            log.info("%s: connected", self.name)
        if self._lost_at is not None:
            log.warning("%s: connected again after %.1f s", self.name, self._loop.time() - self._lost_at)
            self._lost_at = None
        self._say("live", None)

    async def _replaced(self, talk: Conversation) -> Conversation | None:
        """
        Return a conversation that brings everything `talk` does, or goes on where that has ended; None: stay with it.

        Raises what ended `talk` if there is no other by then.
        """
        while True:
            try:
                successor = await self._beside(talk)
                if successor is not None:
                    self.counters.rotations += 1
                    return successor
            except _FAILURES as error:
                delay = self._backoff.next()
                log.warning("%s: no replacement yet: %s; next attempt in %.1f s", self.name, describe(error), delay)
                await asyncio.wait([self._talks[talk]], timeout=delay)
            if self._talks[talk].done():
                await self._ended(talk)
            if not self._must(talk):
                return None

    async def _beside(self, talk: Conversation) -> Conversation | None:
        """Open a connection beside `talk`; return it once all flows there or `talk` has ended, None where it fails."""
        begin = self._loop.create_task(self._begin("rotating"))
        old = self._talks[talk]
        try:
            await asyncio.wait([begin, old], return_when=asyncio.FIRST_COMPLETED)
            successor = await begin
        finally:
            await _cancelled(begin)
        opened, before = self._loop.time(), _messages(talk)
        talk.call(opened)
        successor.succeeds = True
        ready = await self._settled(talk, successor, before)
        successor.succeeds = False
        task = self._talks[successor]
        if task.done() or successor.session is None:
            del self._talks[successor]
            await asyncio.wait([task])
            task.result()
            return None
        if not ready and not old.done() and not self._must(talk):
            log.warning("%s: not everything flows on the new connection; staying with the old one", self.name)
            await self._retire(successor)
            return None
        if talk.session is not None and (talk.session.heartbeat.heard < opened or _mute(talk, successor, before)):
            talk.doubt()
        return successor

    async def _settled(self, talk: Conversation, successor: Conversation, before: int) -> bool:
        """Wait until all flows with `successor`, and `talk` has given signs of life; or one of them ends."""
        old, task, opened = self._talks[talk], self._talks[successor], self._loop.time()
        try:
            async with asyncio.timeout(_TAKE_OVER):
                while not (task.done() or old.done() or talk.session is None):
                    if successor.session is None:
                        return False
                    alive = talk.session.heartbeat.heard >= opened and not _mute(talk, successor, before)
                    if successor.session.flowing and alive and not successor.session.ahead:
                        return True
                    successor.changed.clear()
                    change = self._loop.create_task(successor.changed.wait())
                    try:
                        # What `talk` hears changes nothing there: looked at as often as a session looks.
                        await asyncio.wait([change, old, task], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        await _cancelled(change)
        except TimeoutError:
            pass
        return successor.session is not None and successor.session.flowing

    def _must(self, talk: Conversation) -> bool:
        """Whether `talk` has to be left, and not only might be."""
        return talk.session is None or talk.session.leaving is not None

    async def _retire(self, talk: Conversation) -> None:
        """End `talk`, which another has replaced."""
        talk.retiring = True
        task = self._talks.pop(talk)
        await _cancelled(task)
        if not task.cancelled():
            task.exception()  # it ended by itself: another has taken over

    async def _end(self) -> None:
        talks, self._talks = self._talks, {}
        await _cancelled(*talks.values())
        for task in talks.values():
            if not task.cancelled():
                task.exception()

    def _failed(self, error: Exception) -> float:
        """Say why the connection failed; return the seconds until the next; raise if there is no point in it."""
        if self._lost_at is None:
            self._lost_at = self._loop.time()
        refused = refusal(error)
        if refused is not None:
            # Credentials are this link's own; whether we are let in at all, another one may know.
            login = isinstance(refused, LoginRefusedError)
            if not (self._succeeded or (self.venue.name in self._habits.known and not login)):
                self._say("failed", {"code": refused.code, "message": str(refused)})
                raise type(refused)(f"{self.name}: {refused}", refused.code) from None
            delay = max(self._backoff.next(), SLOW_RETRY * self._habits.chance.uniform(0.8, 1.2))
            log.error("%s: %s; next attempt in %.0f s", self.name, refused, delay)
            self._say("refused", {"code": refused.code, "message": str(refused)})
            return delay
        asked = header(error.response, "Retry-After") if isinstance(error, InvalidStatus) else ""
        delay = max(self._delay(), retry_after(asked, self._outlet.wall_ns() // 1_000_000))
        log.warning("%s: %s; next attempt in %.1f s", self.name, describe(error), delay)
        self._say("disconnected", describe(error))
        return delay

    def _delay(self) -> float:
        """The first attempts are quick while another link carries the same: losing that one, too, would be a gap."""
        self._attempts += 1
        covered = any(twin is not self and twin.state == "live" for twin in self._twins)
        delay = self._backoff.next()
        return min(delay, _COVERED_DELAY) if covered and self._attempts <= _COVERED_ATTEMPTS else delay

    def _say(self, state: str, detail: Any) -> None:
        self.state = state
        status = Status(self.venue.name, None, None, self._account, None, self._outlet.wall_ns(), state, detail)
        if self._outlet.journal is not None:
            self._outlet.journal.said(status)
        self._outlet.deliver([Delivery(None, [status])])


def _messages(talk: Conversation) -> int:
    return talk.session.oversight.messages if talk.session is not None else 0


def _mute(talk: Conversation, successor: Conversation, before: int) -> bool:
    """Whether `successor` brings data, and `talk` none beyond the messages `before`, which nobody has seen yet."""
    old, new = talk.session, successor.session
    if old is None or new is None or old.oversight.mute:
        return False  # or it is doubted already
    return _messages(talk) == before and new.oversight.speaks


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel `tasks` and wait until they have ended; cancelled meanwhile, hurry them."""
    hurried: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            hurried = error
    if hurried is not None:
        raise hurried

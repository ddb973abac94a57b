"""
What a stream has underneath: places that it reaches, links to them, and what is wanted there.

There is one link for each venue, path and account, made when a subscription first needs it.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from . import venues
from .channels import Subscription, unknown
from .conversation import Address, Outlet
from .dialects import Refusal, Traits, load
from .dialects.signing import Credentials
from .dialling import Spacing
from .errors import ConfigError
from .feed import Delivery, Feed
from .ledger import Budget
from .link import Habits, Link
from .planner import Planner
from .probing import shows_newer
from .records import Statement
from .rest import Rest, clock_offset
from .session import Terms
from .statements import Statements
from .venues import Venue

log = logging.getLogger("okstream.link")

_WARN_EVERY = 3600.0
_ROTATE_LEAST = 10.0
_PROXIES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})


@dataclass(frozen=True, slots=True)
class Wiring:
    """
    What all links of one stream have in common.

    Args:
        deliver, settled: see Link.
        wall_ns: the wall clock, ns since the epoch.
        chance: randomness for delays.
        cap: the longest message in bytes.
        parsed, raw: see Terms.
        proxy, tls, redundancy, rotate_after, local: see Stream.
    """

    deliver: Callable[[list[Delivery]], None]
    settled: Callable[[Feed, Refusal | None], None]
    wall_ns: Callable[[], int]
    chance: random.Random
    cap: int
    parsed: bool
    raw: bool
    proxy: str | None
    tls: ssl.SSLContext | None
    redundancy: int = 1
    rotate_after: float | None = None
    local: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raises ConfigError where nothing can be reached this way; passwords do not show in it."""
        if not 1 <= self.redundancy <= 8:
            raise ConfigError(f"redundancy is a number of links from 1 to 8, not {self.redundancy}")
        if self.rotate_after is not None and self.rotate_after < _ROTATE_LEAST:
            raise ConfigError(f"a link is not replaced before it is {_ROTATE_LEAST:.0f} s old")
        if self.proxy is not None:
            _check_proxy(self.proxy)
        if self.tls is not None and not (self.tls.verify_mode is ssl.CERT_REQUIRED and self.tls.check_hostname):
            raise ConfigError("tls must verify certificates and host names; to trust one of your own, load it there")


class SharedBudget(Budget):
    """One link's hold on a budget that it shares; says when it is spent, once an hour at most."""

    def __init__(self, link: str, budget: Budget, warned: dict[Budget, float]) -> None:
        super().__init__(None)
        self._link = link
        self._budget = budget
        self._warned = warned

    def take(self, now: float, healing: bool = False) -> bool:
        taken = self._budget.take(now, healing)
        if not taken and now >= self._warned.get(self._budget, -_WARN_EVERY) + _WARN_EVERY:
            self._warned[self._budget] = now
            seconds = self.ready(now, healing) - now
            log.warning("%s: the venue's requests for this hour are spent; it goes on in %.0f s", self._link, seconds)
        return taken

    def ready(self, now: float, healing: bool = False) -> float:
        return self._budget.ready(now, healing)


class Links:
    """The links of one stream. Connects to one host are spaced, whichever links make them."""

    def __init__(self, wiring: Wiring, accounts: Mapping[str, Credentials], start: Callable[[Link], None]) -> None:
        self.wiring = wiring
        self._accounts = dict(accounts)
        self._start = start
        self._venues: dict[str, Venue] = {}
        self.canaries: set[Feed | None] = set()
        self._groups: dict[tuple[str, str, str | None, int], Group] = {}
        self._planners: dict[tuple[str, str, str | None], Planner] = {}
        self._rests: dict[str, Rest] = {}
        self._spacings: dict[str, Spacing] = {}
        self._budgets: dict[str, Budget] = {}
        self._warned: dict[Budget, float] = {}
        self._known: set[str] = set()

    def __iter__(self) -> Iterator[Link]:
        return (link for group in self._groups.values() for link in group.links)

    def __len__(self) -> int:
        """How many are needed."""
        return sum(bool(link.feeds) for link in self)

    @property
    def live(self) -> int:
        """How many of these are up, and logged in where they must be."""
        return sum(bool(link.feeds) and link.up for link in self)

    def count(self, name: str) -> int:
        """How often `name` happened, see Session.counters, on all links so far."""
        return sum(link.counters.session[name] for link in self)

    def assign(self, venue: Venue, sub: Subscription) -> Subscription:
        """
        Return `sub` with the account it needs; none where it needs none.

        Raises:
            ConfigError: the venue does not have this channel, is not the one we know by its name, or `sub` needs an
                account that is not there.
        """
        if self._venues.get(venue.name, venue) != venue:
            raise ConfigError(f"another venue is called {venue.name!r} here; give one of the two a name of its own")
        if venue.closed:
            raise ConfigError(f"{venue.name} was switched off; say with --url where a gateway or simulator of it is")
        if not load(venue.dialect).traits(sub).login:
            return replace(sub, account=None)
        if venue.name == venues.SIM and not self._accounts:
            account = import_module("okstream.simulator").TEST_ACCOUNT
            self._accounts["sim"] = Credentials(account.key, account.secret, account.passphrase)
        if not self._accounts:
            raise ConfigError(f"{sub} needs an account; give its credentials (--account env, or --account FILE)")
        if sub.account is not None:
            if sub.account not in self._accounts:
                raise unknown("account", sub.account, self._accounts)
        elif len(self._accounts) > 1:
            raise ConfigError(f"{sub} needs an account; say which of {', '.join(self._accounts)}")
        name = sub.account or next(iter(self._accounts))
        load(venue.dialect).login(self._accounts[name], 0)  # raises where something is missing
        return replace(sub, account=name)

    def group(self, venue: Venue, traits: Traits, account: str | None) -> "Group":
        """
        Return the links that carry, or are to carry, a subscription of `venue`; make and start them where needed.

        Raises:
            ConfigError: the venue allows no more connections.
        """
        self._venues[venue.name] = venue
        place = (venue.name, traits.path, account)
        planner = self._planners.setdefault(place, Planner(venue.limits))
        number = planner.place(traits.key, traits)
        group = self._groups.get((*place, number))
        if group is None:
            group = self._groups[*place, number] = Group(planner)
            for twin in range(self.wiring.redundancy):
                self._start(self._made(venue, traits.path, account, group, number, twin))
        return group

    def rest(self, venue: Venue) -> Rest | None:
        """Return the REST interface of `venue`, None where there is none to ask."""
        if venue.name not in self._rests:
            wiring = self.wiring
            try:
                rest = Rest(venue, wall_ns=wiring.wall_ns, proxy=wiring.proxy, tls=wiring.tls, chance=wiring.chance)
            except ConfigError:
                return None
            self._rests[venue.name] = rest
        return self._rests[venue.name]

    async def close(self) -> None:
        """Hang up what the links asked beside their connections."""
        for rest in self._rests.values():
            await rest.close()

    def _made(self, venue: Venue, path: str, account: str | None, group: "Group", number: int, twin: int) -> Link:
        wiring = self.wiring
        name = " ".join([venue.name, path, *([account] if account else []), *([str(number + 1)] if number else [])])
        name += f" {'abcdefgh'[twin]}" if wiring.redundancy > 1 else ""
        budget = Budget(venue.limits.requests)
        if venue.limits.requests_shared:
            budget = SharedBudget(name, self._budgets.setdefault(venue.url, budget), self._warned)
        credentials = self._accounts[account] if account else None
        rest = self.rest(venue)
        return Link(
            name,
            venue,
            Address(venue.link_url(path, twin), venue.deflate, wiring.proxy, wiring.tls,
                    wiring.local[twin % len(wiring.local)] if wiring.local else None),
            Terms(load(venue.dialect), venue.limits, budget, credentials, wiring.cap, wiring.parsed, wiring.raw),
            account,
            group.feeds,
            group.links,
            Outlet(self._deliver, wiring.settled, wiring.wall_ns),
            Habits(
                self._spacings.setdefault(venue.url, Spacing(venue.limits.connects)),
                self._known,
                wiring.chance,
                wiring.rotate_after,
                partial(clock_offset, venue, wiring.wall_ns, wiring.proxy, wiring.tls) if credentials else None,
                None if rest is None else partial(shows_newer, rest),
            ),
        )  # fmt: skip

    def _deliver(self, deliveries: list[Delivery]) -> None:
        if self.canaries:
            deliveries = [delivery for delivery in deliveries if delivery.feed not in self.canaries]
        if deliveries:
            self.wiring.deliver(deliveries)


class Group:
    """The links that carry the same feeds: one, or more where there is redundancy."""

    def __init__(self, planner: Planner) -> None:
        self.feeds: dict[str, Feed] = {}
        self.links: list[Link] = []
        self._planner = planner

    def add(self, feed: Feed) -> None:
        """Subscribe to `feed`, now and after each reconnect."""
        self.feeds[feed.traits.key] = feed
        for link in self.links:
            link.add(feed.traits.key)

    def remove(self, feed: Feed) -> None:
        """Unsubscribe from `feed`."""
        for link in self.links:
            link.remove(feed.traits.key)
        del self.feeds[feed.traits.key]
        self._planner.leave(feed.traits.key)


def _check_proxy(proxy: str) -> None:
    try:
        parts = urlsplit(proxy)
        good = parts.scheme in _PROXIES and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError("the proxy is not a URL of one; write http://host:port or socks5://host:port")
    if parts.username is not None and parts.password is None:
        raise ConfigError("the proxy's user has no password; write http://user:password@host:port")
    if parts.scheme.startswith("socks") and find_spec("python_socks") is None:
        raise ConfigError("a SOCKS proxy needs the package python-socks; install it, or use an HTTP proxy")


class Wanted:
    """
    What is subscribed to, and who waits for the exchange's answer.

    Args:
        statements: see Feed.
        parsed: whether anybody wants records.
        forget: told of each feed that has ended.
    """

    def __init__(self, links: Links, statements: Statements, parsed: bool, forget: Callable[[Feed], None]) -> None:
        self.feeds: dict[tuple[str, Subscription], tuple[Feed, Group]] = {}
        self._links = links
        self._statements = statements
        self._parsed = parsed
        self._forget = forget
        self._waiting: dict[Feed, set[asyncio.Future[Refusal | None]]] = {}
        self._answered = asyncio.Event()

    async def ask(self, venue: Venue, subs: Sequence[Subscription]) -> tuple[bool, dict[Feed, Refusal]]:
        """
        Ask for `subs` where that was not done, and wait until the exchange has answered.

        Returns whether all were answered (not abandoned or removed meanwhile) and which were refused. Cancelled
        meanwhile, what was not answered is no longer wanted, unless someone else waits for it.

        Raises:
            ConfigError: one is the same to the exchange as another one.
        """
        waits: dict[Feed, asyncio.Future[Refusal | None]] = {}
        try:
            for sub in subs:
                feed = self._feed(venue, sub)
                if feed in self._waiting:
                    waits[feed] = asyncio.get_running_loop().create_future()
                    self._waiting[feed].add(waits[feed])
            if waits:
                await asyncio.wait(waits.values())
        finally:
            for feed, wait in waits.items():
                if feed in self._waiting:
                    self._waiting[feed].discard(wait)
                    if not self._waiting[feed]:
                        self.remove(feed)
        answers = {feed: wait.result() for feed, wait in waits.items() if not wait.cancelled()}
        refused = {feed: refusal for feed, refusal in answers.items() if refusal is not None}
        return len(answers) == len(waits), refused

    def settle(self, feed: Feed, refusal: Refusal | None) -> None:
        """The exchange has answered. What is refused later stays, so that its state can be seen."""
        self._answered.set()
        waiters = self._waiting.pop(feed, None)
        if waiters is None:
            if refusal is not None:
                code = f" ({refusal.code})" if refusal.code else ""
                log.error("%s: %s is no longer served: %s%s", feed.venue, feed.sub, refusal.message, code)
            return
        if refusal is not None:
            self.remove(feed)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(refusal)

    async def refused(self) -> None:
        """Wait until there is nothing that is not refused."""
        while any(feed.state != "refused" for feed, _ in self.feeds.values()):
            self._answered.clear()
            await self._answered.wait()

    def remove(self, feed: Feed) -> None:
        """Unsubscribe from `feed`."""
        _, group = self.feeds.pop((feed.venue, feed.sub))
        group.remove(feed)
        self._release(group)
        self._forget(feed)
        for waiter in self._waiting.pop(feed, ()):
            waiter.cancel()

    def end(self, feed: Feed) -> None:
        """Unsubscribe from `feed`, and say so: what is missing of it ends here, too."""
        wiring = self._links.wiring
        now = wiring.wall_ns()
        said: list[Statement] = []
        if feed.gap is not None:
            said.append(replace(feed.gap, recv=now, state="closed"))
            feed.gap = None
        wiring.deliver([Delivery(feed, [*said, feed.status("ended", now)])])
        self.remove(feed)

    def abandon(self) -> None:
        """No answer will come any more."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.cancel()

    def _feed(self, venue: Venue, sub: Subscription) -> Feed:
        known = self.feeds.get((venue.name, sub))
        if known is not None:
            if known[0].state != "refused" or known[0] in self._waiting:
                return known[0]
            self.end(known[0])  # refused since it last flowed: ask anew
        feed = self._new(venue, sub)
        group = self._links.group(venue, feed.traits, sub.account)
        same = group.feeds.get(feed.traits.key)
        if same in self._links.canaries and same is not None:
            group.remove(same)
            self._links.canaries.discard(same)
            group = self._links.group(venue, feed.traits, sub.account)
        elif same is not None:
            raise ConfigError(f"{sub} is the same to the exchange as {same.sub}, which is subscribed to")
        self.feeds[venue.name, sub] = feed, group
        self._waiting[feed] = set()
        group.add(feed)
        self._accompany(venue, feed, group)
        return feed

    def _new(self, venue: Venue, sub: Subscription) -> Feed:
        return Feed(sub, venue.name, load(venue.dialect), self._statements, parsed=self._parsed, keeps=True)

    def _accompany(self, venue: Venue, feed: Feed, group: Group) -> None:
        """Subscribe to the channel whose silence tells that `feed`, which may be silent for days, is cut off."""
        canary = feed.traits.canary
        if canary is None or canary in group.feeds or not self._parsed:
            return
        companion = self._new(venue, Subscription(canary.rstrip(":"), account=feed.sub.account))
        self._links.canaries.add(companion)
        self._links.group(venue, companion.traits, feed.sub.account)
        group.add(companion)

    def _release(self, group: Group) -> None:
        """Leave no canary where there is nothing to watch over."""
        if all(feed in self._links.canaries for feed in group.feeds.values()):
            for feed in list(group.feeds.values()):
                group.remove(feed)
                self._links.canaries.discard(feed)


class Places:
    """
    Where the venues of a stream are; the simulated exchange among them is started when it is first needed.

    Args:
        venue, url, dialect, wall_ns: see Stream.
    """

    def __init__(self, venue: str | Venue, url: str | None, dialect: str, wall_ns: Callable[[], int]) -> None:
        if isinstance(venue, str) and venue != venues.SIM:
            venue = venues.find(venue)
        if url is not None:
            if isinstance(venue, str):
                raise ConfigError(f"{venue} runs in this process; reach one elsewhere with --venue okx and --url")
            venue = venue.at(url)
        if dialect not in venues.DIALECTS:
            raise unknown("dialect", dialect, venues.DIALECTS)
        self.name = venue if isinstance(venue, str) else venue.name
        self._default = venue
        self._dialect = dialect
        self._wall_ns = wall_ns
        self._simulator: Any = None
        self._simulated: Venue | None = None
        self._changing = asyncio.Lock()

    async def open(self) -> None:
        """Start what the default venue needs."""
        await self.reach(None)

    async def reach(self, venue: str | Venue | None) -> Venue:
        """Return what is called `venue`, None for the default one."""
        venue = self._default if venue is None else venue
        if venue != venues.SIM:
            return venues.find(venue) if isinstance(venue, str) else venue
        async with self._changing:
            if self._simulated is None:
                await finished(self._simulate())
        assert self._simulated is not None
        return self._simulated

    def model(self, venue: str | Venue | None) -> Venue:
        """Return the same as `reach`, but start nothing: an exchange not yet simulated has no port."""
        venue = self._default if venue is None else venue
        if venue == venues.SIM:
            return self._simulated or venues.simulated(self._dialect, "ws://127.0.0.1", "")
        return venues.find(venue) if isinstance(venue, str) else venue

    async def close(self) -> None:
        """Stop what was started."""
        async with self._changing:
            if self._simulator is not None:
                simulator, self._simulator = self._simulator, None
                await simulator.stop()

    async def _simulate(self) -> None:
        # Loaded by name: the simulator is a server, which nobody needs who has a real venue.
        simulator = import_module("okstream.simulator")
        settings = simulator.Settings(start_ms=self._wall_ns() // 1_000_000)
        self._simulator = await simulator.Simulator(self._dialect, settings).__aenter__()
        self._simulated = venues.simulated(self._dialect, self._simulator.url, self._simulator.rest_url)


async def finished(work: Coroutine[Any, Any, None], hurry: Callable[[], None] = lambda: None) -> None:
    """Run `work` to its end. Cancelled meanwhile: tell it to `hurry`, and be cancelled when it has ended."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            hurry()
    if cancelled is None:
        return task.result()
    await asyncio.gather(task, return_exceptions=True)
    raise cancelled

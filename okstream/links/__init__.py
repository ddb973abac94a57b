"""
The links of a stream, made when a subscription first needs them.

Subscriptions of one venue, path and account share a connection as far as the venue allows, see planner.py; with
redundancy each connection has twins that carry the same.
"""

import logging
import random
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit

from .. import venues
from ..channels import Subscription, unknown
from ..dialects import Refusal, Traits, load
from ..dialects.signing import Credentials
from ..errors import ConfigError
from ..feed import Delivery, Feed
from ..journal import Journal
from ..planner import Planner
from ..rest import Rest, clock_offset
from ..session.budget import Budget
from ..session.terms import Terms
from ..venues import Venue
from .conversation import Address, Outlet
from .dialling import Spacing
from .link import Habits, Link
from .probing import shows_newer

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
        proxy, tls, redundancy, rotate_after, local, journal: see Stream.
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
    journal: Journal | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError where nothing can be reached this way; passwords do not show in it."""
        if not 1 <= self.redundancy <= 8:
            raise ConfigError(f"redundancy is a number of links from 1 to 8, not {self.redundancy}")
        if self.rotate_after is not None and self.rotate_after < _ROTATE_LEAST:
            least = f"{_ROTATE_LEAST:.0f} s"
            raise ConfigError(f"a link is replaced when it is {least} old or older, not {self.rotate_after:g} s")
        for address in self.local:
            try:
                ip_address(address)
            except ValueError:
                raise ConfigError(f"local: {address!r} is no address; write a list, such as ['192.0.2.1']") from None
        if self.journal is not None and not hasattr(self.journal, "memory_bound"):
            raise ConfigError(f"journal: {self.journal!r} is none; make one with okstream.Journal(place)")
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
            raise ConfigError(f"{venue.name} was switched off; give the url of a gateway or simulator of it")
        if sub.is_pattern and not venue.answers:
            why = f"{venue.name}, as it is reached here, has no REST interface that tells what it means"
            raise ConfigError(f"{sub} is a pattern, but {why}: name each instrument instead")
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
            group = self._groups[*place, number] = Group(venue, planner, account, self.wiring.journal)
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
            Outlet(self._deliver, wiring.settled, wiring.wall_ns, wiring.journal, group.number, self.canaries),
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
    """
    The links that carry the same feeds: one, or more where there is redundancy.

    `number` is what the journal calls it.
    """

    def __init__(self, venue: Venue, planner: Planner, account: str | None, journal: Journal | None = None) -> None:
        self.venue = venue
        self.feeds: dict[str, Feed] = {}
        self.links: list[Link] = []
        self.number = 0 if journal is None else journal.group(venue, account)
        self._planner = planner
        self._journal = journal

    def add(self, feed: Feed, canary: bool = False) -> None:
        """Subscribe to `feed`, now and after each reconnect; nobody sees what comes of a `canary`."""
        if self._journal is not None:
            self._journal.added(self.number, feed, canary)
        self.feeds[feed.traits.key] = feed
        for link in self.links:
            link.add(feed.traits.key)

    def remove(self, feed: Feed) -> None:
        """Unsubscribe from `feed`."""
        for link in self.links:
            link.remove(feed.traits.key)
        del self.feeds[feed.traits.key]
        if self._journal is not None:
            self._journal.removed(self.number, feed.traits.key)
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

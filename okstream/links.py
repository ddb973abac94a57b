"""Which links there are: one for each venue, path and account, made when a subscription first needs it."""

import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from . import rest
from .dialects import Refusal, load
from .dialects.signing import Credentials
from .feed import Delivery, Feed
from .ledger import Budget
from .link import Link, Spacing
from .session import Terms
from .venues import Venue


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
        proxy, tls: see Stream.
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


class Links:
    """The links of one stream. Connects to one host are spaced, whichever links make them."""

    def __init__(self, wiring: Wiring, accounts: Mapping[str, Credentials], start: Callable[[Link], None]) -> None:
        self._wiring = wiring
        self._accounts = accounts
        self._start = start
        self._links: dict[tuple[str, str, str | None], Link] = {}
        self._spacings: dict[str, Spacing] = {}
        self._budgets: dict[str, Budget] = {}

    def __len__(self) -> int:
        return len(self._links)

    @property
    def live(self) -> int:
        """How many are up, and logged in where they must be."""
        return sum(link.state == "live" for link in self._links.values())

    def get(self, venue: Venue, path: str, account: str | None) -> Link:
        """Return the link of `venue`, `path` and `account`; make and start it where there is none yet."""
        key = (venue.name, path, account)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = self._made(venue, path, account)
            self._start(link)
        return link

    def _made(self, venue: Venue, path: str, account: str | None) -> Link:
        wiring = self._wiring
        budget = Budget(venue.limits.requests)
        if venue.limits.requests_shared:
            budget = self._budgets.setdefault(venue.url, budget)
        credentials = self._accounts[account] if account else None
        return Link(
            " ".join([venue.name, path, *([account] if account else [])]),
            venue,
            path,
            Terms(load(venue.dialect), venue.limits, budget, credentials, wiring.cap, wiring.parsed, wiring.raw),
            account,
            deliver=wiring.deliver,
            settled=wiring.settled,
            spacing=self._spacings.setdefault(venue.url, Spacing(venue.limits.connects)),
            wall_ns=wiring.wall_ns,
            chance=wiring.chance,
            clock_offset=partial(rest.clock_offset, venue, wiring.wall_ns, wiring.proxy) if credentials else None,
            proxy=wiring.proxy,
            tls=wiring.tls,
        )

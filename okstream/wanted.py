"""What is subscribed to, and who waits for the exchange's answer."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from .channels import Subscription
from .dialects import Refusal, load
from .errors import ConfigError
from .feed import Delivery, Feed
from .links import Group, Links
from .records import Statement
from .statements import Statements, position
from .states import SubscriptionState
from .venues import Venue

log = logging.getLogger("okstream.link")


class Wanted:
    """
    What is subscribed to, and who waits for the exchange's answer.

    Args:
        statements: see Feed.
        parsed: whether anybody wants records.
        forget: told of each feed that has ended.
        keeps: whether somebody may come to need the levels of books.
    """

    def __init__(
        self,
        links: Links,
        statements: Statements,
        parsed: bool,
        forget: Callable[[Feed], None],
        keeps: Callable[[], bool],
    ) -> None:
        self.feeds: dict[tuple[str, Subscription], tuple[Feed, Group]] = {}
        self._links = links
        self._statements = statements
        self._parsed = parsed
        self._forget = forget
        self._keeps = keeps
        self._waiting: dict[Feed, set[asyncio.Future[Refusal | None]]] = {}
        self._answered = asyncio.Event()

    @property
    def all(self) -> list[Feed]:
        """The feeds of all subscriptions."""
        return [feed for feed, _ in self.feeds.values()]

    @property
    def states(self) -> list[SubscriptionState]:
        """What has become of each subscription."""
        return [
            SubscriptionState(*key, feed.state, feed.since, last.ts if last else None, position(last), feed.gap)
            for key, (feed, _) in self.feeds.items()
            for last in [feed.last]
        ]

    def book(self, venue: str, inst: str, channel: str) -> Feed:
        """Return the feed of a book; raises ConfigError where there is none."""
        for (place, sub), (feed, _) in self.feeds.items():
            if (place, sub.channel, sub.inst) == (venue, channel, inst):
                return feed
        raise ConfigError(f"{channel}:{inst} is not subscribed to at {venue}")

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
        if feed in self._links.canaries:
            return
        self._answered.set()
        waiters = self._waiting.pop(feed, None)
        if waiters is None:
            if refusal is not None:
                log.error("%s: %s is no longer served: %s", feed.venue, feed.sub, refusal)
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

    def keep(self, feed: Feed) -> None:
        """Have the levels of `feed` kept from now on."""
        before, journal = feed.keeping, self._links.wiring.journal
        feed.keep()
        if feed.keeping != before and journal is not None:
            journal.kept(self.feeds[feed.venue, feed.sub][1].number, feed.traits.key)

    def remove(self, feed: Feed) -> None:
        """Unsubscribe from `feed`."""
        _, group = self.feeds.pop((feed.venue, feed.sub))
        group.remove(feed)
        self._release(group)
        for other in list(group.feeds.values()):
            self._accompany(other, group)
        self._forget(feed)
        for waiter in self._waiting.pop(feed, ()):
            waiter.cancel()

    def end(self, feed: Feed) -> None:
        """Unsubscribe from `feed`, and say so: what is missing of it ends here, too."""
        wiring = self._links.wiring
        now = wiring.wall_ns()
        if wiring.journal is not None:
            wiring.journal.ended(self.feeds[feed.venue, feed.sub][1].number, feed.traits.key, now)
        wiring.deliver([ended(feed, now)])
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
        self._accompany(feed, group)
        return feed

    def _new(self, venue: Venue, sub: Subscription) -> Feed:
        return Feed(sub, venue.name, load(venue.dialect), self._statements, parsed=self._parsed, keeps=self._keeps())

    def _accompany(self, feed: Feed, group: Group) -> None:
        """Subscribe to the channel whose silence tells that `feed`, which may be silent for days, is cut off."""
        canary = feed.traits.canary
        if canary is None or not self._parsed or not self._links.canaries.isdisjoint(group.feeds.values()):
            return
        companion = self._new(group.venue, replace(canary, account=feed.sub.account))
        if companion.traits.key in group.feeds:
            return
        self._links.canaries.add(companion)
        self._links.group(group.venue, companion.traits, feed.sub.account)
        group.add(companion, canary=True)

    def _release(self, group: Group) -> None:
        """Leave no canary where there is nothing to watch over."""
        if all(feed in self._links.canaries for feed in group.feeds.values()):
            for feed in list(group.feeds.values()):
                group.remove(feed)
                self._links.canaries.discard(feed)


def ended(feed: Feed, now: int) -> Delivery:
    """Say that `feed` ends at the time `now` (ns)."""
    said: list[Statement] = []
    if feed.gap is not None:
        said.append(replace(feed.gap, recv=now, state="closed"))
        feed.gap = None
    return Delivery(feed, [*said, feed.status("ended", now)])

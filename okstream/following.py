"""Patterns that are subscribed to, and the instruments that they mean: listings come and go while a stream runs."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from .channels import Subscription
from .errors import ConfigError, RestError
from .links import Links
from .listings import Change, Listing
from .venues import Venue
from .wanted import Wanted

log = logging.getLogger("okstream.listings")

_RETRY = 5.0
_ASK_AGAIN = 30.0
_ASK_AGAIN_CAP = 600.0


class Following:
    """
    What each pattern means now.

    Args:
        start: runs what follows the listings of one venue, until the stream ends.
    """

    def __init__(self, links: Links, wanted: Wanted, start: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        self._links = links
        self._wanted = wanted
        self._start = start
        self._listings: dict[str, Listing] = {}
        self._patterns: dict[tuple[str, Subscription], set[Subscription]] = {}
        self.closed = False
        self._named: set[tuple[str, Subscription]] = set()

    def follows(self, venue: Venue, pattern: Subscription) -> bool:
        return (venue.name, pattern) in self._patterns

    def name(self, venue: Venue, sub: Subscription) -> None:
        """`sub` is wanted by its own name, whatever becomes of patterns that mean it, too."""
        self._named.add((venue.name, sub))

    def unname(self, venue: Venue, sub: Subscription) -> None:
        """`sub` is wanted by its own name no longer."""
        self._named.discard((venue.name, sub))

    def settle(self, venue: Venue, asked: Iterable[Subscription]) -> None:
        """Of `asked`, what did not come to be is wanted by its own name no longer."""
        for sub in asked:
            if (venue.name, sub) not in self._wanted.feeds:
                self.unname(venue, sub)

    async def resolved(self, venue: Venue, asked: Iterable[Subscription]) -> list[Subscription]:
        """Return what `asked` means, each once; raises as `resolve`."""
        subs: dict[Subscription, None] = {}
        for sub in asked:
            if not sub.is_pattern:
                self.name(venue, sub)
            subs.update(dict.fromkeys(await self.resolve(venue, sub) if sub.is_pattern else [sub]))
        return list(subs)

    async def resolve(self, venue: Venue, pattern: Subscription) -> list[Subscription]:
        """
        Return what `pattern` means at `venue`, and follow it from now on.

        Raises:
            ConfigError: it means nothing, or the venue cannot tell. RestRefusedError: it does not want to.
        """
        assert pattern.inst is not None
        listing = self._listing(venue)
        insts: list[str] = []
        while not self.closed:
            try:
                insts = await listing.resolve(pattern.inst)
                break
            except RestError as error:
                log.warning("%s: %s cannot be resolved yet: %s", venue.name, pattern, error)
                await asyncio.sleep(_RETRY)
        subs = [replace(pattern, inst=inst) for inst in insts]
        log.info("%s: %s means %d instruments", venue.name, pattern, len(subs))
        self._patterns[venue.name, pattern] = set(subs)
        return subs

    def end(self, venue: Venue, asked: Iterable[Subscription]) -> None:
        """
        Unsubscribe from what `asked` names and nothing else means.

        Raises:
            ConfigError: one is not subscribed to.
        """
        feeds, asked = self._wanted.feeds, list(asked)
        for sub in asked:
            if not sub.is_pattern and (venue.name, sub) not in feeds:
                raise ConfigError(f"{sub} is not subscribed to at {venue.name}")
        for sub in asked:
            self.unname(venue, sub)
            for each in self.forget(venue, sub) if sub.is_pattern else [sub]:
                if (venue.name, each) in feeds:
                    self._wanted.end(feeds[venue.name, each][0])

    def abandon(self, venue: Venue, patterns: Iterable[Subscription]) -> None:
        """Follow `patterns` no longer, as far as that had begun."""
        for pattern in patterns:
            if self.follows(venue, pattern):
                self.forget(venue, pattern)

    def forget(self, venue: Venue, pattern: Subscription) -> list[Subscription]:
        """
        Follow `pattern` no longer; return what it meant and nothing else does.

        Raises:
            ConfigError: it was not followed.
        """
        if (venue.name, pattern) not in self._patterns:
            raise ConfigError(f"{pattern} is not subscribed to at {venue.name}")
        subs = self._patterns.pop((venue.name, pattern))
        if not any(name == venue.name and other.inst == pattern.inst for name, other in self._patterns):
            assert pattern.inst is not None
            self._listings[venue.name].forget(pattern.inst)
        return [sub for sub in subs if not self._meant(venue, sub)]

    def _listing(self, venue: Venue) -> Listing:
        if venue.name not in self._listings:
            rest = self._links.rest(venue)
            if rest is None:
                raise ConfigError(
                    f"{venue.name} cannot be asked over REST what patterns mean; is the proxy an HTTP one?"
                )
            listing = self._listings[venue.name] = Listing(rest)
            self._start(listing.follow(partial(self._changed, venue)), f"listings of {venue.name}")
        return self._listings[venue.name]

    async def _changed(self, venue: Venue, change: Change) -> None:
        for (name, pattern), subs in list(self._patterns.items()):
            if name != venue.name or pattern.inst != change.pattern:
                continue
            for inst in change.removed:
                sub = replace(pattern, inst=inst)
                subs.discard(sub)
                known = self._wanted.feeds.get((venue.name, sub))
                if known is not None and not self._meant(venue, sub):
                    log.info("%s: %s is listed no longer", venue.name, sub)
                    self._wanted.end(known[0])
            added = [replace(pattern, inst=inst) for inst in change.added]
            if added:
                log.info("%s: %s now means %s, too", venue.name, pattern, ", ".join(change.added))
                subs.update(added)
                for sub in added:
                    self._start(self._subscribe(venue, sub), f"new listing {sub}")

    async def _subscribe(self, venue: Venue, sub: Subscription) -> None:
        """Subscribe to what is listed anew; what is listed may be served a little later only."""
        wait = 0.0
        while not self.closed and self._meant(venue, sub):
            try:
                _, refused = await self._wanted.ask(venue, [sub])
            except ConfigError as error:
                log.error("%s: %s is not subscribed to: %s", venue.name, sub, error)
                return
            if not refused:
                return
            if not wait:
                why = next(iter(refused.values())).message
                log.error("%s: %s is not served: %s; asking on, more slowly", venue.name, sub, why)
            wait = min(2 * wait, _ASK_AGAIN_CAP) if wait else _ASK_AGAIN
            await asyncio.sleep(wait)

    def _meant(self, venue: Venue, sub: Subscription) -> bool:
        named = (venue.name, sub) in self._named
        return named or any(name == venue.name and sub in subs for (name, _), subs in self._patterns.items())

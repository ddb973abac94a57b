"""
What one session does about silence: connected is not flowing.

Resubscribe, then replace the link, then say so to whoever operates it, again and again ever more slowly. Rest is asked
by the link; here is only what to ask about, and what to make of the answer.
"""

from collections.abc import Callable, Mapping

from ..feed import Delivery
from ..feed.source import Source
from ..freshness import Pace, Watch

EVERY = 1.0
"""Seconds between two looks."""

_NS = 1_000_000_000
_FROZEN = 5.0
_JUMP = 2.0
_WELL = 10 * _NS
_MUTE = 60.0
_MUTE_CAP = 3600.0
_SUSPICIOUS = 10.0
_OFTEN = 50
"""How many times the usual silence between two messages is a suspicious one."""

_SLOWER = 15
_DOUBLINGS = 10
_SLOWEST = 3600


class Oversight:
    """
    Looks after the sources of one connection.

    `probes` are those of which REST is to be asked whether it shows something newer; `leaving` says why the connection
    should be replaced; `alarms` are for people.

    Args:
        sources: by key; shared with the session.
        heal: asks for one anew.
        asks: whether there is a REST interface to ask.
        now, recv: when the connection was opened, seconds and wall clock in ns.
    """

    def __init__(
        self, sources: Mapping[str, Source], heal: Callable[[Source], None], asks: bool, now: float, wall: int
    ) -> None:
        self.leaving: str | None = None
        self._mute: int | None = None
        self.probes: list[Source] = []
        self.alarms: list[str] = []
        self.next = now + EVERY
        self._sources = sources
        self._heal = heal
        self._asks = asks
        self._watch = Watch(asks)
        self._opened = now
        self._looked = now
        self._wall = self._spoke = wall
        self._said = 0

    @property
    def messages(self) -> int:
        """How many messages with data came; acknowledgements are none."""
        return sum(source.messages for source in self._sources.values())

    @property
    def mute(self) -> bool:
        """Whether all of it was found silent, and has been since."""
        return self._mute == self.messages

    @property
    def speaks(self) -> bool:
        """Whether it brings more than what is there right after a subscription, or what no other has brought."""
        return any(source.speaks for source in self._sources.values())

    def look(self, now: float, wall: int) -> list[Delivery]:
        """Judge the silence of each subscription; return what is to be said."""
        self.next = now + EVERY
        elapsed, jumped = now - self._looked, (wall - self._wall) / _NS - (now - self._looked)
        self._looked, self._wall = now, wall
        if self._said != self.messages:
            self._said, self._spoke = self.messages, wall
        if elapsed > _FROZEN or abs(jumped) > _JUMP:
            # We stood still, or the clock was set: what waits in the socket has not had its chance to be heard.
            for source in self._sources.values():
                source.reset(wall)
            self._spoke = wall
            return []
        paced = [(source, pace) for source in self._sources.values() if (pace := self._pace(source)) is not None]
        for source, _ in paced:
            if source.flowing and wall - source.heard < _WELL:
                if source.messages > 1:  # the first comes whenever it is asked for
                    source.feed.mute_times = 0
                if source.messages > 1 and wall - source.feed.since > 6 * _WELL:
                    source.feed.stale_times = 0
        stale, suspects = self._watch.look(
            [(source.key, pace, source.heard, source.flowing) for source, pace in paced], wall
        )
        self.probes += [self._sources[key] for key in suspects]
        if stale:
            return self._act([self._sources[key] for key in stale], len(paced), wall)
        if not self._asks:
            self._look_for_life([source for source, _ in paced], wall)
        return []

    def answered(self, source: Source, newer: bool, wall: int) -> None:
        """REST was asked about `source`."""
        self._watch.answered(source.key, newer, wall)

    def forget(self, key: str) -> None:
        """`key` is unsubscribed from."""
        self._watch.forget(key)

    def _pace(self, source: Source) -> Pace | None:
        if not (source.flowing or source.acknowledged) or source.feed.state == "refused":
            return None
        return source.feed.traits.pace if source.feed.parsed else None

    def _act(self, stale: list[Source], paced: int, wall: int) -> list[Delivery]:
        canary = any(_is_canary(source) for source in stale)
        # By data alone: an acknowledgement gives its own subscription time, but shows nothing of the connection.
        all_silent = paced > 1 and wall - self._spoke >= _WELL
        leaves = (canary or all_silent) and all(wall >= source.feed.quiet_until for source in stale)
        if leaves:
            self.leaving, self._mute = "connected, but no data comes", self.messages
        if leaves or canary:  # another connection was just replaced for the same; what this one missed is missing, too
            for source in self._sources.values():
                source.doubt()
            stale = [source for source in self._sources.values() if canary or source in stale]
        deliveries: list[Delivery] = []
        for source in stale:
            deliveries += self._one(source, wall)
        return deliveries

    def _one(self, source: Source, wall: int) -> list[Delivery]:
        feed = source.feed
        times, feed.stale_times = feed.stale_times, feed.stale_times + 1
        silence = (wall - source.heard) / _NS
        self._watch.forget(source.key)
        deliveries = source.lose("stale", wall, "stale", {"silent": round(silence, 1)})
        if times % 2 and self.leaving is None and wall >= feed.quiet_until:
            self.leaving = f"{self._called(source)} stays silent though it was asked for anew"
        if self.leaving is None:
            self._heal(source)
        elif wall >= feed.quiet_until:
            feed.quiet_until = wall + min(_SLOWER * 2 ** min(times, _DOUBLINGS), _SLOWEST) * _NS
        if times >= 2:
            self.alarms.append(f"{self._called(source)} stays silent on a new connection, too; trying on, more slowly")
        return deliveries

    def _called(self, source: Source) -> str:
        """Return what people know `source` by; they need not have asked for what watches over others."""
        watched = [
            str(other.feed.sub)
            for other in self._sources.values()
            if other is not source
            and other.feed.traits.canary is not None
            and other.feed.traits.canary.channel == source.feed.sub.channel
        ]
        why = f" (it shows whether {', '.join(watched)} can come)" if watched else ""
        return f"{source.feed.sub}{why}"

    def _look_for_life(self, paced: list[Source], wall: int) -> None:
        """Without anything to ask: a connection on which all is silent is replaced, ever more seldom."""
        flowing = [source for source in paced if source.flowing]
        if not flowing or self.leaving is not None:
            return
        feed = min(flowing, key=lambda source: source.key).feed
        usual = (self._looked - self._opened) / max(1, sum(source.messages for source in flowing))
        wait = min(max(_SUSPICIOUS, min(_MUTE, _OFTEN * usual)) * 2 ** min(feed.mute_times, _DOUBLINGS), _MUTE_CAP)
        if all(wall - source.heard >= wait * _NS for source in flowing):
            feed.mute_times += 1
            self.leaving, self._mute = f"nothing came for {wait:.0f} s", self.messages
            for source in self._sources.values():
                source.doubt()


def _is_canary(source: Source) -> bool:
    """Whether this is the channel that speaks for all of its account."""
    canary = source.feed.traits.canary
    return canary is not None and canary.channel == source.feed.sub.channel

"""
Which times of a subscription are complete and which are not, by what its records and gaps say. No I/O.

All times are `recv`, ns. What is complete reaches from one record to another with nothing missing between them. What
may be missing lies between the last record before it and the first after it. The times of one subscription are without
holes: each belongs to something complete or to something that is not; an incomplete one may have no length, where two
records came at once and something is missing between them.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Subscription = tuple[str, str, str | None, str | None]
"""Venue, channel, instrument, account."""

OVERLAP = 1_000_000_000
"""How long, ns, two sources have to be complete together for one to go on where the other ends: clocks differ."""

_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """From `since` to `until`, ns, both records; if not `complete`, then for these `reasons`, and by these `gaps`."""

    since: int
    until: int
    complete: bool
    reasons: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


@dataclass(slots=True)
class Stretch:
    """Records with nothing said between them."""

    at: int
    until: int
    records: int = 1


@dataclass(frozen=True, slots=True)
class Said:
    """A gap that was stated."""

    at: int
    gap: str
    state: str
    reason: str
    after_ts: int | None = None
    lost: int | None = None

    @property
    def instance(self) -> str:
        """The process that stated it."""
        return self.gap.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Broken:
    """Between what is before and what is after `at` something may be missing: at least until `until`."""

    at: int
    until: int
    reason: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """Another run begins: what was open in the one before is over, and what happened between them nobody saw."""

    at: int
    told: bool = False
    """Whether the run says itself, with a gap of reason `start`, what was missed before it."""


Item = Stretch | Said | Broken | Restarted


@dataclass(slots=True)
class Part:
    """What one file tells, by subscription: give it the file's records in their order."""

    items: defaultdict[Subscription, list[Item]] = field(default_factory=lambda: defaultdict(list))
    first: int | None = None
    last: int = 0

    def take(self, record: Mapping[str, Any]) -> None:
        """Add one record; what is the exchange's own text, or none at all, is passed over."""
        kind, recv, venue, channel = (record.get(name) for name in ("type", "recv", "venue", "channel"))
        if not isinstance(kind, str) or type(recv) is not int or not isinstance(venue, str):
            return
        self.first = recv if self.first is None else min(self.first, recv)
        self.last = max(self.last, recv)
        if kind == "status":
            if record.get("state") == "started" and channel is None:
                self.restarted(recv)
            return
        if not isinstance(channel, str):
            return
        items = self.items[venue, channel, record.get("inst"), record.get("account")]
        if kind == "gap":
            gap, state, reason = (str(record.get(name)) for name in ("gap", "state", "reason"))
            items.append(Said(recv, gap, state, reason, record.get("after_ts"), record.get("lost")))
        elif items and type(stretch := items[-1]) is Stretch:
            stretch.until = max(stretch.until, recv)
            stretch.records += 1
        else:
            items.append(Stretch(recv, recv))

    def restarted(self, at: int) -> None:
        """Another run begins here."""
        for items in self.items.values():
            items.append(Restarted(at))

    def begun(self, subs: Iterable[Subscription]) -> None:
        """Of `subs`, the whole part is of another run than what was before."""
        for sub in subs:
            if items := self.items.get(sub):
                items.insert(0, Restarted(items[0].at))

    def broken(self, reason: str) -> None:
        """Behind what was taken something may be missing."""
        for items in self.items.values():
            last = items[-1]
            end = last.until if isinstance(last, Stretch | Broken) else last.at
            items.append(Broken(end, end, reason))

    def detached(self, reason: str, sub: Subscription | None = None) -> None:
        """Before what was taken, of all subscriptions or one, something may be missing."""
        for whose, items in self.items.items():
            if sub in {None, whose}:
                items.insert(0, Broken(items[0].at, items[0].at, reason))


@dataclass(slots=True)
class Covered:
    """What is known of one subscription."""

    sub: Subscription
    records: int
    intervals: list[Interval]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return all(interval.complete for interval in self.intervals)


def coverage(sources: Mapping[str, Sequence[Part]]) -> list[Covered]:
    """
    Return what is covered, by subscription, of all that has records or gaps.

    Args:
        sources: by a name, the parts that one sink wrote, whatever their order. What one source lacks another may have.
    """
    found: defaultdict[Subscription, list[list[Interval]]] = defaultdict(list)
    records: defaultdict[Subscription, int] = defaultdict(int)
    for parts in sources.values():
        items: defaultdict[Subscription, list[Item]] = defaultdict(list)
        for part in parts:
            for sub, these in part.items.items():
                items[sub] += these
        end = max((part.last for part in parts), default=0)
        shared = _shared(items)
        for sub, these in items.items():
            venue, channel, inst, account = sub
            if inst is not None:
                these = these + shared[venue, channel, account]
            elif not any(isinstance(item, Stretch) for item in these) and _others(items, sub):
                continue  # it is about those that have an instrument, and said of each of them
            if lasting := intervals(these, end):
                found[sub].append(lasting)
                records[sub] += sum(item.records for item in these if isinstance(item, Stretch))
    return [Covered(sub, records[sub], stitched(each)) for sub, each in sorted(found.items(), key=_order)]


def _order(item: tuple[Subscription, Any]) -> tuple[str, ...]:
    return tuple(part or "" for part in item[0])


def _shared(items: Mapping[Subscription, Sequence[Item]]) -> defaultdict[tuple[str, str, str | None], list[Item]]:
    """Return what is said of all instruments of a channel."""
    shared: defaultdict[tuple[str, str, str | None], list[Item]] = defaultdict(list)
    for (venue, channel, inst, account), these in items.items():
        if inst is None:
            shared[venue, channel, account] += [item for item in these if isinstance(item, Said)]
    return shared


def _others(items: Mapping[Subscription, Sequence[Item]], sub: Subscription) -> bool:
    venue, channel, _, account = sub
    return any(one != sub and (one[0], one[1], one[3]) == (venue, channel, account) for one in items)


class _Walk:
    """Goes through the items of one subscription in order of time."""

    def __init__(self) -> None:
        self.made: list[Interval] = []
        self.cursor: int | None = None  # the last record
        self._since: int | None = None  # the first record of what is complete
        self._begin: int | None = None  # the first that was heard of what is not
        self._reach = 0
        self._reasons: dict[str, None] = {}
        self._gaps: dict[str, None] = {}
        self._open: dict[str, Said] = {}
        self._told: set[tuple[str, str]] = set()
        self._restarted = False

    def take(self, item: Item) -> None:
        """Meet the next item."""
        match item:
            case Stretch():
                self._records(item)
            case Said():
                self._say(item)
            case Broken():
                self._doubt(item.at, item.reason)
                self._reach = max(self._reach, item.until)
            case Restarted():
                self._open.clear()
                self._restarted = self.cursor is not None and not item.told

    def end(self, at: int) -> list[Interval]:
        """Return what was found; what is open now lasts until `at`."""
        if self._open:
            self._reach = max(self._reach, at)
        if self._reasons:
            begins = self.cursor if self.cursor is not None else self._begin
            assert begins is not None
            self._incomplete(begins, max(begins, self._reach))
        elif self._since is not None and self.cursor is not None:
            self.made.append(Interval(self._since, self.cursor, True))
        return self.made

    def _records(self, stretch: Stretch) -> None:
        since = stretch.at if self.cursor is None else max(stretch.at, self.cursor)
        since = max(since, self._reach if self._reasons else 0)
        until = max(stretch.until, since)
        if self._restarted and not self._reasons:
            self._doubt(since, "restart")
        self._restarted = False
        if self._open:  # what comes while a gap is open proves nothing
            self._reach = max(self._reach, until)
            return
        if self._reasons:
            begins = self.cursor if self.cursor is not None else self._begin
            assert begins is not None
            self._incomplete(min(begins, since), since)
        if self._since is None:
            self._since = since
        self.cursor = until

    def _say(self, said: Said) -> None:
        if (said.gap, said.state) in self._told:
            return
        self._told.add((said.gap, said.state))
        for gap in [gap for gap, one in self._open.items() if one.instance != said.instance]:
            del self._open[gap]  # its process is gone
        if said.state == "open":
            if (said.gap, "closed") not in self._told:
                self._open[said.gap] = said
        else:
            self._open.pop(said.gap, None)
        early = said.at if said.after_ts is None else min(said.at, said.after_ts * _MS)
        self._doubt(early, said.reason)
        self._gaps[said.gap] = None
        self._reach = max(self._reach, said.at)

    def _doubt(self, at: int, reason: str) -> None:
        """From the last record on something may be missing."""
        if self._since is not None:
            assert self.cursor is not None
            self.made.append(Interval(self._since, self.cursor, True))
            self._since = None
        if self._begin is None:
            self._begin = at
        self._reasons[reason] = None

    def _incomplete(self, since: int, until: int) -> None:
        self.made.append(Interval(since, until, False, tuple(self._reasons), tuple(self._gaps)))
        self._reasons.clear()
        self._gaps.clear()
        self._begin, self._reach = None, 0


def intervals(items: Iterable[Item], end: int) -> list[Interval]:
    """
    Return the intervals of what one source says of one subscription, in order, each beginning where the last ended.

    Args:
        end: until when the source went on, ns: what is open then lasts until there.
    """
    ordered = sorted(items, key=lambda item: item.at)
    harmless = {
        item.gap for item in ordered if isinstance(item, Said) and (item.lost == 0 or item.state == "recovered")
    }
    walk = _Walk()
    for item in _told(ordered):
        if not isinstance(item, Said) or item.gap not in harmless:
            walk.take(item)
    return walk.end(end)


def _told(items: Iterable[Item]) -> list[Item]:
    made: list[Item] = []
    at: int | None = None
    for item in items:
        if isinstance(item, Restarted):
            at = len(made)
        elif at is not None and isinstance(item, Said) and item.reason == "start":
            made[at] = Restarted(made[at].at, told=True)
        made.append(item)
    return made


def stitched(sources: Sequence[Sequence[Interval]]) -> list[Interval]:
    """Return what several sources of one subscription have together: complete is what is complete in one of them."""
    if len(sources) == 1:
        return list(sources[0])
    whole = [[one for one in source if one.complete] for source in sources]
    begins = min(source[0].since for source in sources)
    ends = max(source[-1].until for source in sources)
    made: list[tuple[int, int]] = []
    at = begins - 1
    while (following := _following(whole, at)) is not None:
        since, until = following
        if made and since < made[-1][1]:  # they overlap, and for too short a time
            made[-1], since = (made[-1][0], since), made[-1][1]
        while (further := _further(whole, until)) > until:
            until = further
        made.append((since, until))
        at = until
    return _filled(made, begins, ends, [one for source in sources for one in source if not one.complete])


def _following(whole: Sequence[Sequence[Interval]], at: int) -> tuple[int, int] | None:
    """Return the first that ends after `at`, of those that begin first the longest."""
    ahead = []
    for source in whole:
        index = bisect_right(source, at, key=lambda one: one.until)
        if index < len(source):
            ahead.append((source[index].since, -source[index].until))
    return (min(ahead)[0], -min(ahead)[1]) if ahead else None


def _further(whole: Sequence[Sequence[Interval]], until: int) -> int:
    """Return how far another source goes on that was complete for long enough before `until`."""
    furthest = until
    for source in whole:
        index = bisect_right(source, until - OVERLAP, key=lambda one: one.since) - 1
        if index >= 0:
            furthest = max(furthest, source[index].until)
    return furthest


def _filled(made: Sequence[tuple[int, int]], begins: int, ends: int, missing: Sequence[Interval]) -> list[Interval]:
    """Return the complete ones `made`, with what is not between them, and why."""
    result: list[Interval] = []

    def lacking(since: int, until: int) -> Interval:
        why = [one for one in missing if one.since <= until and one.until >= since]
        reasons = tuple(dict.fromkeys(reason for one in why for reason in one.reasons)) or ("absent",)
        return Interval(since, until, False, reasons, tuple(dict.fromkeys(gap for one in why for gap in one.gaps)))

    at = begins
    for since, until in made:
        if since > at or result:
            result.append(lacking(at, since))
        result.append(Interval(since, until, True))
        at = until
    if ends > at or not made:
        result.append(lacking(at, ends))
    return result

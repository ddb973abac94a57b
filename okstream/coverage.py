"""
Which times of a subscription are complete and which are not, by what its records and gaps say. No I/O.

All times are `recv`, ns. What is complete reaches from one record to another with nothing missing between them. What
may be missing lies between the last record before it and the first after it. The times of one subscription are without
holes: each belongs to something complete or to something that is not; an incomplete one may have no length, where two
records came at once and something is missing between them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .stitching import Interval, stitched

Subscription = tuple[str, str, str | None, str | None]
"""Venue, channel, instrument, account."""

_MS = 1_000_000
_NAME = (str, type(None))
_HEAD: dict[str, Any] = {"type": str, "recv": int, "venue": str, "channel": object, "inst": _NAME, "account": _NAME}


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


@dataclass(frozen=True, slots=True)
class Served:
    """The subscription is `live` from now on, or has ended: what was open is over, what opens then does not last."""

    at: int
    live: bool


Item = Stretch | Said | Broken | Restarted | Served


@dataclass(slots=True)
class Part:
    """What one file tells, by subscription: give it the file's records in their order. `served` were live once."""

    items: defaultdict[Subscription, list[Item]] = field(default_factory=lambda: defaultdict(list))
    first: int | None = None
    last: int = 0
    served: set[Subscription] = field(default_factory=set)
    _turns: dict[Subscription, Served] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """Add one record; what is the exchange's own text, or none at all, is passed over."""
        head: Any = [record.get(name) for name in _HEAD]
        kind, recv, venue, channel, inst, account = head
        if type(recv) is not int or not all(map(isinstance, head, _HEAD.values())):
            return
        self.first = recv if self.first is None else min(self.first, recv)
        self.last = max(self.last, recv)
        if kind == "status":
            if record.get("state") == "started" and channel is None:
                self.restarted(recv)
            elif record.get("state") in ("live", "ended") and isinstance(channel, str):
                self._turn((venue, channel, inst, account), recv, record["state"] == "live")
            return
        if not isinstance(channel, str):
            return
        sub = (venue, channel, inst, account)
        items = self.items.get(sub) or self._first_of(sub)
        if kind == "gap":
            gap, state, reason = (str(record.get(name)) for name in ("gap", "state", "reason"))
            said = Said(recv, gap, state, reason, record.get("after_ts"), record.get("lost"))
            for one in self._group(sub) if sub[2] is None else (items,):
                one.append(said)
        elif items and type(stretch := items[-1]) is Stretch:
            stretch.until = max(stretch.until, recv)
            stretch.records += 1
        else:
            items.append(Stretch(recv, recv))

    def _turn(self, sub: Subscription, at: int, live: bool) -> None:
        """`sub` is live, or has ended; where nothing came or was said of it yet, that is kept until something does."""
        if live:
            self.served.add(sub)
        turn = self._turns[sub] = Served(at, live)
        for items in self._group(sub) if sub[2] is None else filter(None, (self.items.get(sub),)):
            items.append(turn)

    def _group(self, sub: Subscription) -> list[list[Item]]:
        """Return the items of all that a gap without an instrument is about."""
        venue, channel, _, account = sub
        return [these for one, these in self.items.items() if (one[0], one[1], one[3]) == (venue, channel, account)]

    def _first_of(self, sub: Subscription) -> list[Item]:
        """Something comes of `sub` for the first time; what was said of all instruments is about it, too."""
        venue, channel, inst, account = sub
        all_of_it = venue, channel, None, account
        shared = self.items.get(all_of_it, ()) if inst is not None else ()
        turn = self._turns.get(sub) or self._turns.get(all_of_it)
        items = self.items[sub] = [turn] if turn is not None and not shared else []
        items += [item for item in shared if isinstance(item, Said | Served)]
        return items

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
        """Whether there is something, and nothing is missing."""
        return bool(self.intervals) and all(interval.complete for interval in self.intervals)


def coverage(sources: Mapping[str, Sequence[Part]]) -> list[Covered]:
    """
    Return what is covered, by subscription, of all that has records or gaps.

    Args:
        sources: by a name, the parts that one sink wrote, whatever their order. What one source lacks another may have.
    """
    found: defaultdict[Subscription, list[list[Interval]]] = defaultdict(list)
    records: defaultdict[Subscription, int] = defaultdict(int)
    for parts in sources.values():
        items: defaultdict[Subscription, list[list[Item]]] = defaultdict(list)
        for part in parts:
            for sub, these in part.items.items():
                items[sub].append(these)
        end = max((part.last for part in parts), default=0)
        shared = _shared(items)
        for sub, each in items.items():
            venue, channel, inst, account = sub
            count = sum(item.records for these in each for item in these if isinstance(item, Stretch))
            if inst is not None:
                each = [*each, *shared[venue, channel, account]]
            elif not count and _others(items, sub):
                continue  # it is about those that have an instrument, and said of each of them
            if lasting := intervals(each, end):
                found[sub].append(lasting)
                records[sub] += count
    return [Covered(sub, records[sub], stitched(each)) for sub, each in sorted(found.items(), key=_order)]


def _order(item: tuple[Subscription, Any]) -> tuple[str, ...]:
    return tuple(part or "" for part in item[0])


_Group = tuple[str, str, str | None]


def _shared(items: Mapping[Subscription, Sequence[Sequence[Item]]]) -> defaultdict[_Group, list[list[Item]]]:
    """Return what is said of all instruments of a channel."""
    shared: defaultdict[_Group, list[list[Item]]] = defaultdict(list)
    for (venue, channel, inst, account), each in items.items():
        if inst is None:
            for these in each:
                shared[venue, channel, account].append([item for item in these if isinstance(item, Said | Served)])
    return shared


def _others(items: Mapping[Subscription, Any], sub: Subscription) -> bool:
    venue, channel, _, account = sub
    return any(one != sub and (one[0], one[1], one[3]) == (venue, channel, account) for one in items)


class _Walk:
    """Goes through the items of one subscription in order of time."""

    def __init__(self) -> None:
        self.made: list[Interval] = []
        self.cursor: int | None = None  # the last record
        self._since: int | None = None  # the first record of what is complete
        self._begin: int | None = None  # the first that was heard of what is not
        self._reach = 0  # nothing before that counts
        self._heard = 0  # the last that was said
        self._reasons: dict[str, None] = {}
        self._gaps: dict[str, None] = {}
        self._open: dict[str, Said] = {}
        self._told: set[tuple[str, str]] = set()
        self._restarted = self._ended = False

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
                self._told -= {(gap, "open") for gap in self._open}  # said again, it is open again
                self._open.clear()
                self._ended = False
                self._restarted = self.cursor is not None and not item.told
            case Served(live=True):
                self._resumed(item.at)
            case Served():
                self._ended = True
                self._open.clear()

    def end(self, at: int) -> list[Interval]:
        """Return what was found; what is open now lasts until `at`."""
        self._reach = max(self._reach, at if self._open else 0)
        if self._reasons:
            begins = self.cursor if self.cursor is not None else self._begin
            assert begins is not None
            self._incomplete(begins, max(begins, self._reach, self._heard))
        elif self._since is not None and self.cursor is not None:
            self.made.append(Interval(self._since, self.cursor, True))
        return self.made

    def _records(self, stretch: Stretch) -> None:
        self._resumed(stretch.at)
        since = stretch.at if self.cursor is None else max(stretch.at, self.cursor)
        since = max(since, self._reach if self._reasons else 0)
        until = max(stretch.until, since)
        if self._restarted and not self._reasons:
            self._doubt(since, "restart")
        self._restarted = False
        if self._begin is not None:
            self._begin = min(self._begin, stretch.at)
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

    def _resumed(self, at: int) -> None:
        """It goes on; if it had ended, nobody asked for what came in between."""
        if self._ended and self.cursor is not None:
            self._doubt(at, "ended")
            self._reach = max(self._reach, at)
        self._ended = False

    def _say(self, said: Said) -> None:
        if (said.gap, said.state) in self._told:
            return
        self._told.add((said.gap, said.state))
        for gap in [gap for gap, one in self._open.items() if one.instance != said.instance]:
            del self._open[gap]  # its process is gone
        if said.state == "open":
            self._ended = self._ended and said.reason != "start"  # that is of the next run, which is about to be live
            if not self._ended and (said.gap, "closed") not in self._told:
                self._open[said.gap] = said
        else:
            self._open.pop(said.gap, None)
        early = min(said.at, said.after_ts * _MS) if type(said.after_ts) is int else said.at
        self._doubt(early, said.reason)
        self._gaps[said.gap] = None
        self._heard = max(self._heard, said.at)

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
        self._begin, self._reach, self._heard = None, 0, 0


def intervals(parts: Iterable[Sequence[Item]], end: int) -> list[Interval]:
    """
    Return the intervals of what one source says of one subscription, in order, each beginning where the last ended.

    Args:
        parts: what each of its files says, in the order in which it is there.
        end: until when the source went on, ns: what is open then lasts until there.
    """
    ordered = _in_order(parts)
    harmless = {
        item.gap for item in ordered if isinstance(item, Said) and (item.lost == 0 or item.state == "recovered")
    }
    walk = _Walk()
    for item in _told(ordered):
        if not isinstance(item, Said) or item.gap not in harmless:
            walk.take(item)
    return walk.end(end)


def _in_order(parts: Iterable[Sequence[Item]]) -> list[Item]:
    """
    Return all items in the order in which they were written.

    Within a file that is how they stand there: what is said of data that had to wait is younger than the data. Files
    of other times follow each other; of those of the same time (parted by type) the times alone tell.
    """
    keyed: list[tuple[int, int, int, Item]] = []
    newest = latest = 0
    for number, part in enumerate(sorted(filter(None, parts), key=lambda part: _data(part)[0])):
        first, last = _data(part)
        floor = latest if first >= newest else 0
        newest = max(newest, last)
        for index, item in enumerate(part):
            floor = max(floor, item.at)
            keyed.append((floor, number, index, item))
        latest = max(latest, floor)
    keyed.sort(key=lambda one: one[:3])
    return [item for _, _, _, item in keyed]


def _data(part: Sequence[Item]) -> tuple[int, int]:
    """Return the times of the first and the last data of a part; where it has none, of what it says."""
    data = [item for item in part if isinstance(item, Stretch)]
    if not data:
        return part[0].at, max(item.at for item in part)
    return min(item.at for item in data), max(item.until for item in data)


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

"""Which file a record goes to, and which files a statement is about."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from okstream.entries import Entry

from .names import Template
from .segment import Segment
from .tally import Key

Subscription = tuple[str, str | None, str | None, str | None]
"""Venue, channel, instrument and account."""

_ALWAYS = (float("-inf"), float("inf"))


class Route:
    """
    What goes to one path, whatever the time: `values` of venue, channel, inst, account and type, None where the path
    does not tell them apart. `segment` is the present one, for times from `begins` to `ends`; `live` has all by when
    they begin; `subs` are whose records go here.
    """

    __slots__ = ("begins", "ends", "live", "segment", "subs", "values")

    def __init__(self, values: Key) -> None:
        self.values = values
        self.segment: Segment | None = None
        self.begins = self.ends = 0.0
        self.live: dict[float, Segment] = {}
        self.subs: set[Subscription] = set()

    def forget(self, segment: Segment) -> None:
        """`segment` takes no more."""
        for begins in [begins for begins, one in self.live.items() if one is segment]:
            del self.live[begins]
        if self.segment is segment:
            self.segment = None
            self.begins = self.ends = 0.0


class Routes:
    """All routes of one template."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._told = [name in template.fields for name in ("venue", "channel", "inst", "account", "type")]
        self.of: dict[Key, Route] = {}
        self._by_values: dict[Key, Route] = {}
        self._data: defaultdict[Subscription, set[Route]] = defaultdict(set)
        self._group: defaultdict[tuple[str, str | None, str | None], set[Key]] = defaultdict(set)

    def add(self, whose: Key) -> Route:
        """Return the route of the data records of `whose`."""
        route = self.of[whose] = self._route(whose)
        venue, channel, inst, account, _ = whose
        sub = (venue, channel, inst, account)
        route.subs.add(sub)
        self._data[sub].add(route)
        self._group[venue, channel, account].add(whose)
        return route

    def forget(self, said: Key, quiet: Callable[[Key], bool]) -> None:
        """A gap of all instruments, as `said`, is not about those that are `quiet`, until something comes of them."""
        group = self._group.get((said[0], said[1], said[3]), set())
        for whose in [one for one in group if quiet(one)]:
            segment = self.of[whose].segment
            if segment is None or segment.flush is None:
                group.discard(whose)
                del self.of[whose]

    def stated(self, whose: Key) -> set[Route]:
        """
        Return the routes of a statement: its own, and of a gap also those of all data that it is about. A gap without
        an instrument is about all instruments.
        """
        venue, channel, inst, account, kind = whose
        own = self._route(whose)
        sub = (venue, channel, inst, account)
        own.subs.add(sub)
        if kind != "gap":
            return {own}
        subs = (
            {sub} if inst is not None else {sub, *(one[:4] for one in self._group.get((venue, channel, account), ()))}
        )
        return {own}.union(*(self._data.get(one, set()) for one in subs))

    def bounds(self, recv: int) -> tuple[float, float]:
        """Return from when to when a path is current, ns."""
        if (period := self._template.period) is None:
            return _ALWAYS
        begins = recv // period * period
        return begins, begins + period

    def path(self, route: Route, begins: float) -> str:
        """Return the path of `route` in the period that `begins` then."""
        return self._template.path(route.values, 0 if begins == _ALWAYS[0] else int(begins))

    def _route(self, whose: Key) -> Route:
        told = self._told
        venue, channel, inst, account, kind = whose
        values = (
            venue if told[0] else "",
            channel if told[1] else None,
            inst if told[2] else None,
            account if told[3] else None,
            kind if told[4] else "",
        )
        route = self._by_values.get(values)
        if route is None:
            route = self._by_values[values] = Route(values)
        return route


class OpenGaps:
    """The gaps that are open now, to be told again at the beginning of each file that they reach into."""

    def __init__(self) -> None:
        self._open: defaultdict[Subscription, dict[str, Entry]] = defaultdict(dict)
        self._ended: set[Subscription] = set()

    def take(self, entry: Entry) -> None:
        """A statement was met."""
        about = entry.about
        sub = (about.venue, about.channel, about.inst, getattr(about, "account", None))
        if about.type == "gap":
            gap, state = entry.identity.rsplit(":", 1)
            if state == "open":
                self._open[sub][gap] = entry
            elif sub in self._open:
                self._open[sub].pop(gap, None)
            return
        status = entry.fields.get("state")
        if status == "started" and about.channel is None:
            self._ended.clear()  # what is said then of the time before it is over when data comes
        elif status == "ended":
            self._open.pop(sub, None)  # nothing more comes, and nothing is missing after that
            self._ended.add(sub)
        elif status == "live" and sub in self._ended:
            self._open.pop(sub, None)  # what was said behind the end
            self._ended.discard(sub)

    def about(self, subs: Iterable[Subscription]) -> list[Entry]:
        """Return those about any of `subs`, in the order in which they were opened."""
        found: dict[str, Entry] = {}
        for venue, channel, inst, account in subs:
            for sub in {(venue, channel, inst, account), (venue, channel, None, account)}:
                if sub in self._open:
                    found |= self._open[sub]
        return sorted(found.values(), key=lambda entry: entry.recv)

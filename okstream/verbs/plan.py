"""What would be asked for, and over which links, without a connection."""

from okstream import venues
from okstream.channels import Subscription
from okstream.config.outputs import Output
from okstream.dialects import load
from okstream.errors import ConfigError
from okstream.options import MIB, LaneOptions
from okstream.patterns import kinds
from okstream.planner import Planner
from okstream.rest import shown
from okstream.sinks import Sink
from okstream.venues import Venue


class Place:
    """What is planned of one venue, path and account."""

    def __init__(self, venue: Venue, path: str, account: str | None, redundancy: int) -> None:
        self.patterns: list[Subscription] = []
        self._venue = venue
        self._path = path
        self._account = account
        self._redundancy = redundancy
        self._dialect = load(venue.dialect)
        self._planner = Planner(venue.limits)
        self._subs: dict[str, Subscription] = {}

    def add(self, sub: Subscription) -> None:
        """Raises ConfigError: the exchange cannot tell it from another, or it takes too many connections."""
        traits = self._dialect.traits(sub)
        if sub.is_pattern:
            kinds(sub.inst or "")
            if sub not in self.patterns:
                self.patterns.append(sub)
        elif (same := self._subs.setdefault(traits.key, sub)) != sub:
            raise ConfigError(f"{same} and {sub} are the same to {self._venue.name}")
        else:
            self._planner.place(traits.key, traits)

    @property
    def links(self) -> int:
        return max(1, len(self._planner.connections())) * self._redundancy

    @property
    def books(self) -> int:
        return sum(self._dialect.traits(sub).incremental for sub in self._subs.values())

    def __str__(self) -> str:
        count = "link" if self.links == 1 else f"{self.links} links"
        twice = f", each on {self._redundancy} links" if self._redundancy > 1 else ""
        who = f" as {self._account}" if self._account else ""
        what = f"{_many(len(self._subs), 'subscription')}{twice}, {_many(self._requests(), 'request')}"
        patterns = f"resolved at start: {', '.join(map(str, self.patterns))}"
        parts = ([what] if self._subs else []) + ([patterns] if self.patterns else [])
        return f"{count}: {self._where()}{who}: {'; '.join(parts)}"

    def _where(self) -> str:
        if self._venue.name == venues.SIM:
            return "in this process"
        bases = 1 + len(self._venue.others)
        return " and ".join(shown(self._venue.link_url(self._path, n)) for n in range(min(bases, self._redundancy)))

    def _requests(self) -> int:
        room = self._venue.limits.request_bytes
        sizes = [
            sum(self._dialect.size(self._subs[key]) for key in self._planner.riders(number))
            for number in self._planner.connections()
        ]
        return sum(-(-size // room) + (self._account is not None) for size in sizes) * self._redundancy


def described(output: Output, sink: Sink) -> str:
    """Return the line about one sink: what it is, what it gets, and what waits where if it is slow."""
    options = output.options
    where = getattr(sink, "where", "")
    what = f"{output.type} {where}" if where and where != output.type else output.type
    form = options.form if options.statements else f"{options.form} without gaps and statuses"
    return f"sink {output.name}: {what}; {form}{_filters(options)}; {_policy(options)}"


def on_disk(output: Output) -> int:
    """Return the most that waits on disk for one sink, or is kept there for it, in bytes."""
    options = output.options
    spool = options.spool_bytes if options.spool is not None else 0
    return spool + (options.dead_letter_bytes if options.dead_letters is not None else 0)


def _filters(options: LaneOptions) -> str:
    named = ("types", "channels", "instruments", "venues")
    kept = [f"{name} {', '.join(getattr(options, name))}" for name in named if getattr(options, name)]
    return f" of {' and '.join(kept)}" if kept else ""


def _policy(options: LaneOptions) -> str:
    room = f"{options.bytes // MIB} MiB" + (f" or {options.records} records" if options.records is not None else "")
    if options.spool is None:
        return f"{room} in memory, then {options.when_full}"
    spool = f"{options.spool_bytes // MIB} MiB in {options.spool}, then {options.spool_full}"
    return f"all through {spool}" if options.spool_always else f"{room} in memory, then {spool}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

"""From what arrives to who wants it: one lane for each consumer, so that a slow one harms nobody else."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from ..channels import Subscription
from ..errors import ConfigError
from ..feed.continuity import Continuity, Delivery
from ..options import LaneOptions
from ..records import Book, Native, Ticker, Trade
from ..sinks import METHODS, Sink
from ..states import SinkState
from .lane import Lane
from .pump import Pump
from .surroundings import Surroundings

_TIMED = frozenset({Ticker, Trade, Book})

# As measured: a book's rows are the heaviest, nine times their text; and each message costs something of its own.
_HEAVY: dict[type, int] = {Book: 3, Native: 2}
_MESSAGE_WEIGHT = 300

_LINE_WEIGHT = 160  # a line that waits with its record, made for another lane, beside a third of the record's weight

_KEEPING = frozenset({"drop_oldest", "drop_newest", "latest"})


@dataclass(slots=True)
class Flow:
    """
    What passed since the last look: data records, and the worst lag in ms (exchange's clock to ours), if `timed`.
    """

    timed: bool = False
    records: int = 0
    lag_ms: float | None = None

    def time(self, deliveries: Iterable[Delivery]) -> None:
        """Take note of how late `deliveries` are."""
        for delivery in deliveries:
            if delivery.records and type(record := delivery.records[-1]) in _TIMED:
                lag = record.recv / 1_000_000 - record.ts if record.ts is not None and not record.origin else None
                self.lag_ms = max((each for each in (lag, self.lag_ms) if each is not None), default=None)


class Fanout:
    """
    All lanes of one stream, and the sinks behind them.

    Without sinks there is one lane, for whoever iterates. `parsed`, `raw`: whether somebody needs records, or wants the
    exchange's own text.

    Args:
        default: what lanes without options of their own are told.
        around: what all pumps share.
        count: see Pump.

    Raises:
        ConfigError: the options of a sink make no sense, or two have one name.
    """

    def __init__(
        self,
        sinks: Iterable[Sink | tuple[Sink, LaneOptions]],
        default: LaneOptions,
        around: Surroundings,
        count: int | None = None,
    ) -> None:
        self.lanes: list[Lane] = []
        self.pumps: list[Pump] = []
        self.flow = Flow()
        self.reading: Lane | None = None
        self._default = default
        self._around = around
        self._count = count
        self._gone = 0
        self._forms: set[str] = set()
        for one in sinks:
            self.add(*(one if isinstance(one, tuple) else (one, None)))
        forms: set[str] = {pump.options.form for pump in self.pumps} or {"json"}
        # Whose a text is that tells of many instruments, only its records say.
        self.parsed, self.raw = "json" in forms or any(pump.options.instruments for pump in self.pumps), "raw" in forms
        self._forms = forms
        if not self.pumps:
            self.read()

    @property
    def dropped(self) -> int:
        """Data records that full lanes have dropped."""
        return sum(lane.dropped for lane in self.lanes)

    @property
    def lost(self) -> int:
        """Data records that sinks did not get; without any, that nobody read in time."""
        return self._gone + (sum(pump.lost for pump in self.pumps) if self.pumps else self.dropped)

    @property
    def memory_bound(self) -> int:
        """The sum of the lanes' bounds, in bytes."""
        return sum(pump.options.bytes for pump in self.pumps) + (self._default.bytes if self.reading else 0)

    @property
    def keeps(self) -> bool:
        """Whether a lane may come to need the levels of books: it drops, and gets records."""
        return self.reading is not None or any(_keeps(pump.options) for pump in self.pumps)

    @property
    def states(self) -> list[SinkState]:
        """How each sink is doing."""
        return [pump.state for pump in self.pumps]

    @property
    def forsaken(self) -> bool:
        """Whether there were consumers, and none is left."""
        return bool(self.pumps) and self.reading is None and all(pump.failure is not None for pump in self.pumps)

    def add(self, sink: Sink, options: LaneOptions | None) -> Pump:
        """Have `sink` served from now on; the caller opens and runs what is returned. Raises ConfigError."""
        options = options or self._default
        if isinstance(sink, type) or not all(hasattr(sink, method) for method in METHODS):
            kind = getattr(sink, "__name__", type(sink).__name__)
            raise ConfigError(f"{kind!r} is no sink: that is an object with {', '.join(METHODS)}")
        if self._forms and options.form not in self._forms:
            raise ConfigError(f"this stream was opened without a {options.form} sink, so that there is no such text")
        if self._forms and options.instruments and not self.parsed:
            raise ConfigError("this stream was opened for raw text alone: `instruments` would need its records")
        pump = Pump(sink, options, self._name(sink, options), self._around, count=self._count)
        self.pumps.append(pump)
        self._share([*self.lanes, pump.lane])
        return pump

    def leave(self, pump: Pump) -> None:
        """Nothing goes to `pump` any more."""
        if pump.lane in self.lanes:
            self._share([lane for lane in self.lanes if lane is not pump.lane])

    def remove(self, pump: Pump) -> None:
        """`pump` has ended; what it lost stays counted."""
        self.leave(pump)
        self.pumps.remove(pump)
        self._gone += pump.lost

    def find(self, name: str) -> Pump:
        """Return what serves the sink of that name; raises ConfigError where there is none."""
        for pump in self.pumps:
            if pump.name == name:
                return pump
        raise ConfigError(f"there is no sink {name!r}; there are: {', '.join(pump.name for pump in self.pumps)}")

    def read(self) -> Lane:
        """Return the lane of who iterates; beside sinks it begins here."""
        if self.reading is None:
            self.reading = Lane(self._default, wall_ns=self._around.wall_ns)
            self._share([*self.lanes, self.reading])
        return self.reading

    def unread(self) -> None:
        """Nobody will iterate over what came until now."""
        if self.reading is not None:
            self._share([lane for lane in self.lanes if lane is not self.reading])
            self.reading = None

    def check(self, venue: str, sub: Subscription) -> None:
        """Say whether every lane may get `sub`; raises ConfigError."""
        for pump in self.pumps:
            pump.lane.filters.check(venue, sub)

    def put(self, deliveries: list[Delivery]) -> None:
        """Hand `deliveries` to every lane. Never waits."""
        lanes, flow = self.lanes, self.flow
        several, passed, factor = len(lanes) > 1, 0, _HEAVY.get
        for delivery in deliveries:
            if records := delivery.records:
                passed += len(records)
                weight = delivery.weight * factor(type(records[-1]), 1) + _MESSAGE_WEIGHT
                delivery.weight = weight + delivery.weight // 3 + _LINE_WEIGHT * len(records) if several else weight
            elif delivery.text is not None:
                passed += 1
        flow.records += passed
        if flow.timed:
            flow.time(deliveries)
        for lane in lanes:
            lane.put(deliveries)

    async def room(self) -> None:
        """Wait until no lane that blocks is full: for a producer that can wait."""
        for pump in self.pumps:
            if pump.options.when_full == "block" and pump.failure is None:
                await pump.lane.room()

    def forget(self, feed: Continuity) -> None:
        """`feed` has ended: nothing more comes of it."""
        for lane in self.lanes:
            lane.forget(feed)

    async def done(self) -> None:
        """Wait until every sink has written its count; for ever where there is no sink."""
        if not self.pumps:
            await asyncio.Event().wait()
        for pump in list(self.pumps):
            await pump.done.wait()

    def _share(self, lanes: list[Lane]) -> None:
        """From now on what comes goes to these `lanes`."""
        self.lanes = lanes
        for lane in lanes:
            lane.alone = len(lanes) == 1

    def _name(self, sink: Sink, options: LaneOptions) -> str:
        taken = {pump.name for pump in self.pumps}
        if options.name is not None:
            if options.name in taken:
                raise ConfigError(f"two sinks are called {options.name!r}")
            return options.name
        kind = type(sink).__name__.lower()
        names = [kind, *(f"{kind}-{number}" for number in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)


def _keeps(options: LaneOptions) -> bool:
    drops = options.when_full in _KEEPING or (options.when_full == "spill" and options.spool_full == "drop")
    return drops and options.form == "json"

"""
The oracle: what the simulated exchange logged against what a stream delivered.

Every logged push is delivered once with equal fields, or lies inside a declared gap of its subscription; every
delivered record is in the log; every book is rebuilt and equals the exchange's at each record; no gap is longer than
the fault and one cadence allow, and none stays open.

Where several connections carry a subscription (redundancy, rotation) each shows the market cut at other moments. What
has an identity then is held against the union of what they were pushed, books against the exchange's own states, and
everything else must be what one of them showed, in order and never behind.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import orjson
from soak.mirrors import Mirror

from okstream.dialects import Dialect, Push
from okstream.feed import Feed
from okstream.identities import content
from okstream.records import AnyRecord, Book, Candle, DataRecord, Fill, Gap, Native, Order, Status, Trade
from okstream.testing import START_NS

CADENCE = {
    "funding": 60.0,
    "index-price": 60.0,
    "mark-price": 10.0,
    "open-interest": 3.0,
    "account": 5.0,
    "positions": 5.0,
    "price-limit": 5.0,
}
"""Seconds between pushes of channels that are slow when all is well; what else is pushed here comes within one."""

TAIL = 0.5
"""Seconds before the end of a run of which the pushes may still be under way."""

SUMMED = 25
"""Levels of a side that a checksum is of: of a book without numbers it shows no loss beyond them."""

_TICK = 0.001


@dataclass
class Report:
    """
    What a comparison saw, so that a test can show that it saw something.

    `longest` is the longest gap and `total` the most of all gaps of one subscription together, in seconds beyond one
    cadence each. `gaps` are counted by subscription, `reasons` by reason. `checked` is how often a book was compared.
    """

    pushes: int = 0
    delivered: int = 0
    excused: int = 0
    checked: int = 0
    longest: float = 0.0
    total: float = 0.0
    gaps: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Report") -> None:
        for name in ("pushes", "delivered", "excused", "checked"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest, self.total = max(self.longest, other.longest), max(self.total, other.total)
        self.gaps += other.gaps
        self.reasons += other.reasons


@dataclass(slots=True)
class Logged:
    """One record of one push in the log. `last`: of its message."""

    record: DataRecord
    content: tuple[Any, ...]
    at: float
    kind: str
    sent: bool
    connection: str
    last: bool


def compare(
    log: Any,
    dialect: Dialect,
    feeds: Iterable[Feed],
    delivered: list[AnyRecord],
    end: float,
    alive: Mapping[str, float] | None = None,
    start_ns: int = START_NS,
    asleep: Sequence[tuple[float, float]] = (),
) -> Report:
    """
    Hold `delivered` of all `feeds` against the simulator's `log`.

    Args:
        end: the loop's time of the last look.
        alive: when each connection was last seen, by its id; None: there was only one at a time.
        start_ns: the wall clock when the loop's clock was 0, ns since the epoch.
        asleep: from when to when the stream's process was stopped: then it may be behind.

    Raises:
        AssertionError: something was lost, came twice, or was not so.
    """
    feeds = list(feeds)
    assert log.forgotten == 0, "the log forgot what it would take to judge"
    report = Report()
    truth = _truth(log, dialect, {feed.traits.key: feed for feed in feeds})
    own: defaultdict[tuple[str | None, ...], list[AnyRecord]] = defaultdict(list)
    for record in delivered:
        place = (record.channel, getattr(record, "account", None))
        own[*place, record.inst].append(record)
        if record.inst is not None:
            own[*place, None].append(record)
    for feed in feeds:
        logged = truth.get(feed.traits.key, [])
        one = _One(feed, logged, own[feed.sub.channel, feed.sub.account, feed.sub.inst], end, report)
        one.gaps()
        if feed.traits.incremental:
            one.books()
        if alive is None:
            one.in_order(logged)
        elif any(isinstance(item.record, Trade | Order | Fill) for item in logged):
            one.in_order(_union(logged))
        else:
            one.fresh(alive, start_ns, asleep)
    return report


def compare_raw(log: Any, dialect: Dialect, feeds: Iterable[Feed], lines: list[bytes], end: float) -> int:
    """Hold raw `lines` against the log: each text once and in order, none missing but after a gap; return how many."""
    count = 0
    for feed in feeds:
        key, sub = feed.traits.key, feed.sub
        ours = [entry for entry in log.entries() if entry.sent and (sub.account or entry.login is None)]
        pushed = [(orjson.dumps(entry.payload), entry.at) for entry in ours]
        # v1 says in each message whether it travels compressed; the log holds it before that is known.
        truth = [
            (text.replace(b'"binary":0', b'"binary":1'), at) for text, at in pushed if _speaks_of(dialect, text, key)
        ]
        position, declared = 0, False
        for line in lines:
            if line.startswith(b'{"type":'):
                said = orjson.loads(line)
                declared |= (said["type"], said["channel"], said["inst"]) == ("gap", sub.channel, sub.inst)
            elif _speaks_of(dialect, line, key):
                found = next((i for i in range(position, len(truth)) if truth[i][0] == line.rstrip(b"\n")), None)
                assert found is not None, f"{sub}: delivered what was not pushed then: {line!r}"
                assert found == position or declared, f"{sub}: lost in silence: {truth[position:found]}"
                position, declared, count = found + 1, False, count + 1
        assert declared or all(at >= end - TAIL for _, at in truth[position:]), f"{sub}: lost at the end"
    return count


def _speaks_of(dialect: Dialect, text: bytes, key: str) -> bool:
    return any(isinstance(message, Push) and message.key == key for message in dialect.read(text))


def _truth(log: Any, dialect: Dialect, feeds: dict[str, Feed]) -> dict[str, list[Logged]]:
    """Decode the log by feed. A new decoder for each connection and snapshot, as after a subscribe."""
    truth: dict[str, list[Logged]] = {}
    decoders: dict[tuple[str, str], Any] = {}
    for entry in log.entries():
        for message in dialect.read(orjson.dumps(entry.payload)):
            if not isinstance(message, Push) or message.key not in feeds:
                continue
            feed = feeds[message.key]
            if feed.sub.account is None and entry.login is not None:
                continue  # it only shows that the connection of an account flows, and nobody sees it
            place = (message.key, entry.connection)
            if place not in decoders or entry.kind == "snapshot":
                decoders[place] = dialect.decoder(feed.sub, feed.venue)
            records = decoders[place](message.payload, entry.ts * 1_000_000)
            truth.setdefault(message.key, []).extend(
                Logged(
                    record, content(record), entry.at, entry.kind, entry.sent, entry.connection, record is records[-1]
                )
                for record in records
            )
    return truth


def _union(logged: list[Logged]) -> list[Logged]:
    """
    What has an identity, once: where any connection was pushed it first, and sent where it left on any.

    What was lost everywhere and then shown among what is repeated after a subscription, comes there, and so does what
    is repeated behind it, for it may have been lost on its way.
    """
    union: dict[bytes, Logged] = {}
    again = False
    for item in logged:
        whole = orjson.dumps(item.content)
        again = item.kind == "cached" and (again or (whole in union and not union[whole].sent))
        if again and whole in union:
            whole += b" again"
        known = union.setdefault(whole, item)
        known.sent |= item.sent
        if item.kind != "cached":
            known.kind = item.kind
    return list(union.values())


class _One:
    """One subscription: what was logged of it, and what was delivered (`own`)."""

    def __init__(self, feed: Feed, logged: list[Logged], own: list[AnyRecord], end: float, report: Report) -> None:
        self.name = str(feed.sub)
        self.feed = feed
        self.logged = logged
        self.own = own
        self.end = end
        self.report = report
        self.cadence = CADENCE.get(feed.sub.channel, 1.0)
        self.spans: list[tuple[int, int]] = []
        report.pushes += len(logged)
        report.delivered += sum(not isinstance(record, Gap | Status) for record in own)

    def gaps(self) -> None:
        """Each gap opens once and closes once, and none is open inside another or at the end."""
        opened: Gap | None = None
        total, before = 0.0, 0
        for record in self.own:
            if not isinstance(record, Gap):
                before = record.recv if opened is None and not isinstance(record, Status) else before
                continue
            if record.state == "open":
                assert opened is None, f"{self.name}: a gap inside a gap: {record}"
                opened = record
                continue
            assert opened is not None, f"{self.name}: closes a gap that was not open: {record}"
            assert (opened.gap, opened.after, opened.after_ts, opened.reason) == (
                record.gap, record.after, record.after_ts, record.reason,
            )  # fmt: skip
            beyond = max(0.0, (record.recv - opened.recv) / 1e9 - self.cadence)
            total += beyond
            self.spans.append((before, record.recv))
            self.report.longest = max(self.report.longest, beyond)
            self.report.gaps[self.name] += 1
            self.report.reasons[record.reason] += 1
            opened = None
        self.report.total = max(self.report.total, total)
        assert opened is None or self.feed.state == "refused", f"{self.name}: a gap never ended: {opened}"

    def in_order(self, truth: list[Logged]) -> None:
        """What was delivered is what was pushed, in that order, and the rest lies within gaps."""
        position, declared = self._begins(truth) - 1, False
        shown = {_whole(record) for record in self.own if not isinstance(record, Gap | Status)}
        for record in self.own:
            if isinstance(record, Gap):
                declared = True
            elif not isinstance(record, Status):
                mine = content(record)
                after = range(position + 1, len(truth))
                found = next((i for i in after if truth[i].sent and truth[i].content == mine), None)
                assert found is not None, f"{self.name}: delivered what was not pushed then: {record}"
                summed = self._summed(record)
                missing = [item for item in truth[position + 1 : found] if item.sent or not summed]
                self._excuse(missing, declared, shown)
                position, declared = found, False
        late = [item for item in truth[position + 1 :] if item.at < self.end - TAIL]
        self._excuse(late, declared or self.feed.state == "refused", shown)

    def _begins(self, truth: list[Logged]) -> int:
        """Return where it begins: a stream may have the exchange speak of it before anybody asks for that."""
        shown = [content(record) for record in self.own if not isinstance(record, Gap | Status)]
        ends = [i + 1 for i, item in enumerate(truth) if item.last][:2]
        if len(ends) < 2 or any(item.kind != "snapshot" for item in truth[: ends[1]]):
            return 0
        second = [item.content for item in truth[ends[0] : ends[1]]]
        return ends[0] if shown[: len(second)] == second else 0

    def _excuse(self, missing: list[Logged], declared: bool, shown: set[bytes]) -> None:
        """What is shown again, and in the order in which it comes there, is not missing where it came first."""
        for item in missing:
            excused = declared or item.kind == "cached" or orjson.dumps(item.content) in shown
            assert excused, f"{self.name}: lost in silence at {item.at:.3f}: {item.record}"
            self.report.excused += 1

    def _summed(self, record: DataRecord) -> bool:
        """Whether what the exchange left out before `record` shows in its checksum if anywhere: `books` looks at it."""
        traits = self.feed.traits
        return isinstance(record, Book) and record.action == "update" and traits.checksums and not traits.sequenced

    def books(self) -> None:
        """The book made of what was delivered is right at every record between a snapshot and a gap."""
        states = _states(self.logged)
        mirror, void, last = Mirror(), True, None
        for record in self.own:
            if isinstance(record, Gap):
                void |= record.state == "open"
            elif isinstance(record, Book):
                if record.action == "snapshot":
                    void = False
                else:
                    assert not void, f"{self.name}: a change of a void book: {record}"
                    assert last is None or record.prev == last, f"{self.name}: {record.prev} follows {last}"
                known = states.get((record.seq, record.ts, record.checksum))
                assert known, f"{self.name}: the exchange never had {record}"
                if mirror.take(record) not in known:
                    mirror = self._nearly(mirror, record)
                self.report.checked += 1
                last = record.seq

    def _nearly(self, mirror: Mirror, record: Book) -> Mirror:
        """The book is not quite right: see whether what its checksum is of is, and go on with the exchange's."""
        summed = self.feed.traits.checksums and not self.feed.traits.sequenced
        assert summed, f"{self.name}: not the exchange's book: {record}"
        mirrors: defaultdict[str, Mirror] = defaultdict(Mirror)
        for item in self.logged:
            book = item.record
            if isinstance(book, Book):
                mirrors[item.connection].take(book)
                if (book.seq, book.ts, book.checksum) == (record.seq, record.ts, record.checksum):
                    assert mirrors[item.connection].best(SUMMED) == mirror.best(SUMMED), f"{self.name}: wrong: {record}"
                    return mirrors[item.connection]
        raise AssertionError(f"{self.name}: the exchange never had {record}")

    def fresh(self, alive: Mapping[str, float], start_ns: int, asleep: Sequence[tuple[float, float]]) -> None:
        """What was delivered is what some connection showed, never older or again, and never behind all of them."""
        pushed, incremental = self._pushed(), self.feed.traits.incremental
        once: set[bytes] = set()
        newest: dict[Any, int] = {}
        times: list[float] = []
        shown: list[DataRecord] = []
        for record in self.own:
            if isinstance(record, Gap | Status):
                continue
            if not incremental:
                whole, part = _whole(record), _part(record)
                assert whole in pushed, f"{self.name}: delivered what was not pushed: {record}"
                assert pushed[whole] > 1 or whole not in once, f"{self.name}: delivered twice: {record}"
                once.add(whole)
                assert (record.ts or 0) >= newest.get(part, 0), f"{self.name}: older than before: {record}"
                newest[part] = record.ts or 0
            times.append((record.recv - start_ns) / 1e9)
            shown.append(record)
        gaps = [((opened - start_ns) / 1e9, (closed - start_ns) / 1e9) for opened, closed in self.spans]
        gaps += asleep
        behind = self._behind(alive, list(accumulate(times, max)), shown, gaps, incremental)
        assert behind is None, f"{self.name}: lost in silence at {behind:.3f}"

    def _pushed(self) -> Counter[bytes]:
        """What was sent, as often as the connection that sent it most often did; twice for rows beside others."""
        counts: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
        before = True
        for item in self.logged:
            if item.sent:
                counts[item.connection][_whole(item.record)] += 1 if before and item.last else 2
            before = item.last
        most: Counter[bytes] = Counter()
        for count in counts.values():
            most |= count
        return most

    def _behind(
        self, alive: Mapping[str, float], times: list[float], shown: list[DataRecord],
        gaps: list[tuple[float, float]], incremental: bool,
    ) -> float | None:  # fmt: skip
        """Return when, outside of `gaps`, no connection showed lately what was delivered last."""
        key = _mark if incremental else _shown
        pushes: dict[str, tuple[list[float], list[Any]]] = {}
        for item in self.logged:
            if item.last:
                ats, keys = pushes.setdefault(item.connection, ([], []))
                ats.append(item.at)
                keys.append(key(item.record))
        late = 2 * self.cadence + 1.0
        now = (self.logged[0].at if self.logged else self.end) + late
        while now < self.end - TAIL and self.feed.state != "refused":
            delivered = bisect_right(times, now + _TICK)
            possible = {
                shown_then
                for connection, (ats, keys) in pushes.items()
                if alive.get(connection, 0.0) >= now - late
                for shown_then in keys[max(0, bisect_right(ats, now - late) - 1) : bisect_right(ats, now + 2 * _TICK)]
            }
            self.report.checked += 1
            # Where the connections that live have had nothing to say since, none could know better: what changed and
            # changed back between their cuts, one that is gone may have been the only one to show.
            living = [ats for connection, (ats, _) in pushes.items() if alive.get(connection, 0.0) >= now]
            said = [ats[at - 1] for ats in living if (at := bisect_right(ats, now))]
            quiet = delivered > 0 and max(said, default=0.0) <= times[delivered - 1] + _TICK
            right = delivered > 0 and (quiet or key(shown[delivered - 1]) in possible)
            if possible and not right and not any(a - late < now and now - late < b for a, b in gaps):
                return now
            now += late / 2
        return None


def _whole(record: DataRecord) -> bytes:
    return orjson.dumps(content(record))


def _shown(record: DataRecord) -> bytes:
    """
    What `record` shows, but for the time of which that is, if it is no bar's.

    Of two connections that were pushed the same at two moments, the one that is gone may have been the later.
    """
    if isinstance(record, Candle):
        return _whole(record)
    record = replace(record, ts=None)
    if isinstance(record, Native) and isinstance(record.data, dict) and isinstance(rows := record.data["data"], list):
        record.data = [{name: value for name, value in row.items() if name != "ts"} for row in rows]
    return _whole(record)


def _mark(record: DataRecord) -> tuple[Any, ...]:
    return (record.ts, getattr(record, "seq", None))


def _part(record: DataRecord) -> tuple[Any, ...]:
    """What of a message of several rows this record is about: each has its own time."""
    return (record.type, record.inst, getattr(record, "currency", None), getattr(record, "id", None))


def _states(logged: list[Logged]) -> dict[tuple[Any, ...], set[int]]:
    """What the exchange's book was at each place that any connection saw, damaged or not."""
    mirrors: defaultdict[str, Mirror] = defaultdict(Mirror)
    states: defaultdict[tuple[Any, ...], set[int]] = defaultdict(set)
    for item in logged:
        book = item.record
        if isinstance(book, Book):
            states[book.seq, book.ts, book.checksum].add(mirrors[item.connection].take(book))
    return states

"""What a store holds, with the gaps it was told of, is all there was: held against the simulator's log."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from oracle import Logged, Report, _One, _truth, _union, _whole
from soak.freezing import decoded
from support import filed

from okstream.channels import Subscription
from okstream.dialects import load
from okstream.records import AnyRecord, Book, DataRecord, Gap, Status, Trade

from .plan import VENUES, Store
from .scene import Scene

SETTLED = 2.5
"""Seconds before the end of which what the exchange did may still be under way."""

_NS = 1_000_000_000
TRADES = frozenset({"trades", "trades-all"})
HAPPENINGS = frozenset({"orders", "fills"})
"""What an account's channels show that has an identity."""
_Made = TypeVar("_Made")


@dataclass
class Held:
    """
    What one store held, so that a test can show that it saw something.

    `records` are data, `again` lines that it holds twice; `missing` trades that it lacks and says so, `incomplete`
    those that coverage says so of. `last` is the newest record of each subscription and instrument; `spans` are the
    gaps: whose, why, and from which record to which one, ns.
    """

    report: Report = field(default_factory=Report)
    records: int = 0
    again: int = 0
    missing: int = 0
    incomplete: int = 0
    last: dict[tuple[Subscription, str | None], object] = field(default_factory=dict)
    spans: list[tuple[Subscription, str, int, int]] = field(default_factory=list)


class Truth:
    """What the exchange did in a scene, to be held against each of its stores."""

    def __init__(self, scene: Scene) -> None:
        log, dialect = scene.sim.log, load(scene.plan.dialect)
        assert log.forgotten == 0, "the log forgot what it would take to judge"
        venue = VENUES[scene.plan.dialect]
        self.scene = scene
        self.begins = [life.began for life in scene.lives]
        self.feeds = [SimpleNamespace(sub=sub, venue=venue, traits=dialect.traits(sub), state="") for sub in scene.subs]
        self._logged = _truth(log, dialect, {feed.traits.key: feed for feed in self.feeds})
        self.until = scene.end - SETTLED if scene.plan.calm > SETTLED else 0.0
        self._parts: dict[tuple[str, int], list[Logged]] = {}
        self._whose: dict[str, int] = {}
        self._made: dict[object, object] = {}
        for entry in log.entries():
            self._whose.setdefault(entry.connection, self.life(entry.at))

    def life(self, at: float) -> int:
        """The process that lived then, or was the last to: its place in `lives`."""
        return max(0, bisect_right(self.begins, at) - 1)

    def life_of(self, connection: str) -> int:
        """The process whose connection that was."""
        return self._whose[connection]

    def cached(self, make: Callable[["Truth"], _Made]) -> _Made:
        """Return what `make` makes of it, made once."""
        if make not in self._made:
            self._made[make] = make(self)
        return cast("_Made", self._made[make])

    def lived(self, recv: int) -> int:
        """The process that a record came to, by its `recv`."""
        return self.life((recv - self.scene.wall) / _NS)

    def logged(self, feed: Any, life: int | None = None) -> list[Logged]:
        """What was pushed to all processes, or one of them."""
        found = self._logged.get(feed.traits.key, [])
        if life is None:
            return found
        if (feed.traits.key, life) not in self._parts:
            self._parts[feed.traits.key, life] = [item for item in found if self._whose[item.connection] == life]
        return self._parts[feed.traits.key, life]

    def matches(self, feed: Any, before: float) -> list[int]:
        """The ids of all trades that the channel of `feed` shows, until then in the loop's seconds."""
        sim, whole = self.scene.sim, feed.sub.channel == "trades" and self.scene.plan.dialect == "okx-v5"
        until = sim.engine.clock.ms() + (before - sim.engine.clock.now()) * 1000
        trades = [trade for trade in sim.log.trades(feed.sub.inst) if trade.ts < until]
        return [one for t in trades for one in range(t.id if whole else t.id - t.count + 1, t.id + 1)]


def judged(store: Store, lines: Sequence[bytes], truth: Truth) -> Held:
    """
    Hold the `lines` of a store against what the exchange did.

    Raises:
        AssertionError: something was lost in silence, came twice, is out of order, or was not so.
    """
    held = Held()
    once = dict.fromkeys(lines)
    held.again = len(lines) - len(once)
    if store.kind == "file":  # a file that begins while a gap is open repeats what is said of it
        held.again -= len(told := [line for line in lines if line.startswith(b'{"type":"gap"')]) - len(set(told))
    assert held.again <= twice(store, truth), f"{store.name}: {held.again} lines twice"
    own: defaultdict[str | None, list[AnyRecord]] = defaultdict(list)
    for record in map(decoded, once):
        own[record.channel].append(record)
    for feed in truth.feeds:
        sub = feed.sub
        these = [record for record in own[sub.channel] if sub.inst in (None, record.inst)]
        if sub.inst is None and store.proves:
            _begun(f"{store.name}: {sub}", these, truth)
        if sub.inst is None and store.parts:
            _each_instrument(store, feed, these, truth, held)
        else:
            _subscription(store, feed, these, truth, held)
    return held


def _each_instrument(store: Store, feed: Any, own: list[AnyRecord], truth: Truth, held: Held) -> None:
    """One subscription whose instruments are in no order with each other; what is said of all is said of each."""
    folder = truth.scene.folder / "data" / feed.sub.channel
    for inst in dict.fromkeys(record.inst for record in own if not isinstance(record, Gap | Status)):
        if store.kind == "file":
            there = dict.fromkeys(filed.held(folder / (inst or "_")))
            # What was said of all while there was nothing of it yet is in no file of its own.
            before = [line for line in dict.fromkeys(filed.held(folder / "_")) if line not in there]
            these = [decoded(line) for line in (*before, *there)]
        else:
            these = [record for record in own if record.inst in (None, inst)]
        _subscription(store, feed, these, truth, held, inst)


def _begun(name: str, own: Sequence[AnyRecord], truth: Truth) -> None:
    """Once there was one of any instrument, each process says of each what it may have missed of it before."""
    lives: dict[str | None, int] = {}
    said: set[tuple[str | None, int]] = set()
    first = min((truth.lived(one.recv) for one in own if not isinstance(one, Gap | Status)), default=0)
    for record in own:
        life = truth.lived(record.recv)
        if isinstance(record, Gap):
            said.add((record.inst, life))
        elif not isinstance(record, Status) and life > lives.get(record.inst, first):
            assert {(record.inst, life), (None, life)} & said, f"{name}: begins without a gap: {record}"
            lives[record.inst] = life


def twice(store: Store, truth: Truth) -> int:
    """How many lines a store may hold twice: what each process that ended may not have heard of."""
    return 0 if store.kind == "nats" or not store.spooled else (len(truth.scene.lives) - 1) * (store.batch + 50)


def _subscription(
    store: Store, feed: Any, own: list[AnyRecord], truth: Truth, held: Held, inst: str | None = None
) -> None:  # fmt: skip
    """One subscription, or an instrument of it, process by process."""
    name, sub = f"{store.name}: {feed.sub}", feed.sub
    parts = _parts(own, truth)
    data = [record for part in parts.values() for record in part if not isinstance(record, Gap | Status)]
    held.records += len(data)
    newest = {(sub, record.inst): record for record in data}
    held.last |= {whose: _newest(record) for whose, record in newest.items()}
    if sub.channel in TRADES:
        _trades(name, store, feed, own, truth, held)
    final = len(truth.scene.lives) - 1
    again: set[bytes] = set()
    for life, records in parts.items():
        shown = [record for record in records if not isinstance(record, Gap | Status)]
        logged = [item for item in truth.logged(feed, life) if inst in (None, item.record.inst)]
        if store.kind == "nats" and sub.account:  # which stores once what a new process is shown again
            logged = [item for item in logged if _whole(item.record) not in again]
            again |= {_whole(record) for record in shown}
        end = truth.until if life == final else 0.0
        one = _One(feed, logged, records, end, held.report)
        one.name = f"{name} of process {life}"
        one.gaps()
        held.spans += [(sub, reason, since, until) for reason, since, until in _spans(records)]
        if shown and store.proves and min(parts) < life:
            _begins(one.name, records)
        if feed.traits.incremental:
            one.books()
        elif sub.channel in HAPPENINGS or (sub.channel not in TRADES and not truth.scene.plan.several):
            one.in_order(_union(logged) if truth.scene.plan.several else logged)
            continue
        if sub.channel not in TRADES and shown and not (sub.account and store.parts):
            one.end = min(end or float("inf"), max(0.0, (shown[-1].recv - truth.scene.wall) / _NS))
            one.fresh(truth.scene.alive, truth.scene.wall, _asleep(truth))


def _asleep(truth: Truth) -> list[tuple[float, float]]:
    """When okstream was stopped: what waited then is read at once, but not in no time."""
    return [(t.since, t.until + 3.0) for t in truth.scene.troubles if t.stroke.what == "stop"]


def _newest(data: DataRecord) -> object:
    """What tells how far this record goes: a book's may be a change, or a snapshot made of all changes."""
    return (data.seq, data.ts) if isinstance(data, Book) else _whole(data)


def _parts(own: Iterable[AnyRecord], truth: Truth) -> dict[int, list[AnyRecord]]:
    """
    Return the records by the process that got them; what is said belongs to the data behind it.

    Who is killed closes no gap: it ends where its process does. A gap that is still open then may have in it what a
    lane dropped last.
    """
    parts: dict[int, list[AnyRecord]] = {}
    said: list[AnyRecord] = []
    now = -1
    opened: Gap | None = None
    inner: set[str] = set()
    over: set[str] = set()

    def close(recv: int) -> None:
        nonlocal opened
        if opened is not None:
            said.append(replace(opened, state="closed", recv=recv))
            over.add(opened.gap)
            opened = None

    for record in own:
        if isinstance(record, Gap):
            if record.gap in over:
                continue  # what a process could not have is closed by the one after it
            if record.state == "open":
                if opened is not None and opened.gap.rpartition("-")[0] != record.gap.rpartition("-")[0]:
                    close(record.recv)
                if opened is not None and record.reason == "overflow":
                    inner.add(record.gap)
                    continue
                opened = opened or record
            elif record.gap in inner:
                raise AssertionError(f"closes a gap that was inside of another: {record}")
            elif opened is not None and opened.gap == record.gap:
                opened = None
            said.append(record)
        elif isinstance(record, Status):
            said.append(record)
        else:
            life = truth.lived(record.recv)
            assert life >= now, f"older than what came before: {record}"
            if life > now:
                if opened is not None and opened.reason != "start":
                    close(record.recv)
                now = life
            parts.setdefault(life, []).extend([*said, record])
            said.clear()
    if opened is not None:
        close(opened.recv)
    parts.setdefault(max(now, 0), []).extend(said)
    return parts


def _begins(name: str, records: Iterable[AnyRecord]) -> None:
    """Before the first that a process brought stands what may be missing before it."""
    for record in records:
        if isinstance(record, Gap):
            return
        assert isinstance(record, Status), f"{name}: begins without a gap: {record}"


def _spans(records: Iterable[AnyRecord]) -> Iterable[tuple[str, int, int]]:
    """
    Return of each gap that may have lost something why, and when the last came before it, and the first after it.

    Before the first that a process brought, it began when that was said.
    """
    before, opened, closed = 0, 0, None
    for record in records:
        if isinstance(record, Gap):
            closed = record if record.state == "closed" and record.lost != 0 else closed
            opened = opened or record.recv
        elif not isinstance(record, Status):
            if closed is not None:
                yield closed.reason, min(before or opened, record.recv), max(before, record.recv)
                closed = None
            before, opened = record.recv, 0
    if closed is not None and before:
        yield closed.reason, before, max(before, closed.recv)


def _trades(name: str, store: Store, feed: Any, records: Sequence[AnyRecord], truth: Truth, held: Held) -> None:
    """Each match of the market is there once and in order, or lies between the ids that a gap names."""
    pushed = {_whole(item.record) for item in truth.logged(feed)}
    for record in records:
        if isinstance(record, Trade):
            assert _whole(record) in pushed, f"{name}: not what was pushed: {record}"
    ids = _ids(records, store, truth)
    all_ids = {int(record.id) for record in records if isinstance(record, Trade)}
    assert ids == sorted(ids), f"{name}: not in order: {_fall(ids)}"
    twice = [one for one, count in Counter(ids).items() if count > 1]
    assert not twice, f"{name}: double: {twice[:5]}"
    assert all_ids, f"{name}: nothing of it"
    first, due = min(ids), max([max(ids), *truth.matches(feed, truth.until)[-1:]])
    missing = [one for one in truth.matches(feed, truth.scene.end) if first < one <= due and one not in all_ids]
    gaps = _gaps(records, store, truth)
    stray = [one for one in missing if not any(a < one and (u is None or one < u) for a, u, _ in gaps)]
    assert stray == [], f"{name}: lost in silence: {stray[:5]}"
    # What did not go by way of the disk, a spool knows of a little later; so where it has no room for what comes first.
    early = set() if store.exact else {after for after, _, gap in gaps if gap is not None and gap.reason == "start"}
    for after, before, gap in gaps:
        inside = [one for one in ids if before is not None and after < one < before]
        vague = gap is None or gap.reason == "sink" or (gap.reason in ("start", "overflow") and after in early)
        assert not inside or vague, f"{name}: a gap covers what is held: {gap}: {inside[:5]}"
    held.missing += len(missing)


def _ids(records: Iterable[AnyRecord], store: Store, truth: Truth) -> list[int]:
    """Return the ids of trades as they came, without what the exchange repeats to a process that never had it."""
    ids: list[int] = []
    life, floor = -1, 0
    for record in records:
        if isinstance(record, Trade) and not (store.kind == "nats" and record.origin == "cached"):
            if (lived := truth.lived(record.recv)) > life:
                life, floor = lived, ids[-1] if ids and not store.exact else 0
            if int(record.id) > floor:
                ids.append(int(record.id))
    return ids


def _fall(ids: Sequence[int]) -> tuple[int, int] | None:
    return next(((a, b) for a, b in pairwise(ids) if b < a), None)


def _gaps(records: Sequence[AnyRecord], store: Store, truth: Truth) -> list[tuple[int, int | None, Gap | None]]:
    """
    Return between which ids trades may be missing: as gaps say, and between two processes where none has to.

    A gap that names nothing is about what is missing where it stands.
    """
    found: dict[str, tuple[int, int | None, Gap | None]] = {}
    last, life = 0, -1
    for record in records:
        if isinstance(record, Gap):
            after = int(record.after) if record.after is not None else found.get(record.gap, (last,))[0]
            found[record.gap] = (after, None if record.until is None else int(record.until), record)
        elif isinstance(record, Trade) and int(record.id) > last:
            lived = truth.lived(record.recv)
            if lived > life >= 0 and not store.proves:
                found[f"process {lived}"] = (last, int(record.id), None)
            last, life = int(record.id), lived
    return list(found.values())

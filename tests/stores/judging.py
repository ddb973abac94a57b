"""What a store holds, with the gaps it was told of, is all there was: held against the simulator's log."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from oracle import Report, _One, _truth, _whole
from soak.freezing import decoded

from okstream.channels import Subscription
from okstream.dialects import load
from okstream.records import AnyRecord, Book, Gap, Status, Trade
from okstream.simulator import Simulator
from okstream.testing.behind import gaps_of

DIALECT = "okx-v5"
TRADES = "trades-all"
_DATA_END = 0.0
"""Nothing has to have arrived by then: a store is judged up to the last record it holds."""


@dataclass
class Held:
    """
    What one store held, so that a test can show that it saw something.

    `records` are data; `again` are trades that it holds twice, `missing` those it lacks and says so. `seconds` are all
    gaps together, over all subscriptions. `last` is the newest record of each subscription.
    """

    report: Report = field(default_factory=Report)
    records: int = 0
    again: int = 0
    missing: int = 0
    seconds: float = 0.0
    last: dict[Subscription, object] = field(default_factory=dict)


def judged(name: str, lines: Iterable[bytes], sim: Simulator, subs: Sequence[Subscription],
           since: float = 0.0, overlap: bool = False) -> Held:  # fmt: skip
    """
    Hold the `lines` of a store against what the exchange did.

    Args:
        name: what the store is called where it lacks something.
        subs: what was subscribed, each of one instrument.
        since: the connections that spoke before then, in the loop's seconds, were those of others.
        overlap: whether two connections may have shown the market at a time.

    Raises:
        AssertionError: something was lost in silence, is out of order, or was not so.
    """
    dialect = load(DIALECT)
    feeds = [SimpleNamespace(sub=sub, venue="okx", traits=dialect.traits(sub), state="live") for sub in subs]
    truth = _truth(sim.log, dialect, {feed.traits.key: feed for feed in feeds})
    assert sim.log.forgotten == 0, "the log forgot what it would take to judge"
    others = {entry.connection for entry in sim.log.entries() if entry.at < since}
    own: defaultdict[tuple[str | None, str | None], list[AnyRecord]] = defaultdict(list)
    for record in map(decoded, lines):
        own[record.channel, record.inst].append(record)
    held = Held()
    for feed in feeds:
        sub = feed.sub
        records = list(_closed(own[sub.channel, sub.inst]))
        data = [record for record in records if not isinstance(record, Gap | Status)]
        held.records += len(data)
        if data:
            held.last[sub] = _newest(data[-1])
        logged = [item for item in truth.get(feed.traits.key, []) if item.connection not in others]
        one = _One(feed, logged, records, _DATA_END, held.report)
        one.name = f"{name}: {sub}"
        one.gaps()
        held.seconds += sum((closed - opened) / 1e9 for opened, closed in _spans(records))
        if feed.traits.incremental:
            one.books()
        elif sub.channel == TRADES:
            _trades(one.name, records, sim, sub.inst, held)
        elif overlap:
            _pushed(one.name, data, {_whole(item.record) for item in logged})
        else:
            one.in_order(logged)
    return held


def _newest(record: Any) -> object:
    """What tells how far this record goes: a book's may be a change, or a snapshot made of all changes."""
    return (record.seq, record.ts) if isinstance(record, Book) else _whole(record)


def _closed(records: Iterable[AnyRecord]) -> Iterable[AnyRecord]:
    """Who is killed closes no gap: it ends where the gap of the next start begins."""
    opened: Gap | None = None
    for record in records:
        if isinstance(record, Gap):
            if record.state == "open" and opened is not None:
                assert record.reason == "start", f"a gap inside a gap: {record} in {opened}"
                yield replace(opened, state="close", recv=record.recv)
            opened = record if record.state == "open" else None
        yield record
    if opened is not None:  # it was killed, and nobody came after it
        yield replace(opened, state="close")


def _spans(records: Iterable[AnyRecord]) -> Iterable[tuple[int, int]]:
    opened = 0
    for record in records:
        if isinstance(record, Gap):
            if record.state == "open":
                opened = record.recv
            else:
                yield opened, record.recv


def _trades(name: str, records: Sequence[AnyRecord], sim: Simulator, inst: str | None, held: Held) -> None:
    """Each match of the market is there once and in order, or lies between the ids that a gap names."""
    truth = matches(sim, str(inst))
    counts = Counter(int(record.id) for record in records if isinstance(record, Trade))
    assert list(counts) == sorted(counts), f"{name}: not in order, where they come first"
    assert counts.keys() <= set(truth), f"{name}: invented"
    if not counts:
        return
    missing = [one for one in truth if min(counts) < one < max(counts) and one not in counts]
    said = [{"type": "gap", "channel": TRADES, "inst": inst, "gap": record.gap, "after": record.after,
             "until": record.until} for record in records if isinstance(record, Gap)]  # fmt: skip
    gaps = gaps_of(said, TRADES, inst)
    stray = [one for one in missing if not any(a < one and (u is None or one < u) for a, u in gaps)]
    assert stray == [], f"{name}: lost in silence"
    for after, before in gaps:
        inside = [one for one in counts if before is not None and after and after < one < before]
        assert not inside, f"{name}: a gap covers what is held"
    held.again += sum(counts.values()) - len(counts)
    held.missing += len(missing)


def matches(sim: Simulator, inst: str) -> list[int]:
    """Every id of the market: one trade there is `count` matches in a row, each of which TRADES pushes."""
    return [one for trade in sim.log.trades(inst) for one in range(trade.id - trade.count + 1, trade.id + 1)]


def _pushed(name: str, data: Iterable[Any], pushed: set[bytes]) -> None:
    """All of it was shown by some connection, and none of it is older than what came before."""
    newest = 0
    for record in data:
        assert _whole(record) in pushed, f"{name}: delivered what was not pushed: {record}"
        assert (record.ts or 0) >= newest, f"{name}: older than before: {record}"
        newest = record.ts or 0

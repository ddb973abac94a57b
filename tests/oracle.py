"""
The oracle: what the simulated exchange logged against what a stream delivered.

Every logged push is delivered once with equal fields, or lies inside a declared gap of its subscription; every
delivered record is in the log; no gap is longer than the fault and one cadence allow, and none stays open.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from okstream.dialects import Dialect, Push
from okstream.feed import Feed
from okstream.identities import content
from okstream.records import AnyRecord, Gap, Status

CADENCE = {
    "funding": 60.0,
    "index-price": 60.0,
    "mark-price": 10.0,
    "open-interest": 3.0,
    "account": 5.0,
    "positions": 5.0,
}
"""Seconds between pushes of channels that are slow when all is well; what else is pushed here comes within one."""

TAIL = 0.5
"""Seconds before the end of a run of which the pushes may still be under way."""


@dataclass
class Report:
    """What a comparison saw, so that a test can show that it saw something."""

    pushes: int = 0
    delivered: int = 0
    excused: int = 0
    gaps: int = 0
    longest: float = 0.0
    reasons: set[str] = field(default_factory=set)


def compare(log: Any, dialect: Dialect, feeds: Iterable[Feed], delivered: list[AnyRecord], end: float) -> Report:
    """Hold `delivered` of all `feeds` against the simulator's `log`; `end` is the loop's time of the last look."""
    report = Report()
    truth = _truth(log, dialect, {feed.traits.key: feed for feed in feeds})
    for feed in feeds:
        own = [record for record in delivered if _is_of(record, feed)]
        opened = _compare_one(str(feed.sub), truth.get(feed.traits.key, []), own, end, report)
        assert not opened or feed.state == "refused", f"{feed.sub}: a gap never ended: {opened}"
    return report


def compare_raw(log: Any, dialect: Dialect, feeds: Iterable[Feed], lines: list[bytes], end: float) -> int:
    """Hold raw `lines` against the log: each text once and in order, none missing but after a gap; return how many."""
    count = 0
    for feed in feeds:
        key, sub = feed.traits.key, feed.sub
        pushed = [(orjson.dumps(entry.payload), entry.at) for entry in log.entries() if entry.sent]
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


def _is_of(record: AnyRecord, feed: Feed) -> bool:
    sub = feed.sub
    same = record.channel == sub.channel and getattr(record, "account", None) == sub.account
    return same and (sub.inst is None or record.inst == sub.inst)


Truth = list[tuple[tuple[Any, ...], float, str, bool]]


def _truth(log: Any, dialect: Dialect, feeds: dict[str, Feed]) -> dict[str, Truth]:
    """Decode the log by feed: (content, when, kind, sent). A new decoder for each connection, as after a subscribe."""
    truth: dict[str, Truth] = {}
    decoders: dict[tuple[str, str], Any] = {}
    for entry in log.entries():
        for message in dialect.read(orjson.dumps(entry.payload)):
            if not isinstance(message, Push) or message.key not in feeds:
                continue
            feed = feeds[message.key]
            place = (message.key, entry.connection)
            if place not in decoders or entry.kind == "snapshot":
                decoders[place] = dialect.decoder(feed.sub, feed.venue)
            records = decoders[place](message.payload, entry.ts * 1_000_000)
            truth.setdefault(message.key, []).extend(
                (content(record), entry.at, entry.kind, entry.sent) for record in records
            )
    return truth


def _compare_one(name: str, truth: Truth, own: list[AnyRecord], end: float, report: Report) -> dict[str, Gap]:
    position = -1
    declared = False
    seen: set[str] = set()
    opened: dict[str, Gap] = {}
    report.pushes += len(truth)
    for record in own:
        if isinstance(record, Gap):
            declared = True
            _follow(name, record, opened, report)
        elif not isinstance(record, Status):
            mine = content(record)
            found = next((i for i in range(position + 1, len(truth)) if truth[i][3] and truth[i][0] == mine), None)
            assert found is not None, f"{name}: delivered what was not pushed then: {record}"
            _excuse(name, truth[position + 1 : found], declared, seen, report)
            position, declared = found, False
            seen.add(repr(mine))
            report.delivered += 1
    late = [push for push in truth[position + 1 :] if push[1] < end - TAIL]
    _excuse(name, late, declared, seen, report)
    return opened


def _excuse(name: str, missing: Truth, declared: bool, seen: set[str], report: Report) -> None:
    for mine, at, kind, _ in missing:
        assert declared or repr(mine) in seen or kind == "cached", f"{name}: lost in silence at {at:.3f}: {mine}"
        report.excused += 1


def _follow(name: str, gap: Gap, opened: dict[str, Gap], report: Report) -> None:
    if gap.state == "open":
        assert not opened, f"{name}: a gap inside a gap"
        opened[gap.gap] = gap
        return
    first = opened.pop(gap.gap, None)
    assert first is not None, f"{name}: closes a gap that was not open"
    assert (first.after, first.after_ts, first.reason) == (gap.after, gap.after_ts, gap.reason)
    report.gaps += 1
    report.reasons.add(gap.reason)
    beyond = (gap.recv - first.recv) / 1e9 - CADENCE.get(gap.channel, 1.0)
    report.longest = max(report.longest, beyond)

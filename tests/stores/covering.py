"""How long what a store lacks may be, by what really happened, and what `okstream coverage` says of its files."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import orjson
from oracle import CADENCE
from soak.faults import FAULTS

from okstream.coverage import Interval, coverage
from okstream.files.evidence import found, read, sources

from .judging import TRADES, Held, Truth
from .plan import Store, kind
from .scene import Trouble

SLACK = 3.0
"""Seconds that things may take on a machine that is busy."""

_NS = 1_000_000_000
_LASTING = frozenset({"handshake", "slow-ack"})
"""What waits until somebody connects, or asks for something."""

_RESTARTS = frozenset({"start", "restart"})

Window = tuple[float, float]


def bounded(store: Store, held: Held, truth: Truth) -> None:
    """
    Each gap of a store lies where something happened that explains it.

    Raises:
        AssertionError: one begins before that, goes on after it, or has another reason.
    """
    windows = {feed.sub: _Windows(store, truth, feed) for feed in truth.feeds}
    for sub, reason, since, until in held.spans:
        if _explained(store, reason):
            windows[sub].hold(f"{store.name}: a gap of {sub}", [reason], since, until)


def covered(store: Store, held: Held, lines: Iterable[bytes], truth: Truth, folder: str) -> int:
    """
    Hold what coverage says of the files in `folder` against the truth; return how many trades are in no complete time.

    Raises:
        AssertionError: what is said to be complete is not, or what is not said to be is not explained by what happened.
    """
    known: dict[tuple[str, str | None], list[Interval]] = {}
    for one in coverage(sources(map(read, found([folder])))):
        known[one.sub[1:3]] = one.intervals
    times: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for line in lines:
        one = orjson.loads(line)
        if one["type"] == "trade":
            times.setdefault((one["channel"], one["inst"]), []).append((one["recv"], int(one["id"])))
    lost = 0
    for feed in truth.feeds:
        sub = feed.sub
        mine = [one for one in known if one[0] == sub.channel and sub.inst in (None, one[1])]
        intervals = [interval for one in mine for interval in known.pop(one)]
        where = _Windows(store, truth, feed)
        lacking = [(interval.since, interval.until) for interval in intervals if not interval.complete]
        for reason, since, until in ((reason, a, b) for whose, reason, a, b in held.spans if whose == sub):
            meets = any(_meet(since, until, *times) for times in lacking)
            assert meets, f"{sub}: coverage knows nothing of a gap for {reason}, {since} .. {until}"
        for interval in intervals:
            if not interval.complete and all(_explained(store, reason) for reason in interval.reasons):
                name = f"{store.name}: what coverage misses of {sub}"
                where.hold(name, interval.reasons, interval.since, interval.until)
        if sub.channel in TRADES:
            lost += _complete(sub, intervals, times[sub.channel, sub.inst], truth.matches(feed, truth.scene.end))
    assert not known, f"coverage knows of {known}"
    return lost


def _complete(sub: Any, intervals: Iterable[Any], trades: Iterable[tuple[int, int]], truth: Sequence[int]) -> int:
    """What is missing is so between two that are there, in a time that is said not to be complete; return how much."""
    times = {number: recv for recv, number in trades}
    known = [(one.since, one.until) for one in intervals if not one.complete]
    lost = 0
    for before, after in pairwise(sorted(times)):
        missing = bisect_left(truth, after) - bisect_right(truth, before)
        if missing:
            since, until = sorted((times[before], times[after]))
            assert any(_meet(since, until, *one) for one in known), (
                f"{sub}: coverage takes for complete what lacks {missing} behind {before}"
            )
            lost += missing
    return lost


def _meet(since: int, until: int, a: int, b: int) -> bool:
    """Whether two times have more in common than that one begins as the other ends."""
    overlap = min(until, b) - max(since, a)
    return overlap > 0 or (overlap == 0 and (since == until or a == b))


def _explained(store: Store, reason: str) -> bool:
    """Whether something has to have happened: a small lane runs over as it is, and a sink rejects as it likes."""
    if reason == "sink":
        assert store.options.get("rejects"), f"{store.name}: it says that it could not take something"
        return False
    return reason != "overflow" or "lane_records" not in store.options


class _Windows:
    """When something of one subscription may be missing in a store, in the loop's seconds."""

    def __init__(self, store: Store, truth: Truth, feed: Any) -> None:
        scene = truth.scene
        self._wall = scene.wall
        cadence = CADENCE.get(feed.sub.channel, 1.0) + SLACK
        served = [min((item.at for item in truth.logged(feed, life)), default=None) for life in range(len(scene.lives))]
        self.links = [_window(one, cadence) for one in scene.troubles if one.stroke.what in ("exchange", "stop")]
        touching = _touching(store)
        own = [one for one in scene.troubles if one.stroke.what in touching or one.stroke.text.startswith("flood")]
        self.own = [_window(one, cadence) for one in own]
        stops = [_window(one, cadence) for one in scene.troubles if one.stroke.what == "stop"]
        self.restarts: list[Window] = []
        for life, one in enumerate(scene.lives):
            after = next((at for at in served[life + 1 :] if at is not None), float("inf"))
            # What else kept from it what came first is within the same gap.
            # Who was stopped before it was killed had written nothing since.
            stopped = [a for a, b in stops if a <= one.asked <= b]
            since = min([one.asked - cadence, *stopped])
            self.restarts.append((since, _reach(after + cadence, [*self.links, *self.own])))

    def hold(self, name: str, reasons: Iterable[str], since_ns: int, until_ns: int) -> None:
        """From `since_ns` to `until_ns` is within all that happened, and meets for each reason what explains it."""
        since, until = (since_ns - self._wall) / _NS, (until_ns - self._wall) / _NS
        told = f"{name}: {since:.2f} .. {until:.2f} for {', '.join(reasons)}"
        for reason in reasons:
            cause = self.restarts if reason in _RESTARTS else self.own if reason == "overflow" else self.links
            assert any(a <= until and since <= b for a, b in cause), f"{told}: nothing happened: {cause}"
        reach = _reach(since, [*self.restarts, *self.links, *self.own])
        assert reach >= until, f"{told}: too long, from {reach:.2f} on"


def _reach(since: float, windows: Iterable[Window]) -> float:
    """Until when one of `windows` follows on another from `since` on."""
    for a, b in sorted(windows):
        since = max(since, b) if a <= since else since
    return since


def _touching(store: Store) -> frozenset[str]:
    """What makes this store slow, or fails it."""
    of = {
        "nats": {"broker-kill", "broker-stop", "cut", "acks"},
        "file": {"disk"},
        "stdout": {"reader"},
    }.get(store.kind, {"disk"})
    return frozenset(of | {"stop"} | ({"disk"} if store.spooled else set()))


def _window(trouble: Trouble, more: float) -> Window:
    """When what is missing because of `trouble` came, or would have come."""
    text = trouble.stroke.text
    since, until = trouble.since - more, trouble.until + more
    if not text:
        return since, until + 2 * SLACK
    options = dict(item.split("=", 1) for item in text.partition(":")[2].split(",") if item)
    if text.partition(":")[0] in _LASTING:
        return since, float("inf")
    until += float(options.get("lead", 0)) + float(options.get("seconds", 0))
    until += (float(options.get("times", 1)) - 1) * float(options.get("every", 1))
    return since, until + FAULTS[kind(text)].longest

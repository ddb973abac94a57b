"""Intervals of time that are complete or not, and what those of several sources are together."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

OVERLAP = 1_000_000_000
"""How long, ns, two sources have to be complete together for one to go on where the other ends: clocks differ."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `since` to `until`, ns, both records; if not `complete`, then for these `reasons`, and by these `gaps`."""

    since: int
    until: int
    complete: bool
    reasons: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


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

"""`okstream coverage`: which times of what was written are complete, and which are not, and why; what is not there."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from okstream import config
from okstream.coverage import Covered, Subscription, coverage
from okstream.errors import ConfigError
from okstream.exits import LOST, OK, show
from okstream.fanout.filters import Filters
from okstream.files.evidence import File, found, nothing_in, read_all, sources
from okstream.stitching import Interval

_NS = 1_000_000_000


def run(arguments: argparse.Namespace) -> int:
    """
    Read, judge, print; return the exit code.

    Raises:
        ConfigError: there is nothing to read, or the configuration is none. SinkError: it cannot be printed.
    """
    wanted = [] if arguments.config is None else _wanted(config.load(arguments.config))
    files = read_all(found(arguments.files))
    covered = coverage(sources(files))
    covered += _absent(wanted, {*(one.sub for one in covered), *(sub for file in files for sub in file.part.served)})
    problems = [file for file in files if file.problem is not None]
    if not covered and not problems:
        raise ConfigError(nothing_in(arguments.files))
    lines = _json(covered, problems) if arguments.json else _table(covered, problems)
    for line in lines:
        show(line)
    return LOST if problems or not all(one.complete for one in covered) else OK


def _wanted(settings: config.Settings) -> list[Subscription]:
    """Return what files are to have by `settings`: all that is asked for by its name and passes one of their sinks."""
    filters = [Filters(output.options) for output in settings.outputs() if output.type == "file"]
    return [
        (source.name or source.venue, sub.channel, sub.inst, sub.account)
        for source in settings.source
        for sub in source.read()
        if not sub.is_pattern
        and (not filters or any(one.verdict(source.name or source.venue, sub) != "none" for one in filters))
    ]


def _absent(wanted: Iterable[Subscription], known: Iterable[Subscription]) -> list[Covered]:
    """Return those of `wanted` of which there is nothing: of what has no instrument, any will do; so with accounts."""
    there = {(venue, channel, *some) for venue, channel, inst, account in known
             for some in ((inst, account), (inst, None), (None, account), (None, None))}  # fmt: skip
    return [Covered(sub, 0, []) for sub in dict.fromkeys(wanted) if sub not in there]


def _json(covered: Iterable[Covered], problems: Iterable[File]) -> Iterator[str]:
    """One object a subscription, then one for each file that is not as it should be."""
    for one in covered:
        venue, channel, inst, account = one.sub
        shown: dict[str, Any] = {"venue": venue, "channel": channel, "inst": inst, "account": account}
        shown |= {"records": one.records, "complete": one.complete, "intervals": [*map(_shown, one.intervals)]}
        yield orjson.dumps(shown).decode() + "\n"
    for file in problems:
        yield orjson.dumps({"file": str(file.path), "problem": file.problem}).decode() + "\n"


def _shown(interval: Interval) -> dict[str, Any]:
    head: dict[str, Any] = {"from": interval.since, "until": interval.until, "complete": interval.complete}
    return head if interval.complete else head | {"reasons": interval.reasons, "gaps": interval.gaps}


def _table(covered: Sequence[Covered], problems: Sequence[File]) -> Iterator[str]:
    for one in covered:
        venue, channel, inst, account = one.sub
        name = " ".join(part for part in (venue, channel, inst, f"({account})" if account else None) if part)
        if not one.intervals:
            yield f"{name}  nothing of it is there\n"
            continue
        lacking = [interval for interval in one.intervals if not interval.complete]
        spans = f"{_time(one.intervals[0].since)} .. {_time(one.intervals[-1].until)}"
        records = f"{one.records:,} {'record' if one.records == 1 else 'records'}"
        yield f"{name}  {spans}  {records}  {_verdict(lacking)}\n"
        for interval in lacking:
            gaps = (
                f" ({', '.join(interval.gaps[:3])}{', ...' if len(interval.gaps) > 3 else ''})" if interval.gaps else ""
            )
            yield f"    {_time(interval.since)} .. {_time(interval.until)}  {', '.join(interval.reasons)}{gaps}\n"
    for file in problems:
        yield f"{file.path}: {file.problem}\n"
    short = sum(not one.complete for one in covered)
    if len(covered) > 1:
        many = f"{len(problems)} {'file is' if len(problems) == 1 else 'files are'} not whole"
        whole = f"all {len(covered)} complete{f' as far as they go, but {many}' if problems else ''}\n"
        yield f"{len(covered)} subscriptions, {short} of them not complete\n" if short else whole


def _verdict(lacking: Sequence[Interval]) -> str:
    if not lacking:
        return "complete"
    seconds = sum(one.until - one.since for one in lacking) / _NS
    return f"{len(lacking)} {'gap' if len(lacking) == 1 else 'gaps'}, {seconds:.3f} s"


def _time(ns: int) -> str:
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // _NS)
    except OverflowError:
        return f"{ns} ns"
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ns % _NS // 1000:06}Z"

"""Running a stream until there is a reason to end: signals, refusals, a reader that leaves, the final drain."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from .channels import Subscription
from .errors import SinkError, SubscriptionRefusedError
from .exits import INTERRUPTED, LOST, OK, OUTPUT, REFUSED, UNANSWERED, complain
from .states import SinkState
from .stream import DRAIN, Stream
from .venues import Venue

log = logging.getLogger("okstream")

TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written on stderr: UTC."""

_PATIENCE = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def serve(
    streaming: Stream,
    wanted: Sequence[tuple[Subscription, str | Venue | None]],
    *,
    reader_gone: Callable[[], Coroutine[Any, Any, None]] | None = None,
    stats: float | None = None,
    stamped: bool = False,
    duration: float | None = None,
    drain: float = DRAIN,
) -> int:
    """
    Open `streaming`, subscribe to what is `wanted`, and go on until there is a reason to end.

    Reasons: a signal, `duration` seconds, the count reached, everything refused, no sink left, or `reader_gone`, which
    returns when nobody reads the only sink any more. Lines of `stats` begin with the time if `stamped`. What sinks did
    not get is said on stderr, by name. Returns the exit code; raises as Stream does.
    """
    answered: set[Subscription] = set()
    with stopping() as stop:
        async with streaming:
            ends: list[Coroutine[Any, Any, int]] = [
                after(streaming.wait()),
                after(stop.wait()),
                _unless_refused(streaming, wanted, answered),
            ]
            if reader_gone is not None:
                ends.append(after(reader_gone()))
            if duration is not None:
                ends.append(_over(duration, wanted, answered))
            if stats is not None:
                ends.append(_report(streaming, stats, stamped))
            try:
                code = await first(ends)
            except SinkError:
                code = OK  # what it was is said of each sink below
            await _closed(streaming, drain)
    lost = told(streaming.state().sinks)
    return lost if code == OK else code


def told(sinks: Sequence[SinkState]) -> int:
    """Say of each sink what it did not get; return the exit code for that. What one failed by is in the log."""
    code = OK
    some_are_left = any(sink.state != "failed" for sink in sinks)
    for sink in sinks:
        if sink.excused:
            continue
        failed = sink.state == "failed"
        lost = f"{sink.lost} records were lost" if sink.lost else ""
        if failed and some_are_left:
            since = time.strftime(TIME, time.gmtime(sink.since // 10**9))
            lost = f"{lost}, and all since {since}" if lost else f"all records since {since} were lost"
        if lost:
            complain(f"{sink.name}: {lost}" + ("" if failed else f": {sink.detail or 'it could not keep up'}"))
        code = max(code, OUTPUT if failed else LOST if sink.lost else OK)
    return code


async def _closed(streaming: Stream, drain: float) -> None:
    """Close; say why it takes long, if it does."""
    closing = asyncio.ensure_future(streaming.close(drain))
    finished, _ = await asyncio.wait([closing], timeout=_PATIENCE)
    if not finished:
        slow = ", ".join(f"{sink.name} ({sink.waiting} records)" for sink in streaming.state().sinks if sink.waiting)
        log.warning("waiting up to %.0f s for %s; Ctrl-C ends at once", drain, slow or "the sinks")
    await closing


async def first(works: Iterable[Coroutine[Any, Any, int]]) -> int:
    """Run all `works`; return what the first one to end returns or raises, and cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return max(task.result() for task in finished)


async def after(work: Coroutine[Any, Any, Any]) -> int:
    """Await `work`; that it ends is as asked."""
    await work
    return OK


async def _over(
    duration: float, wanted: Iterable[tuple[Subscription, str | Venue | None]], answered: set[Subscription]
) -> int:
    """Return after `duration` seconds; say which subscriptions the exchange has never answered."""
    await asyncio.sleep(duration)
    unanswered = [str(sub) for sub, _ in wanted if sub not in answered]
    if not unanswered:
        return OK
    complain(f"never answered: {', '.join(unanswered)}")
    return OK if answered else UNANSWERED


async def _unless_refused(
    streaming: Stream, wanted: Iterable[tuple[Subscription, str | Venue | None]], answered: set[Subscription]
) -> int:
    """Subscribe to all; say which are refused; end only if none is left."""
    # They begin in this order, so that by the last one each has its link, and the bound is known; but for patterns.
    patterns = any(sub.is_pattern for sub, _ in wanted)
    bounded = [] if patterns else [_bounded(streaming)]
    await asyncio.gather(*(_subscribed(streaming, *one, answered) for one in wanted), *bounded)
    if patterns:
        await _bounded(streaming)
    if streaming.state().subscriptions:
        await streaming.refused()
        complain("nothing is left that the exchange serves")
    return REFUSED


async def _bounded(streaming: Stream) -> None:
    log.info("memory is bounded by %d MiB of buffers", streaming.memory_bound >> 20)


async def _subscribed(
    streaming: Stream, sub: Subscription, venue: str | Venue | None, answered: set[Subscription]
) -> None:
    try:
        await streaming.subscribe(sub, venue=venue)
    except SubscriptionRefusedError as refusal:
        complain(str(refusal))
    answered.add(sub)


async def _report(streaming: Stream, period: float, stamped: bool) -> int:
    """Write a line about the flow, and of each sink that is not well, to stderr each `period` seconds, for ever."""
    streaming.stats()  # from the first look on, times are taken, too
    dropped: dict[str, int] = {}
    while True:
        await asyncio.sleep(period)
        stats = streaming.stats()
        lag = f"{stats.lag_ms:.0f} ms" if stats.lag_ms is not None else "-"
        when = f"{time.strftime(TIME, time.gmtime())} " if stamped else ""
        complain(
            f"{when}{stats.records / period:.0f} records/s, {stats.links}/{stats.links_wanted} links, "
            f"{stats.open_gaps} open gaps, {stats.dropped} dropped, worst lag {lag}"
        )
        for sink in streaming.state().sinks:
            if line := _condition(sink, dropped.get(sink.name, 0)):
                complain(f"{when}{line}")
            dropped[sink.name] = sink.dropped


def _condition(sink: SinkState, dropped_before: int) -> str:
    """Return what is to be said of a sink that is not `ok`, or has dropped records since the last look."""
    if sink.state == "ok" and sink.dropped == dropped_before:
        return ""
    spooled = f", {sink.spooled} on disk" if sink.spooled else ""
    why = f": {sink.detail}" if sink.detail else ""
    return f"sink {sink.name} {sink.state}, {sink.waiting} waiting{spooled}, {sink.dropped} dropped{why}"


@contextlib.contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """
    Turn the first SIGINT, SIGTERM or SIGHUP into an event, and a SIGINT after it into an end at once.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked(number: int) -> None:
        # Supervisors may send SIGTERM twice; only the second Ctrl-C means "at once".
        if stop.is_set() and number == signal.SIGINT:
            os._exit(INTERRUPTED)
        stop.set()

    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    for number in heeded:
        loop.add_signal_handler(number, asked, number)
    try:
        yield stop
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


def configure_log(verbose: int, quiet: bool, form: str) -> None:
    """Send the log to stderr: warnings, or more with each `verbose`, or errors only."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(form, datefmt=TIME)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger("okstream")
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.raiseExceptions = False  # a stderr that cannot be written is not worth a traceback each line

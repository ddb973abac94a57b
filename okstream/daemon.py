"""Running a stream until there is a reason to end: signals, refusals, a reader that leaves, the final drain."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from .channels import Subscription
from .errors import SinkError, SubscriptionRefusedError
from .exits import INTERRUPTED, LOST, OK, OUTPUT, REFUSED, UNANSWERED, complain, counted, lost
from .memory import mib
from .states import SinkState
from .stream import DRAIN, Stream
from .venues import Venue

log = logging.getLogger("okstream")

_DASHES = str.maketrans("/_", "--")

TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written on stderr: UTC."""

LOG_FORM = "%(asctime)s %(levelname)s okstream: %(message)s"
"""Of lines that are kept."""

Say = Callable[[str, str], None]
"""Says a line to people on stderr, however the log is set up, with how bad it is: a level of the log."""

_PATIENCE = 0.5
_GIVING_UP = 15.0
"""Seconds that what is being opened has to end that; sinks that are open have some of them to close."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def plain(message: str, level: str) -> None:
    """Say `message` to somebody who looks on."""
    complain(message)


def stamped(message: str, level: str) -> None:
    """Say `message` in the form of the log of `run`."""
    complain(message, f"{time.strftime(TIME, time.gmtime())} {level} okstream: ")


async def serve(
    streaming: Stream,
    wanted: Sequence[tuple[Subscription, str | Venue | None]],
    *,
    reader_gone: Callable[[], Coroutine[Any, Any, None]] | None = None,
    stats: float | None = None,
    say: Say = plain,
    duration: float | None = None,
    drain: float = DRAIN,
) -> int:
    """
    Open `streaming`, subscribe to what is `wanted`, and go on until there is a reason to end.

    Reasons: a signal, `duration` seconds, the count reached, everything refused, no sink left, or `reader_gone`, which
    returns when nobody reads the only sink any more. Stats, refusals, and what sinks did not get, by name, is said with
    `say`; how sinks are found, why it ends, and what was written, in the log.
    Returns the exit code; raises as Stream does.
    """
    answered: set[Subscription] = set()
    with stopping() as stop:
        if not await entered(streaming.__aenter__(), lambda: streaming.state().sinks, stop):
            return OK
        try:
            _opened(streaming.state().sinks)
            ends: list[Coroutine[Any, Any, int]] = [
                after(streaming.wait(), "the stream has ended"),
                after(stop.wait()),
                _unless_refused(streaming, wanted, answered, say),
            ]
            if reader_gone is not None:
                ends.append(after(reader_gone(), "nobody reads any more"))
            if duration is not None:
                ends.append(_over(duration, wanted, answered, say))
            if stats is not None:
                ends.append(_report(streaming, stats, say))
            try:
                code = await first(ends)
            except SinkError:
                code = OK  # what it was is said of each sink below
            await _closed(streaming, drain)
        finally:
            await streaming.close()
    worst = told(streaming.state().sinks, say)
    log.info("stopped")
    return worst if code == OK else code


async def entered(
    work: Coroutine[Any, Any, Any], sinks: Callable[[], Sequence[SinkState]], stop: asyncio.Event
) -> bool:
    """Await `work`, which opens `sinks`; where `stop` comes first, give that up. Return whether they are open."""
    opening, asked = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([opening, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        if not opening.done():
            late = [sink.name for sink in sinks() if sink.state == "starting"]
            log.warning("ended before it began: %s was not open yet", late[0] if late else "something")
            opening.cancel()
            await asyncio.wait([opening], timeout=_GIVING_UP)
    if not opening.done() or opening.cancelled():
        return False
    opening.result()
    return True


def _opened(sinks: Sequence[SinkState]) -> None:
    """Log how each sink begins."""
    for sink in sinks:
        spooled = f", {counted(sink.spooled, 'record')} of a run before in its spool" if sink.spooled else ""
        log.info("sink %s: %s%s", sink.name, "open" if sink.state == "ok" else sink.state, spooled)


def told(sinks: Sequence[SinkState], say: Say = plain, *, more: bool = False) -> int:
    """
    Say of each sink what it did not get; return the exit code for that. What one failed by is in the log.

    Where the last one failed nothing came after it, unless there was `more`.
    """
    code = OK
    more = more or any(sink.state != "failed" for sink in sinks)
    for sink in sinks:
        spooled = f", {counted(sink.spooled, 'record')} in its spool for the next start" if sink.spooled else ""
        log.info("sink %s: %s written, %d lost%s", sink.name, counted(sink.written, "record"), sink.lost, spooled)
        if sink.excused:
            continue
        failed = sink.state == "failed"
        missing = lost(sink.lost) if sink.lost else ""
        if failed and more:
            since = time.strftime(TIME, time.gmtime(sink.since // 10**9))
            missing = f"{missing}, and all since {since}" if missing else f"all records since {since} were lost"
        if missing:
            why = "" if failed else f": {sink.detail or 'it could not keep up'}"
            say(f"{sink.name}: {missing}{why}", "ERROR" if failed else "WARNING")
        code = max(code, OUTPUT if failed else LOST if sink.lost else OK)
    return code


async def _closed(streaming: Stream, drain: float) -> None:
    """Close; say why it takes long, if it does."""
    closing = asyncio.ensure_future(streaming.close(drain))
    finished, _ = await asyncio.wait([closing], timeout=_PATIENCE)
    if not finished:
        waiting = {sink.name: sink.waiting + sink.spooled for sink in streaming.state().sinks}
        slow = ", ".join(f"{name} ({counted(count, 'record')})" for name, count in waiting.items() if count)
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


async def after(work: Coroutine[Any, Any, Any], why: str | None = None) -> int:
    """Await `work`; that it ends is as asked, and logged as `why` all does."""
    await work
    if why is not None:
        log.info("stopping: %s", why)
    return OK


async def _over(
    duration: float, wanted: Iterable[tuple[Subscription, str | Venue | None]], answered: set[Subscription], say: Say
) -> int:
    """Return after `duration` seconds; say which subscriptions the exchange has never answered."""
    await asyncio.sleep(duration)
    log.info("stopping: %g s are over", duration)
    unanswered = [str(sub) for sub, _ in wanted if sub not in answered]
    if not unanswered:
        return OK
    say(f"never answered: {', '.join(unanswered)}", "WARNING")
    return OK if answered else UNANSWERED


async def _unless_refused(
    streaming: Stream, wanted: Iterable[tuple[Subscription, str | Venue | None]], answered: set[Subscription], say: Say
) -> int:
    """Subscribe to all; say which are refused; end only if none is left."""
    # They begin in this order, so that by the last one each has its link, and the bound is known; but for patterns.
    patterns = any(sub.is_pattern for sub, _ in wanted)
    bounded = [] if patterns else [_bounded(streaming)]
    await asyncio.gather(*(_subscribed(streaming, *one, answered, say) for one in wanted), *bounded)
    if patterns:
        await _bounded(streaming)
    if streaming.state().subscriptions:
        await streaming.refused()
        say("nothing is left that the exchange serves", "ERROR")
    return REFUSED


async def _bounded(streaming: Stream) -> None:
    log.info("memory: %d MiB of buffers at most", mib(streaming.memory_bound))


async def _subscribed(
    streaming: Stream, sub: Subscription, venue: str | Venue | None, answered: set[Subscription], say: Say
) -> None:
    try:
        await streaming.subscribe(sub, venue=venue)
    except SubscriptionRefusedError as refusal:
        inst = sub.inst or ""
        meant = replace(sub, inst=(inst if "-" in inst else inst.translate(_DASHES)).upper()) if inst else sub
        say(str(refusal) if meant == sub else f"{refusal}. Did you mean {meant}?", "ERROR")
    answered.add(sub)


async def _report(streaming: Stream, period: float, say: Say) -> int:
    """Write a line about the flow, and of each sink that is not well, to stderr each `period` seconds, for ever."""
    streaming.stats()  # from the first look on, times are taken, too
    dropped: dict[str, int] = {}
    while True:
        await asyncio.sleep(period)
        stats = streaming.stats()
        lag = f"{stats.lag_ms:.0f} ms" if stats.lag_ms is not None else "-"
        say(
            f"{stats.records / period:.0f} records/s, {stats.links}/{stats.links_wanted} links, "
            f"{stats.open_gaps} open gaps, {stats.dropped} dropped, worst lag {lag}",
            "INFO",
        )
        for sink in streaming.state().sinks:
            if line := _condition(sink, dropped.get(sink.name, 0)):
                say(line, "WARNING")
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
        if not stop.is_set():
            log.info("stopping: %s", signal.Signals(number).name)
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

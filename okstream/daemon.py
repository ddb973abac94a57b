"""Running a stream until there is a reason to end: signals, refusals, a reader that leaves, the final drain."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any

from .channels import Subscription
from .errors import ReaderGoneError, SubscriptionRefusedError
from .exits import INTERRUPTED, LOST, OK, REFUSED, complain
from .sinks.lines import Lines
from .stream import DRAIN, Stream
from .venues import Venue

log = logging.getLogger("okstream")

_PATIENCE = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def serve(
    streaming: Stream,
    sink: Lines,
    wanted: Sequence[tuple[Subscription, str | Venue | None]],
    stats: float | None = None,
    duration: float | None = None,
    drain: float = DRAIN,
) -> int:
    """
    Open `streaming`, subscribe to what is `wanted`, and go on until there is a reason to end.

    Reasons: a signal, `duration` seconds, the count reached, the reader gone, everything refused. Returns the exit
    code; raises as Stream does.
    """
    with stopping() as stop:
        try:
            async with streaming:
                ends: list[Coroutine[Any, Any, int]] = [
                    _after(streaming.wait()),
                    _after(stop.wait()),
                    _after(sink.reader_gone()),
                    _unless_refused(streaming, wanted),
                ]
                if duration is not None:
                    ends.append(_after(asyncio.sleep(duration)))
                if stats is not None:
                    ends.append(_report(streaming, stats))
                code = await _first(ends)
                await _closed(streaming, drain)
        except ReaderGoneError:
            return OK
    if streaming.lost and code == OK:
        complain(f"{streaming.lost} records were lost: the output could not keep up")
        return LOST
    return code


async def _closed(streaming: Stream, drain: float) -> None:
    """Close; say why it takes long, if it does."""
    closing = asyncio.ensure_future(streaming.close(drain))
    finished, _ = await asyncio.wait([closing], timeout=_PATIENCE)
    if not finished:
        log.warning("waiting up to %.0f s for the output; Ctrl-C ends at once", drain)
    await closing


async def _first(works: Iterable[Coroutine[Any, Any, int]]) -> int:
    """Run all `works`; return what the first one to end returns or raises, and cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return max(task.result() for task in finished)


async def _after(work: Coroutine[Any, Any, Any]) -> int:
    await work
    return OK


async def _unless_refused(streaming: Stream, wanted: Iterable[tuple[Subscription, str | Venue | None]]) -> int:
    """Subscribe to all; say which are refused; end only if none is left."""
    # They begin in this order, so that by the last one each has its link, and the bound is known; but for patterns.
    patterns = any(sub.is_pattern for sub, _ in wanted)
    bounded = [] if patterns else [_bounded(streaming)]
    await asyncio.gather(*(_subscribed(streaming, *one) for one in wanted), *bounded)
    if patterns:
        await _bounded(streaming)
    if streaming.state().subscriptions:
        await streaming.refused()
        complain("nothing is left that the exchange serves")
    return REFUSED


async def _bounded(streaming: Stream) -> None:
    log.info("memory is bounded by %d MiB of buffers", streaming.memory_bound >> 20)


async def _subscribed(streaming: Stream, sub: Subscription, venue: str | Venue | None) -> None:
    try:
        await streaming.subscribe(sub, venue=venue)
    except SubscriptionRefusedError as refusal:
        complain(str(refusal))


async def _report(streaming: Stream, period: float) -> int:
    """Write a line about the flow to stderr each `period` seconds, for ever."""
    streaming.stats()  # from the first look on, times are taken, too
    while True:
        await asyncio.sleep(period)
        stats = streaming.stats()
        lag = f"{stats.lag_ms:.0f} ms" if stats.lag_ms is not None else "-"
        complain(
            f"{stats.records / period:.0f} records/s, {stats.links}/{stats.links_wanted} links, "
            f"{stats.open_gaps} open gaps, {stats.dropped} dropped, worst lag {lag}"
        )


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
    formatter = logging.Formatter(form, datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger("okstream")
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.raiseExceptions = False  # a stderr that cannot be written is not worth a traceback each line

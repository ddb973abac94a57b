"""`okstream record`: a journal of all that arrives."""

import argparse
from collections.abc import Sequence

from okstream.daemon import Say, configure_log, plain, serve
from okstream.entries import Entry
from okstream.exits import LOST, OK, complain, counted, lost
from okstream.journal import Journal
from okstream.options import MIB, LaneOptions
from okstream.stream import Stream

from .stream import asked, source, subscriptions


async def run(arguments: argparse.Namespace) -> int:
    """Run `okstream record`; return the exit code. Raises as Stream does."""
    configure_log(arguments.verbose, arguments.quiet, "okstream: %(message)s")
    subs = subscriptions(arguments)
    journal = Journal(
        arguments.output, segment_bytes=arguments.segment_mib * MIB, segment_seconds=arguments.segment_time
    )
    # Records have to be made, or nothing would be checked and asked for anew; but nobody wants to have them.
    nothing = LaneOptions(name="nothing", venues=("none",), statements=False)
    streaming = Stream(sinks=[(_Nowhere(), nothing)], journal=journal, **source(arguments))
    code = await serve(streaming, asked(streaming, subs), stats=arguments.stats, duration=arguments.duration)
    if not arguments.quiet:
        segments, size = journal.written
        complain(f"journal: {counted(segments, 'segment')}, {-(-size // 1024)} KiB, in {journal.where}")
    return said_of(journal, code)


def said_of(journal: Journal, code: int, say: Say = plain) -> int:
    """Say what `journal` lacks; return the exit code for that, where it is not `code` anyhow."""
    if journal.lost:
        say(f"journal: {lost(journal.lost, 'input')}", "WARNING")
    return LOST if journal.lost and code == OK else code


class _Nowhere:
    """A sink that does nothing with what it gets."""

    async def open(self) -> None:
        pass

    async def write(self, batch: Sequence[Entry]) -> None:
        pass

    async def close(self) -> None:
        pass

"""`okstream replay`: records of a journal or a recording."""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from okstream import config, venues
from okstream.daemon import after, configure_log, entered, first, stopping, told
from okstream.errors import ConfigError, JournalError, SinkError
from okstream.exits import LOST, OK, complain
from okstream.journal.volumes import found
from okstream.options import LaneOptions
from okstream.replay.playback import Playback
from okstream.sinks import Sink
from okstream.sinks.lines import Lines, Stdout

log = logging.getLogger("okstream.journal")

_DRAIN = 60.0


async def run(arguments: argparse.Namespace) -> int:
    """Run `okstream replay`; return the exit code. Raises ConfigError and SinkError."""
    sinks = _sinks(arguments)
    only = sinks[0][0] if len(sinks) == 1 else None
    size = sum(path.stat().st_size for path in found([Path(file) for file in arguments.files]))
    with stopping() as stop, _progress(size, arguments.quiet, arguments.config is None) as progress:
        # Only now, for what shows the progress stands in the place of stderr, so that lines go above it.
        # With a configuration nothing but the log tells what came of it.
        level = max(arguments.verbose, arguments.config is not None)
        configure_log(level, arguments.quiet, "okstream: %(message)s")
        playback = Playback(
            arguments.files,
            sinks,
            venue=venues.find(arguments.venue) if arguments.venue is not None else None,
            speed=arguments.speed,
            progress=progress,
        )
        code, cut = OK, False
        if not await entered(playback.__aenter__(), lambda: playback.sinks, stop):
            return OK
        try:
            ends = [after(playback.wait()), after(stop.wait())]
            if isinstance(only, Lines):
                ends.append(after(only.reader_gone()))
            try:
                await first(ends)
            except JournalError as error:
                complain(str(error))
                code = LOST
            except SinkError:
                cut = True  # by what is in the log; what it did not get is said of each sink below
            await playback.close(_DRAIN if stop.is_set() else 3600.0)
        finally:
            await playback.close()
    if playback.replay.differing:
        log.warning("%d requests would not be the same today: another version wrote this journal",
                    playback.replay.differing)  # fmt: skip
    return told(playback.sinks, more=cut) or code


def _sinks(arguments: argparse.Namespace) -> list[tuple[Sink, LaneOptions]]:
    if arguments.config is not None:
        for option, given in (("--format", arguments.format is not None), ("--data-only", arguments.data_only)):
            if given:
                raise ConfigError(f"{option} is for stdout; with --config each sink has its own options")
        outputs = config.load(arguments.config).outputs()
        with config.placed(arguments.config):
            return [(output.sink(), output.options) for output in outputs]
    return [
        (Stdout(), LaneOptions(form=arguments.format or "json", statements=not arguments.data_only, when_full="block"))
    ]


@contextmanager
def _progress(size: int, quiet: bool, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how much of `size` bytes was read; elsewhere, and between records, say nothing."""
    if quiet or not sys.stderr.isatty() or (shown and sys.stdout.isatty()):
        yield lambda count: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
    except ImportError:
        yield _Tenths(size).read
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("replay", total=size)
        yield lambda count: bar.advance(task, count)


class _Tenths:
    """Says in lines how much of `size` bytes was read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._read = 0
        self._told = 0

    def read(self, count: int) -> None:
        self._read += count
        tenths = 10 * self._read // max(1, self._size)
        if tenths > self._told:
            self._told = tenths
            complain(f"{10 * tenths} % read")

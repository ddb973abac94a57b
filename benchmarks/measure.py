"""Clients under load, each in a process of its own, seen from outside."""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from .market import INSTRUMENTS
from .wires import WIRES

CLIENTS = ("plain", "json", "raw")
"""The plain script, and okstream by its format."""

_ITEMS = ",".join(INSTRUMENTS)
_QUIET = 0.25
_READ_EVERY = 0.05
_MEMORY = Path("/dev/shm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Run:
    """
    What one client did with one stream.

    `rate` is in messages a second, `cost` in µs of processor time a message, both between the first and the last;
    `lost` is what its output lacks. `resident` holds readings of its memory in bytes, equally spaced.
    """

    rate: float
    cost: float
    lost: int
    resident: list[int] = field(default_factory=list)


class Void(Exception):
    """What was measured means nothing."""


def pinned(core: int) -> Callable[[], None]:
    """Return what keeps a new process on one core; on a machine with a single one it does nothing."""
    cores = sorted(os.sched_getaffinity(0))
    chosen = {cores[core]} if len(cores) > core else set(cores)
    return lambda: os.sched_setaffinity(0, chosen)


class Blaster:
    """The sending process of one generation."""

    def __init__(self, generation: str, messages: int) -> None:
        self.generation = generation
        self.messages = messages
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.blaster", generation, str(messages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=pinned(0),
        )
        self._port = self.hear("port")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def hear(self, word: str) -> str:
        """Wait for the line that begins with `word`; return its rest."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line.startswith(word):
            raise Void(f"the sender said {line!r} for {word!r}")
        return line.removeprefix(word).strip()

    def speaks(self, seconds: float) -> bool:
        """Return whether there is something to hear, within so many `seconds`."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    def command(self, client: str) -> list[str]:
        """Return the command that runs `client` against this sender."""
        wire, url = WIRES[self.generation], self.url
        if client == "plain":
            return [sys.executable, "-m", "benchmarks.plain", self.generation, url + wire.path]
        okstream = str(Path(sys.executable).with_name("okstream"))
        items = [f"{channel}:{_ITEMS}" for channel in ("ticker", "trades", "book")]
        return [okstream, "stream", "--url", url, "--venue", wire.venue, "--data-only", "--format", client, *items]


def speed(blaster: Blaster, client: str) -> Run:
    """Measure `client` over one stream; its lines go to a file in memory, where they are counted afterwards."""
    with tempfile.TemporaryFile(dir=_MEMORY if _MEMORY.is_dir() else None) as output:
        process = subprocess.Popen(blaster.command(client), stdout=output, preexec_fn=pinned(1))
        try:
            blaster.hear("ready")
            _settled(output)
            before, began = spent(process.pid), time.time_ns()
            blaster.tell("go")
            blaster.hear("sent")
            ended = _settled(output)
            took = spent(process.pid) - before
            _leave(blaster, process, client)
        finally:
            process.kill()
            process.wait()
        lines = _lines(output)
    lost = blaster.messages + len(INSTRUMENTS) - lines
    return Run(blaster.messages * 1e9 / (ended - began), took * 1e6 / blaster.messages, lost)


def memory(blaster: Blaster, client: str) -> Run:
    """Watch the memory of `client` over one stream; its lines go to `wc -l`, as they would in a pipe."""
    counter = subprocess.Popen(["wc", "-l"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen(blaster.command(client), stdout=counter.stdin, preexec_fn=pinned(1))
    assert counter.stdin is not None
    counter.stdin.close()
    resident: list[int] = []
    try:
        blaster.hear("ready")
        before, began = spent(process.pid), time.time_ns()
        blaster.tell("go")
        while not blaster.speaks(_READ_EVERY):
            resident.append(_resident(process.pid))
        blaster.hear("sent")
        rate = blaster.messages * 1e9 / (time.time_ns() - began)
        cost = (spent(process.pid) - before) * 1e6 / blaster.messages
        _leave(blaster, process, client)
    finally:
        process.kill()
        process.wait()
    with counter:
        assert counter.stdout is not None
        lines = int(counter.stdout.read())
    return Run(rate, cost, blaster.messages + len(INSTRUMENTS) - lines, resident)


def _settled(output: IO[bytes]) -> int:
    """Wait until nothing has been written for a while; return when the last of it was (ns)."""
    written = None
    while (state := os.fstat(output.fileno())).st_mtime_ns != written:
        written = state.st_mtime_ns
        time.sleep(_QUIET)
    return written


def spent(pid: int) -> float:
    """Return the processor seconds of a process, all its threads: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime(~pid << 3 | 2)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _leave(blaster: Blaster, process: "subprocess.Popen[bytes]", client: str) -> None:
    """End a client as its user would: okstream by a signal, the script by closing its connection."""
    if client == "plain":
        blaster.tell("close")
    else:
        process.terminate()
    code = process.wait(timeout=10)
    if client != "plain":
        blaster.tell("close")
    if code != 0:
        raise Void(f"{client} ended with exit code {code}")


def _lines(output: IO[bytes]) -> int:
    output.seek(0)
    count = 0
    while piece := output.read(1 << 20):
        count += piece.count(b"\n")
    return count

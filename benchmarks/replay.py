"""
A journal beside the live session it is of: what writing it costs, and what playing it again does.

`okstream record` against the sender, then `okstream replay` of what it wrote, into a file; of the latter what a replay
of next to nothing takes is subtracted, which is the start of the process.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from .market import INSTRUMENTS
from .measure import Blaster, Void, pinned, speed, spent
from .wires import WIRES

AIM = 0.7
"""Messages a second of processor time, of those of the live session."""

_QUIET = 2.5
_HARDLY = 4000
_OKSTREAM = str(Path(sys.executable).with_name("okstream"))


def report(rounds: int = 3, messages: int = 100_000, generation: str = "v5") -> None:
    """Measure and print; raises Void where a line is missing."""
    live, written, played, bytes_ = [], [], [], 0.0
    with Blaster(generation, messages) as blaster:
        for _ in range(rounds):
            run = speed(blaster, "json")
            if run.lost:
                raise Void(f"okstream json of {generation} lacks {run.lost} of {messages} lines")
            live.append(run.cost)
            with tempfile.TemporaryDirectory() as folder:
                written.append(_record(blaster, folder))
                bytes_ = sum(path.stat().st_size for path in Path(folder).iterdir()) / messages
                played.append(_replay(folder, messages))
    ratio = median(one / other for one, other in zip(live, played, strict=True))
    verdict = "met" if ratio >= AIM else "missed"
    print(f"\njournal of {generation}, {messages} messages, medians of {rounds} rounds; no line lost")
    print(f"  live session {median(live):.1f} µs of processor time a message, okstream record {median(written):.1f}")
    print(f"  replay {median(played):.1f}: {ratio:.2f}x the live session's speed; aim {AIM}x {verdict}")
    print(f"  {bytes_:.0f} bytes a message on disk", flush=True)


def _record(blaster: Blaster, folder: str) -> float:
    """Write a journal of one stream; return µs of processor time a message."""
    wire = WIRES[blaster.generation]
    items = [f"{channel}:{','.join(INSTRUMENTS)}" for channel in ("ticker", "trades", "book")]
    command = [_OKSTREAM, "record", "--url", blaster.url, "--venue", wire.venue, "-o", folder, *items]
    process = subprocess.Popen(command, preexec_fn=pinned(1))
    try:
        blaster.hear("ready")
        _still(folder)
        before = spent(process.pid)
        blaster.tell("go")
        blaster.hear("sent")
        _still(folder)
        cost = (spent(process.pid) - before) * 1e6 / blaster.messages
        process.terminate()
        if (code := process.wait(timeout=30)) != 0:
            raise Void(f"okstream record ended with exit code {code}")
        blaster.tell("close")
    finally:
        process.kill()
        process.wait()
    return cost


def _still(folder: str) -> None:
    """Wait until the journal has hardly grown for a while: the ticks of a link are in it, too."""
    size = -_HARDLY
    while (now := sum(path.stat().st_size for path in Path(folder).iterdir())) >= size + _HARDLY:
        size = now
        time.sleep(_QUIET)


def _replay(folder: str, messages: int) -> float:
    """Play a journal; return µs of processor time a message."""
    with tempfile.TemporaryDirectory() as other:
        short = Path(other) / "short.jsonl"
        short.write_text('{"dir":"journal","journal":1,"instance":"short","segment":1}\n')
        started, _ = _run(str(short))
    took, lines = _run(folder)
    if lines < messages + len(INSTRUMENTS):
        raise Void(f"a replay gave {lines} lines of {messages}")
    return (took - started) * 1e6 / messages


def _run(place: str) -> tuple[float, int]:
    """Return the processor seconds of one replay, and how many lines it wrote."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [_OKSTREAM, "replay", "--quiet", "--data-only", place], stdout=output, preexec_fn=pinned(1)
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise Void(f"okstream replay ended with exit code {process.returncode}")
        output.seek(0)
        lines = 0
        while piece := output.read(1 << 20):
            lines += piece.count(b"\n")
    return usage.ru_utime + usage.ru_stime, lines


if __name__ == "__main__":
    report(*map(int, sys.argv[1:]))

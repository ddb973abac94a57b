"""A process that is killed again and again, with a spool in front of its sink: what is held, with the gaps, is all."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest

from okstream.testing.behind import INSTRUMENTS, gaps_of

BATCH = 20
KILLS = 4

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from okstream.sinks.file import File
from okstream.testing.behind import Behind

folder, kind, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "last"


class Lines:
    '''Cannot prove what it holds, and takes its time.'''

    async def open(self):
        self.file = os.open(folder / "lines.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def write(self, batch):
        os.write(self.file, b"".join(entry.line for entry in batch))
        await asyncio.sleep(0.001)

    async def close(self):
        os.close(self.file)


async def main():
    sink = File(path=str(folder / "lines.jsonl")) if kind == "file" else Lines()
    options = {"spool": folder / "spool", "spool_always": True, "batch_records": 20, "linger": 0.0}
    behind = Behind(sink, f"run{first}", first, **options)
    await behind.start()
    for _ in range(5 if last else 1_000_000):
        trades = behind.trades(30)
        os.write(1, b"%s %d\\n" % (trades[-1].id.encode(), behind.state.written))
        await asyncio.sleep(0.001)
    await behind.finish(30)


asyncio.run(main())
"""


def run(folder: Path, kind: str, first: int, written: int | None) -> int:
    """Run it, and kill it once so many records are written, None for not at all; return the last number it put."""
    last = first
    arguments = [sys.executable, folder / "script.py", folder, kind, str(first), "last" if written is None else "on"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            last, done = map(int, line.split())
            if written is not None and done >= written:
                process.send_signal(signal.SIGKILL)
        complaints = process.stderr.read().decode()
    assert process.returncode == (0 if written is None else -signal.SIGKILL), complaints
    return last


@pytest.mark.parametrize("kind", ["plain", "file"])
def test_what_is_held_with_the_gaps_is_all_there_was(tmp_path: Path, kind: str):
    (tmp_path / "script.py").write_text(SCRIPT)
    first, put = 1, []
    for turn in range(KILLS + 1):
        last = run(tmp_path, kind, first, 150 + 90 * turn if turn < KILLS else None)
        put.append((first, last))
        first = last + 300  # what the exchange said while nobody listened

    fields = []
    for line in (tmp_path / "lines.jsonl").read_bytes().splitlines():
        if line.endswith(b"}"):
            fields.append(orjson.loads(line))
    repeated = 0
    for inst in INSTRUMENTS:
        held = [int(one["id"]) for one in fields if one["type"] == "trade" and one["inst"] == inst]
        counts = Counter(held)
        repeated += sum(counts.values()) - len(counts)
        assert list(counts) == sorted(counts), "in order, where they come first"
        gaps = gaps_of(fields, "trades", inst)
        assert len([gap for gap in gaps if gap[1] is not None]) >= KILLS
        wanted = [number for number in range(1, put[-1][1] + 1) if INSTRUMENTS[number % len(INSTRUMENTS)] == inst]
        missing = [number for number in wanted if number not in counts]
        stray = [number for number in missing if not any(a < number and (u is None or number < u) for a, u in gaps)]
        assert stray == []
        assert len(missing) >= KILLS * 90, "what nobody listened to is not there"
        for begin, end in gaps:
            assert end is not None
            assert not any(begin < number < end for number in counts), "no gap covers what is held"
    assert repeated <= KILLS * BATCH, "a batch for each time"

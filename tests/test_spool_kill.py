"""A process that is killed, with a spool in front of its sink: what is held, with the gaps, is all there was."""

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

folder, kind, how, first, last = Path(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4]), sys.argv[5] == "last"
options = {"spool": folder / "spool", "batch_records": 20, "linger": 0.0, "when_full": "spill"}
options |= {"always": {"spool_always": True}, "spill": {"bytes": 100_000}, "not": {}}[how]


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
    behind = Behind(sink, f"run{first}", first, **options)
    await behind.start()
    for _ in range(5 if last else 1_000_000):
        # Where it is to spill, more than fits in memory at once.
        trades = behind.trades({"not": 10, "always": 30, "spill": 400}[how])
        state = behind.state
        os.write(1, b"%s %d %d\\n" % (trades[-1].id.encode(), state.written, state.spooled))
        await asyncio.sleep(0.001)
    await behind.finish(30)


asyncio.run(main())
"""


def run(folder: Path, kind: str, how: str, first: int, written: int | None) -> tuple[int, bool]:
    """
    Run it, and kill it once so many records are written, None for not at all.

    Return the last number it put, and whether it ever had something on the disk.
    """
    last, spooled = first, False
    command = [sys.executable, folder / "script.py", folder, kind, how]
    arguments = [*command, str(first), "last" if written is None else "on"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            last, done, waits = map(int, line.split())
            spooled = spooled or waits > 0
            if written is not None and done >= written:
                process.send_signal(signal.SIGKILL)
        complaints = process.stderr.read().decode()
    assert process.returncode == (0 if written is None else -signal.SIGKILL), complaints
    return last, spooled


@pytest.mark.parametrize("how", ["always", "spill", "not"])
@pytest.mark.parametrize("kind", ["plain", "file"])
def test_what_is_held_with_the_gaps_is_all_there_was(tmp_path: Path, kind: str, how: str):
    (tmp_path / "script.py").write_text(SCRIPT)
    first, put, waited = 1, [], []
    for turn in range(KILLS + 1):
        last, spooled = run(tmp_path, kind, how, first, 150 + 90 * turn if turn < KILLS else None)
        put.append((first, last))
        waited.append(spooled)
        first = last + 300  # what the exchange said while nobody listened
    assert any(waited) == (how != "not"), "it is what the test is about"

    fields = []
    for line in (tmp_path / "lines.jsonl").read_bytes().splitlines():
        if line.endswith(b"}"):  # behind what a kill may have left of another one
            fields.append(orjson.loads(line[line.rindex(b'{"type":') :]))
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
            if how == "always" or kind == "file":  # else it begins at what was remembered last
                assert not any(begin < number < end for number in counts), "no gap covers what is held"
    assert repeated <= KILLS * BATCH, "a batch for each time"


PARTICULAR = """
import asyncio, os, signal, sys
from pathlib import Path
from okstream.errors import RejectedError
from okstream.testing.behind import Behind

folder, first, poison, state, when = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
full = asyncio.Event()


class Particular:
    '''Can never hold one trade; its process is killed at what it is told.'''

    async def open(self):
        self.file = os.open(folder / "lines.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def write(self, batch):
        await full.wait()
        bad = [at for at, entry in enumerate(batch) if entry.type == "trade" and entry.fields["id"] == poison]
        said = [one["state"] for one in (entry.fields for entry in batch) if one.get("reason") == "sink"]
        if state in said and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self.file, b"".join(entry.line for at, entry in enumerate(batch) if at not in bad))
        if state in said:
            os.kill(os.getpid(), signal.SIGKILL)
        if bad:
            raise RejectedError("poison", dict.fromkeys(bad, "poison"))

    async def close(self):
        os.close(self.file)


async def main():
    options = {"spool": folder / "spool", "spool_always": True, "batch_records": 2, "linger": 0.0}
    behind = Behind(Particular(), f"run{first}", first, **options)
    await behind.start()
    behind.trades(12)
    while behind.state.spooled < 12:
        await asyncio.sleep(0.001)
    if state == "full":
        os.kill(os.getpid(), signal.SIGKILL)
    full.set()
    await behind.finish(30)


asyncio.run(main())
"""


@pytest.mark.parametrize("why", ["rejected", "spoilt"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", ["open", "closed"])
def test_a_gap_of_what_a_sink_cannot_have_is_closed_after_a_kill_that_comes_in_between(
    tmp_path: Path, why: str, when: str, state: str
):
    (tmp_path / "script.py").write_text(PARTICULAR)
    poison = "4" if why == "rejected" else "none"

    def live(first: int, state: str) -> None:
        command = [sys.executable, tmp_path / "script.py", tmp_path, str(first), poison, state, when]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == (-signal.SIGKILL if state != "end" else 0), done.stderr.decode()

    live(1, "full")
    if why == "spoilt":
        (segment,) = (tmp_path / "spool").glob("*.spool")
        data = segment.read_bytes()
        at = data.index(b'"id":"4"')
        segment.write_bytes(data[:at] + b"#" + data[at + 1 :])
    live(101, state)
    live(201, "end")

    fields = list(map(orjson.loads, (tmp_path / "lines.jsonl").read_bytes().splitlines()))
    trades = [int(one["id"]) for one in fields if one["type"] == "trade"]
    assert list(dict.fromkeys(trades)) == [one for a in (1, 101, 201) for one in range(a, a + 12) if one != 4]
    assert len(trades) - len(set(trades)) <= 2, "a batch"
    said = [one for one in fields if one.get("reason") == "sink"]
    for inst in INSTRUMENTS if why == "spoilt" else INSTRUMENTS[1:2]:
        own = [one for one in said if one["inst"] == inst]
        before, after = _around(inst)
        for gap in {one["gap"] for one in own}:
            assert [one["state"] for one in own if one["gap"] == gap][-1] == "closed"
        assert {one["after"] for one in own} == {before}
        assert {one["until"] for one in own} - {None, "4"} == {after}
        assert own[-1]["state"] == "closed"
        held = [one for one in fields if one["inst"] == inst]
        closed = max(at for at, one in enumerate(held) if one is own[-1])
        assert held[closed + 1]["id"] == after, "directly before what comes again"
    assert {one["inst"] for one in said} == set(INSTRUMENTS if why == "spoilt" else INSTRUMENTS[1:2])


def _around(inst: str) -> tuple[str | None, str]:
    """The trades before and behind number 4."""
    own = [number for number in range(1, 8) if INSTRUMENTS[number % len(INSTRUMENTS)] == inst and number != 4]
    return str(own[0]), str(own[1])

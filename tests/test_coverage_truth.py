"""`okstream coverage` against the truth: okstream killed and restarted, its connections lost, over real sockets."""

import asyncio
import sys

import orjson
from stores.plan import Plan, Store, Stroke
from stores.runs import play
from support.filed import unfinished

TIMEOUT = 30
STORES = (
    Store("archive", "file", {"path": "{channel}/{inst}/{date}-{hour}.jsonl.zst", "batch_records": 99, "linger": 0.05}),
    Store("out", "stdout", {"batch_records": 100}),
)
FAULTS = (
    Stroke(0, "exchange", text="drop"),
    Stroke(0, "kill"),
    Stroke(0, "exchange", text="close"),
    Stroke(0, "kill"),
    Stroke(0, "term"),
)


def test_what_is_said_to_be_complete_is_and_what_is_not_lies_where_something_happened(tmp_path):
    shown = play(Plan(2, "okx-v5", 1, "zero", STORES, FAULTS, in_turn=True, calm=0.0), tmp_path)
    folder = tmp_path / "data"
    assert not unfinished(folder)
    archive = shown.stores["archive"]
    assert {"drop", "close"} <= shown.faults.keys()
    assert {"start", "disconnected"} <= archive.report.reasons.keys()
    assert archive.incomplete == archive.missing > 0, "nothing was lost, so nothing was shown"
    code, told = asyncio.run(asked(folder))
    assert code == 4
    assert {one["channel"] for one in told if not one["complete"]} >= {"trades-all", "book", "ticker"}


async def asked(folder):
    """Return what `okstream coverage --json` exits with, and says."""
    command = [sys.executable, "-m", "okstream", "coverage", "--json", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(TIMEOUT):
        text, _ = await process.communicate()
    return process.returncode, [orjson.loads(line) for line in text.splitlines()]

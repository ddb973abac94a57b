"""`okstream coverage` against the truth: okstream killed and restarted, its connections lost, over real sockets."""

import asyncio
import signal
import sys
from contextlib import asynccontextmanager

import orjson
from stores.judging import matches
from support.filed import finished, records, unfinished

from okstream.coverage import coverage
from okstream.files.evidence import found, read, sources
from okstream.simulator import Settings, Simulator

TIMEOUT = 30
INSTRUMENTS = ("BTC-USDT", "ETH-USDT")

CONFIG = """
[[source]]
venue = "okx"
url = "{url}"
subscriptions = ["trades-all:BTC-USDT,ETH-USDT", "ticker:BTC-USDT"]

[sink.archive]
type = "file"
path = "{folder}/{{channel}}/{{inst}}/{{date}}-{{hour}}.jsonl.zst"
linger = 0.05
"""


async def until(condition):
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 (files of another process tell nobody that they grew)
            await asyncio.sleep(0.02)


def written(folder):
    return sum(path.stat().st_size for path in folder.rglob("trades-all/*/*.part"))


@asynccontextmanager
async def running(folder, config, end):
    """Run okstream until it has written for a while; then `end` it."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "okstream", "run", "--config", str(config))
    try:
        await until(lambda: written(folder) > 3000 or process.returncode is not None)
        yield
        before = written(folder)
        await until(lambda: written(folder) > before + 3000 or process.returncode is not None)
    finally:
        if process.returncode is None:
            process.send_signal(end)
        async with asyncio.timeout(TIMEOUT):
            code = await process.wait()
    assert code == (-signal.SIGKILL if end == signal.SIGKILL else 0)


async def scenario(folder, config):
    async with Simulator("okx-v5", settings=Settings(rate=40.0, connects_per_second=None)) as sim:
        config.write_text(CONFIG.format(url=sim.url, folder=folder))
        faults = {signal.SIGKILL: "drop", signal.SIGTERM: "close"}
        for end in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
            async with running(folder, config, end):
                sim.inject(faults[end])
            before = len(sim.log.trades(INSTRUMENTS[0]))
            if end == signal.SIGKILL:
                await until(lambda before=before: len(sim.log.trades(INSTRUMENTS[0])) > before)
        assert sim.counters.faults["drop"] == 2
        return {inst: list(map(str, matches(sim, inst))) for inst in INSTRUMENTS}


def test_what_is_said_to_be_complete_is_and_what_is_lost_lies_in_what_is_not(tmp_path):
    folder = tmp_path / "data"
    truth = asyncio.run(scenario(folder, tmp_path / "config.toml"))
    assert not unfinished(folder)
    covered = {one.sub[1:3]: one for one in coverage(sources(map(read, found([str(folder)]))))}
    lost = 0
    for inst in INSTRUMENTS:
        said = [one for path in finished(folder / "trades-all" / inst) for one in records(path)]
        trades = sorted((one for one in said if one["type"] == "trade"), key=lambda one: int(one["id"]))
        held = [one["id"] for one in trades]
        assert len(set(held)) == len(held), "nothing stands twice"
        intervals = covered["trades-all", inst].intervals
        reasons = {reason for one in intervals for reason in one.reasons}
        assert reasons <= {"start", "disconnected", "restart", "sequence"}
        assert {"start", "disconnected"} <= reasons
        for interval in intervals:
            inside = [one["id"] for one in trades if interval.since <= one["recv"] <= interval.until]
            first, last = min(map(int, inside)), max(map(int, inside))
            missing = {one for one in truth[inst] if first <= int(one) <= last} - set(held)
            assert not (interval.complete and missing)
            lost += len(missing)
        everything = {one for one in truth[inst] if int(held[0]) <= int(one) <= int(held[-1])}
        assert len(everything) > 100
        assert len(everything - set(held)) <= lost
    assert lost, "nothing was lost, so nothing was shown"
    code, told = asyncio.run(asked(folder))
    assert code == 4
    assert {(one["channel"], one["inst"]) for one in told if not one["complete"]} >= {
        ("trades-all", inst) for inst in INSTRUMENTS
    }


async def asked(folder):
    """Return what `okstream coverage --json` exits with, and says."""
    command = [sys.executable, "-m", "okstream", "coverage", "--json", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(TIMEOUT):
        text, _ = await process.communicate()
    return process.returncode, [orjson.loads(line) for line in text.splitlines()]

"""Several stores at once, in real processes: what each holds, with the gaps it was told of, is all there was."""

import asyncio
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager

import orjson
from nats_server import nats_server, stored, until
from support.filed import finished, records, unfinished

from okstream.simulator import Settings, Simulator
from okstream.testing.behind import gaps_of

TIMEOUT = 30.0
CHANNEL = "trades-all"
INSTRUMENTS = ("BTC-USDT", "ETH-USDT")
MORE = 60

CONFIG = """
[[source]]
venue = "okx"
url = "{url}"
subscriptions = ["trades-all:BTC-USDT,ETH-USDT"]

[sink.archive]
type = "file"
path = "{folder}/{{channel}}/{{inst}}/{{date}}-{{hour}}.jsonl.zst"
linger = 0.05

[sink.broker]
type = "nats"
servers = ["{nats}"]
storage = "file"
ack_timeout = 0.5
on_start = "retry"
retry_first = 0.1
retry_most = 0.2
spool = "{spool}"
spool_always = true

[sink.out]
type = "stdout"
"""


@asynccontextmanager
async def running(config, out, end):
    """Run okstream, its standard output at the end of the file `out`; then `end` it."""
    command = [sys.executable, "-m", "okstream", "run", "--config", str(config)]
    with out.open("ab") as file:
        process = await asyncio.create_subprocess_exec(*command, stdout=file)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(end)
        async with asyncio.timeout(TIMEOUT):
            code = await process.wait()
    assert code == (-signal.SIGKILL if end == signal.SIGKILL else 0)


async def scenario(folder, config, server):
    async with Simulator("okx-v5", settings=Settings(rate=40.0, connects_per_second=None)) as sim:
        values = {"url": sim.url, "folder": folder / "data", "nats": server.url, "spool": folder / "spool"}
        config.write_text(CONFIG.format(**values))
        out = folder / "out.jsonl"

        async def more():
            lines = out.read_bytes().count(b"\n") if out.exists() else 0
            await until(lambda: out.exists() and out.read_bytes().count(b"\n") >= lines + MORE, TIMEOUT)

        async with running(config, out, signal.SIGKILL):
            await more()
            server.kill()
            await more()
        missed = len(sim.log.trades(INSTRUMENTS[0]))
        await until(lambda: len(sim.log.trades(INSTRUMENTS[0])) > missed, TIMEOUT)
        async with running(config, out, signal.SIGKILL):
            await more()
            server.start()
            await more()
            sim.inject("drop")
            await more()
            server.freeze()
            await more()
        server.thaw()
        async with running(config, out, signal.SIGTERM):
            await more()
        assert sim.counters.faults["drop"] == 1
        # One trade of the market is `count` matches in a row, each of which this channel pushes.
        return {
            inst: [one for trade in sim.log.trades(inst) for one in range(trade.id - trade.count + 1, trade.id + 1)]
            for inst in INSTRUMENTS
        }


def judged(said, truth, inst):
    """Hold what a store was `said` against the `truth`; return how many are there again, and missing."""
    counts = Counter(
        int(one["id"]) for one in said if one["type"] == "trade" and (one["channel"], one["inst"]) == (CHANNEL, inst)
    )
    assert list(counts) == sorted(counts), "in order, where they come first"
    assert counts.keys() <= set(truth), "nothing is invented"
    missing = [one for one in truth if min(counts) < one < max(counts) and one not in counts]
    gaps = gaps_of(said, CHANNEL, inst)
    stray = [one for one in missing if not any(a < one and (u is None or one < u) for a, u in gaps)]
    assert stray == []
    for after, before in gaps:
        assert before is None or not any(after < one < before for one in counts if after), "no gap covers what is held"
    return sum(counts.values()) - len(counts), len(missing)


def test_a_file_and_a_broker_hold_all_there_was_or_say_what_they_lack_after_kills_of_both(tmp_path):
    with nats_server(tmp_path / "nats") as server:
        truth = asyncio.run(scenario(tmp_path, tmp_path / "config.toml", server))
        messages = [orjson.loads(message.data) for message in asyncio.run(stored(server))]
    assert not unfinished(tmp_path / "data")
    for inst in INSTRUMENTS:
        files = [one for path in finished(tmp_path / "data" / CHANNEL / inst) for one in records(path)]
        again, missing = judged(files, truth[inst], inst)
        assert again == 0, "a file proves what it holds"
        assert missing, "nothing was lost, so nothing was shown"
        again, _ = judged(messages, truth[inst], inst)
        assert again == 0, "JetStream drops what it has"

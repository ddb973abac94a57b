"""Several stores at once, in real processes: what each holds, with the gaps it was told of, is all there was."""

import asyncio
import signal

from nats_server import nats_server, stored, until
from stores.instance import TIMEOUT, running
from stores.judging import judged, matches
from support.filed import held, unfinished

from okstream.channels import parse
from okstream.exits import LOST
from okstream.simulator import Settings, Simulator

SUBSCRIPTIONS = ["trades-all:BTC-USDT,ETH-USDT", "book:BTC-USDT", "ticker:BTC-USDT", "candle-1m:BTC-USDT"]
SUBS = [sub for text in SUBSCRIPTIONS for sub in parse(text)]

CONFIG = """
stats = 0.1

[[source]]
venue = "okx"
url = "{url}"
subscriptions = {subscriptions}

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

[sink.spilling]
type = "nats"
servers = ["{nats}"]
stream = "SPILLED"
subject = "spilled.{{venue}}.{{channel}}.{{inst}}"
storage = "file"
ack_timeout = 0.5
on_start = "retry"
retry_first = 0.1
retry_most = 0.2
when_full = "spill"
lane_records = 50
spool = "{spool}-too"

[sink.out]
type = "stdout"
lane_records = 200
"""


async def scenario(folder, server, sim):
    values = {"url": sim.url, "folder": folder / "data", "nats": server.url, "spool": folder / "spool"}
    config = folder / "config.toml"
    config.write_text(CONFIG.format(**values, subscriptions=SUBSCRIPTIONS))
    outs = []
    async with running(config, signal.SIGKILL) as one:
        await one.more(len(SUBS))
        server.kill()
        await one.more(len(SUBS))
    outs.append(one)
    missed = len(matches(sim, "BTC-USDT"))
    await until(lambda: len(matches(sim, "BTC-USDT")) > missed, TIMEOUT)
    async with running(config, signal.SIGKILL) as one:
        await one.more(len(SUBS))
        server.start()
        await one.more(len(SUBS))
        sim.inject("drop")
        await one.more(len(SUBS))
        server.freeze()
        await one.spilled("spilling")
        await one.more(len(SUBS))
    outs.append(one)
    server.thaw()
    async with running(config, signal.SIGTERM, LOST) as one:
        await one.more(len(SUBS))
        one.block()
        await one.dropped("out")
        one.unblock()
        await one.more(len(SUBS))
    outs.append(one)
    assert sim.counters.faults["drop"]
    return outs


async def shown(folder, server):
    """Return what each store held, by its name, and how it was judged."""
    async with Simulator("okx-v5", settings=Settings(rate=40.0, connects_per_second=None)) as sim:
        outs = await scenario(folder, server, sim)
        stores = {"file": held(folder / "data")}
        for stream in ("OKSTREAM", "SPILLED"):
            stores[stream] = [message.data for message in await stored(server, stream)]
    found = {name: judged(name, lines, sim, SUBS) for name, lines in stores.items()}
    for number, one in enumerate(outs):
        found[f"out {number}"] = judged(f"out {number}", one.lines, sim, SUBS, one.began)
    return found


def test_a_file_and_a_broker_hold_all_there_was_or_say_what_they_lack_after_kills_of_both(tmp_path):
    with nats_server(tmp_path / "nats") as server:
        found = asyncio.run(shown(tmp_path, server))
    assert not unfinished(tmp_path / "data")
    for name, one in found.items():
        assert one.again == 0, f"{name} proves what it holds, or drops what it has"
        assert one.report.checked, "no book was compared, so nothing was shown"
        assert one.last.keys() == set(SUBS)
    # The pipe's lane is small: what it dropped at the very end, its open gap says.
    for name in ("OKSTREAM", "SPILLED"):
        assert found[name].last == found["file"].last, f"{name}: it ended as asked, but not all is written"
    assert found["out 2"].missing, "nothing was dropped, so nothing was shown"
    assert found["file"].missing, "nothing was lost, so nothing was shown"

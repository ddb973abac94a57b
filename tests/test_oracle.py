"""The oracle over real sockets and virtual time: each dialect, each transport fault, repeated reconnects."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import orjson
import pytest
from oracle import Report, compare_raw
from soak.faults import FAULTS, Kind
from soak.running import running

from okstream import testing, venues
from okstream.dialects import load
from okstream.entries import Entry
from okstream.options import LaneOptions
from okstream.simulator import Settings, Simulator
from okstream.stream import Stream

WANTED = {
    "okx-v5": [
        "ticker:BTC-USDT,ETH-USDT", "trades:BTC-USDT,ETH-USDT", "book:BTC-USDT-SWAP", "book5:BTC-USDT",
        "bbo:ETH-USDT", "candle-1m:BTC-USDT", "mark-price:BTC-USDT-SWAP", "index-price:BTC-USDT",
        "funding:BTC-USDT-SWAP", "open-interest:BTC-USDT-SWAP", "trades-all:ETH-USDT", "book-rpi:ETH-USDT",
        "price-limit:BTC-USDT-SWAP", "instruments:instType=SPOT", "orders", "fills", "account", "positions",
    ],
    "okex-v3": [
        "ticker:BTC-USDT,ETH-USDT", "trades:BTC-USDT,ETH-USDT", "book:BTC-USDT", "book-l2-tbt:BTC-USDT-SWAP",
        "book5:ETH-USDT", "candle-1m:BTC-USDT", "orders:BTC-USDT",
    ],
    "okex-v1": [
        "ticker:BTC-USDT,ETH-USDT", "trades:BTC-USDT,ETH-USDT", "book:BTC-USDT", "book5:ETH-USDT",
        "candle-1m:BTC-USDT", "orders:BTC-USDT",
    ],
}  # fmt: skip

CASES = [(dialect, fault) for fault, kind in FAULTS.items() for dialect in kind.dialects]


async def _run(dialect: str, kind: Kind) -> tuple[Report, Simulator]:
    async with running(dialect, WANTED[dialect], orders_per_second=1.0, checksum=kind.checksum) as run:
        await asyncio.sleep(5)
        for fault in kind.texts:
            run.sim.inject(fault)
        await asyncio.sleep(kind.seconds)
        assert sum(feed.state == "refused" for feed in run.feeds) == ("refuse" in kind.texts)
        return run.judge(several=kind.overlap), run.sim


@pytest.mark.parametrize(("dialect", "fault"), CASES)
def test_every_push_is_delivered_once_or_inside_a_declared_gap(dialect, fault):
    kind = FAULTS[fault]
    report, sim = testing.run(lambda: _run(dialect, kind))
    assert report.delivered > 100
    assert report.checked > 100
    assert set(report.reasons) <= kind.reasons
    assert report.longest <= kind.longest
    for text in kind.texts:
        assert sim.counters.faults[text.partition(":")[0]] > 0, f"{text} never happened"


@pytest.mark.parametrize("faults", [[], ["drop"]])
@pytest.mark.parametrize("dialect", WANTED)
def test_raw_lines_are_the_exchange_s_own_text(dialect, faults):
    """Every text that was pushed comes out as it was, in order, or lies within a gap, and nothing else comes."""

    async def scenario():
        kept = Kept()
        settings = Settings(start_ms=testing.START_NS // 1_000_000)
        async with Simulator(dialect, settings=settings) as sim:
            venue = venues.simulated(dialect, sim.url, sim.rest_url)
            async with Stream(venue, sinks=[(kept, LaneOptions(form="raw"))], wall_ns=testing.wall_ns) as stream:
                for wanted in WANTED[dialect][:3]:
                    await stream.subscribe(wanted, timeout=30)
                await asyncio.sleep(10)
                for fault in faults:
                    sim.inject(fault)
                await asyncio.sleep(10)
                feeds, now = [feed for feed, _ in stream._feeds.values()], asyncio.get_running_loop().time()
                return kept.lines, compare_raw(sim.log, load(dialect), feeds, list(kept.lines), now)

    lines, count = testing.run(scenario)
    texts = [line for line in lines if not line.startswith(b'{"type":')]
    said = [orjson.loads(line) for line in lines if line.startswith(b'{"type":')]
    assert len(texts) > 100
    assert count >= len(texts)  # some messages of v3 and v1 are of two subscriptions
    opened, closed = ([one["gap"] for one in said if (one["type"], one.get("state")) == ("gap", state)]
                      for state in ("open", "closed"))  # fmt: skip
    assert Counter(opened) == Counter(closed)
    assert len(opened) == (5 if faults else 0)


class Kept:
    """A sink that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def open(self) -> None:
        pass

    async def write(self, batch: Sequence[Entry]) -> None:
        self.lines += [entry.line for entry in batch]

    async def close(self) -> None:
        pass

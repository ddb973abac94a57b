"""The oracle over real sockets and virtual time: each dialect, each transport fault, repeated reconnects."""

import asyncio
import random
from collections import Counter

import orjson
import pytest
from oracle import Report, compare, compare_raw

from okstream import Credentials, testing, venues
from okstream.dialects import load
from okstream.records import AnyRecord
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator
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

# fault -> (how it is asked for, the reasons of gaps that it may cause, the longest gap in seconds beyond a cadence)
FAULTS = {
    "none": ([], set(), 0),
    "drop": (["drop:times=4,every=8"], {"disconnected"}, 5),
    "close": (["close:code=4006", "close:code=1000,after=8", "close:code=4005,after=16"], {"disconnected"}, 5),
    "half-open": (["half-open"], {"disconnected"}, 40),
    "malformed": (["malformed:times=3"], {"malformed"}, 5),
    "truncate": (["truncate:times=3"], {"malformed"}, 5),
    "pad": (["pad:times=3"], {"malformed"}, 5),
    "duplicate": (["duplicate:times=20"], set(), 0),
    "unknown-event": (["unknown-event:times=3"], set(), 0),
    "slow-ack": (["slow-ack:seconds=15,times=2", "drop:after=1"], {"disconnected"}, 25),
    "notice": (["notice:lead=3"], {"disconnected"}, 5),
    "handshake": (["handshake:status=429,n=3,retry-after=2", "drop:after=1"], {"disconnected"}, 20),
    "kill": (["kill:seconds=10"], {"disconnected"}, 45),
    "refuse": (["refuse", "drop:after=1"], {"disconnected"}, 5),
    "refuse-login": (["refuse-login:code=63999", "drop:after=1"], {"disconnected"}, 10),
}
CASES = [(dialect, fault) for dialect in WANTED for fault in FAULTS if dialect == "okx-v5" or fault != "refuse-login"]


async def _run(dialect: str, faults: list[str], seconds: float = 60) -> tuple[Report, Simulator]:
    settings = Settings(start_ms=testing.START_NS // 1_000_000, rate=0.5, orders_per_second=1.0)
    records: list[AnyRecord] = []
    async with Simulator(dialect, settings=settings) as sim:
        venue = venues.simulated(dialect, sim.url, sim.rest_url)
        credentials = Credentials(TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
        async with Stream(venue, accounts=credentials, wall_ns=testing.wall_ns, chance=random.Random(1)) as stream:
            for wanted in WANTED[dialect]:
                await stream.subscribe(wanted, timeout=30)
            reading = asyncio.create_task(_read(stream, records))
            await asyncio.sleep(5)
            for fault in faults:
                sim.inject(fault)
            await asyncio.sleep(seconds)
            feeds = [feed for feed, _ in stream._feeds.values()]
            refused = [feed.sub for feed in feeds if feed.state == "refused"]
            assert len(refused) == ("refuse" in faults)
            assert [feed.sub for feed in feeds if feed.state not in ("live", "refused")] == []
            report = compare(sim.log, load(dialect), feeds, list(records), asyncio.get_running_loop().time())
            reading.cancel()
        return report, sim


async def _read(stream: Stream, records: list[AnyRecord]) -> None:
    async for record in stream:
        records.append(record)


@pytest.mark.parametrize(("dialect", "fault"), CASES)
def test_every_push_is_delivered_once_or_inside_a_declared_gap(dialect, fault):
    faults, reasons, longest = FAULTS[fault]
    report, sim = testing.run(lambda: _run(dialect, faults))
    assert report.delivered > 100
    assert report.reasons <= reasons
    assert report.longest <= longest
    for name in faults:
        assert sim.counters.faults[name.partition(":")[0]] > 0, f"{name} never happened"


@pytest.mark.parametrize("faults", [[], ["drop"]])
@pytest.mark.parametrize("dialect", WANTED)
def test_raw_lines_are_the_exchange_s_own_text(dialect, faults):
    """Every text that was pushed comes out as it was, in order, or lies within a gap, and nothing else comes."""

    async def scenario():
        kept = Kept()
        settings = Settings(start_ms=testing.START_NS // 1_000_000)
        async with Simulator(dialect, settings=settings) as sim:
            venue = venues.simulated(dialect, sim.url, sim.rest_url)
            async with Stream(venue, sinks=[kept], wall_ns=testing.wall_ns) as stream:
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

    form, linger = "raw", 0.0

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def open(self) -> None:
        pass

    async def write(self, batch: list[bytes]) -> None:
        self.lines += batch

    async def close(self) -> None:
        pass

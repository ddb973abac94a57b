"""The simulated exchange under other event loops: virtual time, and uvloop."""

import asyncio
import gc
import selectors
import weakref

import pytest
import uvloop
from client import Client

from okstream.simulator import Settings, Simulator


class _Eager(selectors.DefaultSelector):
    """A selector that never waits: what would have been waited for is added to the loop's clock."""

    ahead = 0.0
    idle = 0

    def select(self, timeout=None):
        ready = super().select(0)
        # Sockets answer in real time: only after some empty looks is the time really nobody's.
        self.idle = 0 if ready else self.idle + 1
        if not ready and timeout and self.idle > 20:
            self.ahead += timeout
            self.idle = 0
        return ready


class Virtual(asyncio.SelectorEventLoop):
    def __init__(self):
        self._eager = _Eager()
        super().__init__(self._eager)

    def time(self):
        return self._eager.ahead


def run(work, factory):
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def test_a_minute_of_silence_costs_nothing():
    async def work():
        async with Simulator(settings=Settings(idle_close=30.0)) as sim, Client(sim.urls["public"]) as client:
            began = asyncio.get_running_loop().time()
            assert await client.closed(100) == (4004, "No data received in 30s.")
            return asyncio.get_running_loop().time() - began

    assert run(work(), Virtual) == pytest.approx(30.0, abs=1.0)


def test_a_still_book_is_kept_alive_after_a_minute():
    async def work():
        settings = Settings(rate=0.0, idle_close=None, step=1.0)
        async with Simulator(settings=settings) as sim, Client(sim.urls["public"]) as client:
            await client.subscribe("books", "BTC-USDT")
            first = (await client.data("books", 100))["data"][0]
            again = (await client.data("books", 100))["data"][0]
            await client.subscribe("bbo-tbt", "BTC-USDT")
            bbo = [(await client.data("bbo-tbt", 100))["data"] for _ in range(2)]
            assert bbo[0] == bbo[1]
            assert [p.kind for p in sim.log.pushes("bbo-tbt:instId=BTC-USDT")] == ["snapshot", "keepalive"]
            return first, again

    first, again = run(work(), Virtual)
    assert (again["asks"], again["bids"]) == ([], [])
    assert again["seqId"] == again["prevSeqId"] == first["seqId"]
    assert int(again["ts"]) - int(first["ts"]) >= 60_000


def test_same_seed_same_market():
    async def work():
        async with Simulator(settings=Settings(start_ms=1_700_000_000_000)) as sim:
            market = sim.engine.market
            book = market.hold("BTC-USDT", 1_700_000_000_000)
            for number in range(500):
                market.step(1_700_000_000_000 + 10 * number)
            return book.asks.window(400), [(t.id, t.price, t.lots, t.ts) for t in book.trades], book.seq

    assert run(work(), Virtual) == run(work(), Virtual)


def test_uvloop_leaves_nothing_behind():
    async def work():
        async with Simulator() as sim:
            async with Client(sim.urls["public"]) as client:
                await client.subscribe("trades", "BTC-USDT")
                await client.data("trades")
                sim.inject("drop:after=60")
                sim.inject("notice")
            assert len(asyncio.all_tasks()) > 1
        return [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    assert run(work(), uvloop.new_event_loop) == []


def test_an_exchange_that_has_ended_is_not_kept():
    async def work():
        async with Simulator() as sim, Client(sim.urls["public"]) as client:
            await client.subscribe("trades", "BTC-USDT")
            await client.data("trades")
            return weakref.ref(sim.log)

    log = run(work(), Virtual)
    gc.collect()
    assert log() is None

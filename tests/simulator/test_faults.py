"""Each fault does what its name says, and is counted when it did."""

import asyncio
import json

import pytest
from client import FREE, Client
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from okstream.errors import ConfigError
from okstream.simulator import Fault, Settings, Simulator


async def test_drop_ends_without_a_close_frame_and_leaves_a_ghost():
    async with Simulator(settings=FREE) as sim:
        async with Client(sim.urls["public"]) as client:
            await client.subscribe("trades", "BTC-USDT")
            await client.data("trades")
            sim.inject("drop")
            with pytest.raises(ConnectionClosedError):
                await client.until(lambda m: False)
            assert client.ws.close_code == 1006
        key = "trades:instId=BTC-USDT"
        async with Client(sim.urls["public"]) as client:
            await client.subscribe("trades", "ETH-USDT")
            for _ in range(10):
                await client.data("trades")
            assert [p for p in sim.log.pushes(key) if not p.sent]
            await client.subscribe("trades", "BTC-USDT")
            await client.until(lambda m: "data" in m and m["arg"]["instId"] == "BTC-USDT")
            assert sim.log.pushes(key)[-1].sent
        assert sim.counters.faults["drop"] == 1


async def test_close_with_a_code():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        sim.inject("close:code=4006,reason=Abnormal disconnection")
        assert await client.closed() == (4006, "Abnormal disconnection")


async def test_half_open_says_nothing_any_more():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        client.ws.close_timeout = 0.05
        sim.inject("half-open")
        await client.ws.send("ping")
        with pytest.raises(TimeoutError):
            await client.next(0.2)
        assert sim.counters.faults["half-open"] == 1


async def test_a_gap_skips_one_update():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        sim.inject("gap:channel=books")
        await client.subscribe("books", "BTC-USDT")
        last = (await client.data("books"))["data"][0]["seqId"]
        row = (await client.data("books"))["data"][0]
        assert row["prevSeqId"] != last
        assert [p.sent for p in sim.log.pushes("books:instId=BTC-USDT")][:3] == [True, False, True]


async def test_duplicate_malformed_and_truncated_pushes():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("tickers", "BTC-USDT")
        await client.data("tickers")
        sim.inject("duplicate")
        one, other = await client.next(), await client.next()
        while one != other:  # what was on its way before the fault
            one, other = other, await client.next()
        for number, name in enumerate(("malformed", "truncate", "pad"), 1):
            sim.inject(name)
            with pytest.raises(json.JSONDecodeError):
                await client.until(lambda m: False)
            assert [p.sent for p in sim.log.pushes("tickers:instId=BTC-USDT")].count(False) == number
        assert sum(sim.counters.faults.values()) == 4


async def test_notice_then_close():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        sim.inject("notice:lead=0.1")
        assert (await client.next())["code"] == "64008"
        assert (await client.closed())[0] == 1001


async def test_handshakes_are_refused_as_often_as_asked():
    async with Simulator(settings=FREE) as sim:
        sim.inject("429:n=2,retry-after=3")
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                await Client(sim.urls["public"]).__aenter__()
            assert caught.value.response.status_code == 429
            assert caught.value.response.headers["Retry-After"] == "3"
        async with Client(sim.urls["public"]):
            assert sim.counters.faults["handshake"] == 2


async def test_refused_argument_and_login_and_slow_answer():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["private"]) as client:
        sim.inject("refuse:channel=account,code=64003")
        await client.subscribe("account")
        assert (await client.next())["code"] == "64003"
        sim.inject("slow-ack:seconds=0.1")
        await client.send("dance", {})
        assert (await client.next())["code"] == "60019"
        sim.inject("refuse-login:code=63999")
        await client.login()
        assert (await client.next())["code"] == "63999"


async def test_kill_comes_back_on_the_same_port():
    async with Simulator(settings=FREE) as sim:
        url = sim.urls["public"]
        async with Client(url) as client:
            sim.inject("kill:seconds=0.05")
            assert (await client.closed())[0] == 1006
        async with asyncio.timeout(5):
            while True:
                try:
                    async with Client(url) as client:
                        await client.ws.send("ping")
                        assert await client.next() == "pong"
                        return
                except OSError:
                    continue


def test_a_bad_fault_names_what_exists():
    with pytest.raises(ConfigError, match="half-open"):
        Fault.parse("nonsense")
    with pytest.raises(ConfigError, match="seconds"):
        Fault.parse("stall:colour=red")
    for number in ("red", "nan", "-1", "inf"):
        with pytest.raises(ConfigError, match="seconds must be a number from 0 on"):
            Fault.parse(f"stall:seconds={number}")


@pytest.mark.parametrize("offset", [float("nan"), 1e99, -1e12])
def test_a_clock_that_no_calendar_has_is_refused(offset):
    with pytest.raises(ConfigError, match="clock_offset must be a year at most"):
        Settings(clock_offset=offset)


async def test_a_sequence_reset_keeps_the_chain():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("books", "BTC-USDT")
        last = (await client.data("books"))["data"][0]["seqId"]
        sim.inject("reset:seq=3,inst=BTC-USDT")
        low = 0
        while low < 3:
            row = (await client.data("books"))["data"][0]
            assert row["prevSeqId"] == last
            last = row["seqId"]
            low += last < 1000


async def test_a_snapshot_nobody_asked_for():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("books", "BTC-USDT")
        await client.data("books")
        sim.inject("snapshot")
        again = await client.until(lambda m: m.get("action") == "snapshot")
        assert again["data"][0]["prevSeqId"] == -1
        following = (await client.data("books"))["data"][0]
        assert following["prevSeqId"] == again["data"][0]["seqId"]


async def test_a_stalled_subscription_is_silent_and_the_others_flow():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("trades", "BTC-USDT")
        await client.subscribe("bbo-tbt", "BTC-USDT")
        await client.data("bbo-tbt")
        sim.inject("stall:channel=bbo-tbt,seconds=60")
        for _ in range(5):
            assert (await client.data("trades"))["data"]
        pushes = sim.log.pushes("bbo-tbt:instId=BTC-USDT")
        assert sim.counters.faults["stall"] == 1
        assert not pushes[-1].sent


async def test_a_flood_comes_at_once_and_whole():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("trades", "BTC-USDT")
        row = (await client.data("trades"))["data"][0]
        sim.inject("flood:channel=trades,n=500")
        for _ in range(100):
            following = (await client.data("trades"))["data"][0]
            assert int(following["tradeId"]) - int(following["count"]) == int(row["tradeId"])
            row = following


async def test_an_unknown_event_and_a_gap_in_trades():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("trades", "BTC-USDT")
        await client.data("trades")
        sim.inject("unknown-event")
        await client.until(lambda m: m.get("event") == "weather")
        sim.inject("gap:channel=trades")
        async with asyncio.timeout(5):
            while not sim.counters.faults["gap"]:
                await client.data("trades")
        lost = [p for p in sim.log.pushes("trades:instId=BTC-USDT") if not p.sent]
        assert len(lost) == 1


async def test_the_truth_about_trades_is_kept():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["business"]) as client:
        await client.subscribe("trades-all", "ETH-USDT")
        await client.data("trades-all")
        ids = [int((await client.data("trades-all"))["data"][0]["tradeId"]) for _ in range(10)]
        assert ids == list(range(ids[0], ids[0] + 10))
        truth = {n for t in sim.log.trades("ETH-USDT") for n in range(t.id - t.count + 1, t.id + 1)}
        assert set(ids) <= truth

"""Each fault does what its name says, and is counted when it did."""

import asyncio
import json

import pytest
from client import FREE, Client
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from okstream.errors import ConfigError
from okstream.simulator import Fault, Simulator


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
        await client.subscribe("books", "BTC-USDT")
        last = (await client.data("books"))["data"][0]["seqId"]
        sim.inject("gap:channel=books")
        row = (await client.data("books"))["data"][0]
        assert row["prevSeqId"] != last
        assert [p.sent for p in sim.log.pushes("books:instId=BTC-USDT")] == [True, False, True]


async def test_duplicate_malformed_and_truncated_pushes():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("tickers", "BTC-USDT")
        await client.data("tickers")
        sim.inject("duplicate")
        assert await client.next() == await client.next()
        for name in ("malformed", "truncate", "pad"):
            sim.inject(name)
            text = await client.ws.recv()
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
        assert [p.sent for p in sim.log.pushes("tickers:instId=BTC-USDT")] == [True, True, False, False, False]
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
    with pytest.raises(ConfigError, match="number"):
        Fault.parse("stall:seconds=red")

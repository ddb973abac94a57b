"""Faults that keep an exchange silent while the connection looks well, in virtual time."""

import asyncio

import aiohttp
import pytest
from client import FREE, Client

from okstream import testing
from okstream.errors import ConfigError
from okstream.simulator import Fault, Settings, Simulator

BOOK = "books:instId=BTC-USDT"
QUIET = Settings(rate=0.0, idle_close=None, step=1.0)


async def reading(client, done):
    """Read whatever comes until something is so."""
    while not done():
        await asyncio.wait_for(client.ws.recv(), 60)


async def struck(client, sim, name, times=1):
    await reading(client, lambda: sim.counters.faults[name] >= times)


def lost(sim, key):
    return sum(not entry.sent for entry in sim.log.pushes(key))


def test_a_muted_connection_answers_and_pushes_nothing():
    async def scenario():
        async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client, Client(client.url) as other:
            for one in (client, other):
                await one.subscribe("books", "BTC-USDT")
                await one.data("books")
            muted = next(iter(sim.connections)).id
            sim.inject(f"mute:seconds=30,connection={muted}")
            began = asyncio.get_running_loop().time()
            await client.subscribe("trades", "BTC-USDT")
            await client.until(lambda m: m != "pong" and m.get("event") == "subscribe")
            await client.ws.send("ping")
            await client.until(lambda m: m == "pong")
            for _ in range(5):
                await other.data("books")
            message = await client.next(60)
            late = asyncio.get_running_loop().time() - began
            held = [entry for entry in sim.log.pushes(BOOK, muted) if not entry.sent]
            cached = sim.log.pushes("trades:instId=BTC-USDT")[0]
            return message, late, len(held), cached.sent, sim.counters.faults["mute"]

    message, late, held, sent, times = testing.run(scenario)
    assert "data" in message
    assert 30.0 <= late < 31.0
    assert held > 100
    assert not sent
    assert times == 1


@pytest.mark.parametrize(("sticky", "silent"), [("0", False), ("1", True)])
def test_a_sticky_stall_outlasts_a_resubscription(sticky, silent):
    async def scenario():
        async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
            await client.subscribe("trades", "BTC-USDT")
            await client.subscribe("books", "BTC-USDT")
            await client.data("books")
            sim.inject(f"stall:channel=books,seconds=20,sticky={sticky}")
            await struck(client, sim, "stall")
            began = asyncio.get_running_loop().time()
            await client.send("unsubscribe", {"channel": "books", "instId": "BTC-USDT"})
            await client.subscribe("books", "BTC-USDT")
            message = await client.data("books", 60)
            async with Client(sim.urls["public"]) as elsewhere:
                await elsewhere.subscribe("books", "BTC-USDT")
                assert (await elsewhere.data("books"))["action"] == "snapshot"
            return message["action"], asyncio.get_running_loop().time() - began

    action, late = testing.run(scenario)
    assert action == ("update" if silent else "snapshot")
    assert (late > 19.9) == silent


def test_a_keep_alive_is_withheld_and_the_next_one_comes():
    async def scenario():
        async with Simulator(settings=QUIET) as sim, Client(sim.urls["public"]) as client:
            await client.subscribe("books", "BTC-USDT")
            await client.data("books", 100)
            sim.inject("no-keepalive:channel=books,times=2")
            began = asyncio.get_running_loop().time()
            row = (await client.data("books", 400))["data"][0]
            entries = [(entry.kind, entry.sent) for entry in sim.log.pushes(BOOK)]
            return row["asks"], asyncio.get_running_loop().time() - began, entries

    asks, late, entries = testing.run(scenario)
    assert asks == []
    assert late == pytest.approx(180, abs=5)
    kept = [("keepalive", False)] * 2
    assert entries == [("snapshot", True), *kept, ("keepalive", True)]


def test_a_frozen_exchange_does_nothing_and_then_goes_on():
    async def scenario():
        async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
            await client.subscribe("trades", "BTC-USDT")
            await client.data("trades")
            kept = len(sim.log.entries())
            sim.inject("freeze:seconds=8")
            sim.inject("flood:n=50,inst=BTC-USDT")  # which waits as all does
            now = asyncio.get_running_loop().time
            began = now()
            await client.ws.send("ping")
            await client.subscribe("tickers", "BTC-USDT")
            dialled = asyncio.create_task(Client(sim.urls["public"]).__aenter__())
            async with aiohttp.ClientSession(sim.rest_url) as http, http.get("/api/v5/public/time") as reply:
                assert reply.status == 200
                assert now() - began >= 8
            await client.until(lambda m: m == "pong")
            await client.data("tickers")
            await client.data("trades")
            other = await dialled
            await other.__aexit__()
            after = sim.log.entries()[kept].at - began
            trades = [trade.ts - sim.log.entries()[0].ts for trade in sim.log.trades("BTC-USDT")]
            missed = [ts for ts in trades if 1000 < ts < 7_000]
            return now() - began, after, missed, len(sim.connections), sim.counters.faults["freeze"]

    late, after, missed, open_, times = testing.run(scenario)
    assert 8.0 <= late < 13.0
    assert after >= 8.0
    assert missed == []
    assert (open_, times) == (1, 1)  # nobody was closed for silence


def test_a_frozen_exchange_can_be_stopped_and_controlled():
    async def scenario():
        async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
            sim.inject("freeze:seconds=5")
            sim.inject("freeze:seconds=3600")
            await client.ws.send("ping")
            headers = {"Authorization": f"Bearer {sim.token}"}
            async with aiohttp.ClientSession() as http, http.get(sim.control_url, headers=headers) as reply:
                assert reply.status == 200
            await asyncio.sleep(10)
            assert sim.counters.pings == 0
        return asyncio.get_running_loop().time()

    assert testing.run(scenario) < 100


@pytest.mark.parametrize("dialect", ["okx-v5", "okex-v3"])
def test_every_book_there_is_breaks_once(dialect):
    """Hundreds at a time, each in its next update."""

    async def scenario():
        settings = Settings(start_ms=None, requests_per_hour=None, rate=3.0, checksum="real", generated=60)
        async with Simulator(dialect, settings) as sim, Client(next(iter(sim.urls.values()))) as client:
            insts = [f"SIM{n:03d}-USDT" for n in range(60)]
            if dialect == "okx-v5":
                await client.send("subscribe", *[{"channel": "books", "instId": inst} for inst in insts])
            else:
                for first in (0, 30):
                    await client.send("subscribe", *[f"spot/depth:{inst}" for inst in insts[first : first + 30]])
            keys = [f"books:instId={inst}" if dialect == "okx-v5" else f"spot/depth:{inst}" for inst in insts]
            await reading(client, lambda: all(sim.log.pushes(key) for key in keys))
            sim.inject("break-books")
            await struck(client, sim, "break-books", 60)
            held = [lost(sim, key) for key in keys]
            sim.inject("break-books:by=checksum,inst=SIM007-USDT")
            await struck(client, sim, "break-books", 61)
            await asyncio.sleep(5)
            return held, [lost(sim, key) for key in keys], sim.counters.faults

    held, after, faults = testing.run(scenario)
    assert held == [1] * 60
    assert after == [1 if n != 7 else 2 for n in range(60)]
    assert faults == {"break-books": 61}


def test_books_break_by_a_gap_or_a_checksum():
    with pytest.raises(ConfigError, match="gap or checksum"):
        Fault.parse("break-books:by=magic")
    with pytest.raises(ConfigError, match="sticky must be a number"):
        Fault.parse("stall:sticky=yes")

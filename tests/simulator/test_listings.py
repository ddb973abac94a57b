"""Instruments that are listed, expire and are renamed: REST, the channel that announces it, and subscriptions."""

import aiohttp
import pytest
from client import FREE, Client

from okstream.errors import ConfigError
from okstream.simulator import Fault, Simulator


async def rest(http, path):
    async with http.get(f"/api/v5/{path}") as reply:
        return await reply.json()


async def listed(http, kind="SWAP"):
    return {row["instId"]: row for row in (await rest(http, f"public/instruments?instType={kind}"))["data"]}


async def test_a_new_instrument_is_announced_listed_and_traded():
    async with (
        Simulator(settings=FREE) as sim,
        Client(sim.urls["public"]) as client,
        aiohttp.ClientSession(sim.rest_url) as http,
    ):
        await client.subscribe("instruments", instType="SWAP")
        await client.subscribe("instruments", instType="SPOT")
        assert "NEW-USDT-SWAP" not in await listed(http)
        for name in ("NEW-USDT-SWAP", "NEW-USDT"):
            sim.inject(f"list:inst={name}")
            push = await client.data("instruments")
            assert push["arg"]["instType"] == ("SPOT" if name == "NEW-USDT" else "SWAP")
            assert [(row["instId"], row["state"]) for row in push["data"]] == [(name, "live")]
        row = (await listed(http))["NEW-USDT-SWAP"]
        assert abs(int(row["listTime"]) - sim.engine.clock.ms()) < 60_000
        await client.subscribe("books", "NEW-USDT-SWAP")
        assert (await client.data("books"))["action"] == "snapshot"
        assert (await client.data("books"))["action"] == "update"
        sim.inject("list:inst=NEW-USDT-SWAP")
        sim.inject("list")
        sim.inject("list:inst=NEW-USDT-261225")
        assert sim.counters.faults["list"] == 4
        assert "NEW000-USDT-SWAP" in await listed(http)
        assert "NEW-USDT-261225" in await listed(http, "FUTURES")


async def test_what_expires_is_silent_and_may_be_listed_again():
    async with (
        Simulator(settings=FREE) as sim,
        Client(sim.urls["public"]) as client,
        aiohttp.ClientSession(sim.rest_url) as http,
    ):
        await client.subscribe("instruments", instType="SWAP")
        for channel in ("books", "trades", "tickers"):
            await client.subscribe(channel, "ETH-USDT-SWAP")
            await client.data(channel)
        await client.subscribe("trades", "BTC-USDT-SWAP")
        code = (await listed(http))["ETH-USDT-SWAP"]["instIdCode"]
        sim.inject("expire:inst=ETH-USDT-SWAP")
        gone = (await client.data("instruments"))["data"][0]
        assert (gone["instId"], gone["state"]) == ("ETH-USDT-SWAP", "expired")
        made = len([entry for entry in sim.log.entries() if "ETH" in entry.key])
        for _ in range(10):
            assert (await client.data("trades"))["arg"]["instId"] == "BTC-USDT-SWAP"
        assert len([entry for entry in sim.log.entries() if "ETH" in entry.key]) == made
        assert "ETH-USDT-SWAP" not in await listed(http)
        assert (await rest(http, "market/ticker?instId=ETH-USDT-SWAP"))["code"] == "51001"
        await client.subscribe("books", "ETH-USDT-SWAP")
        assert (await client.until(lambda m: "event" in m))["code"] == "60018"
        sim.inject("list:inst=ETH-USDT-SWAP")
        assert (await client.data("instruments"))["data"][0]["instIdCode"] != code
        await client.subscribe("books", "ETH-USDT-SWAP")
        assert (await client.data("books"))["action"] == "snapshot"
        sim.inject("expire:inst=NO-SUCH")
        assert sim.counters.faults["expire"] == 1


async def test_what_is_renamed_goes_on_for_books_and_trades():
    async with (
        Simulator(settings=FREE) as sim,
        Client(sim.urls["public"]) as client,
        aiohttp.ClientSession(sim.rest_url) as http,
    ):
        await client.subscribe("instruments", instType="SWAP")
        for channel in ("tickers", "books", "trades"):
            await client.subscribe(channel, "SOL-USDT-SWAP")
            await client.data(channel)
        code = (await listed(http))["SOL-USDT-SWAP"]["instIdCode"]
        sim.inject("rename:inst=SOL-USDT-SWAP,to=LUNA-USDT-SWAP")
        rows = (await client.data("instruments"))["data"]
        assert [(row["instId"], row["state"]) for row in rows] == [
            ("SOL-USDT-SWAP", "expired"),
            ("LUNA-USDT-SWAP", "live"),
        ]
        assert {row["instIdCode"] for row in rows} == {code}
        last = (await client.data("books"))["data"][0]
        trade = await client.data("trades")
        assert trade["arg"]["instId"] == trade["data"][0]["instId"] == "SOL-USDT-SWAP"
        following = await client.data("books")
        assert following["data"][0]["prevSeqId"] >= last["seqId"]
        assert not [key for key, sub in sim.connections[0].subscriptions.items() if sub.channel == "tickers"]
        names = await listed(http)
        assert ("SOL-USDT-SWAP" in names, "LUNA-USDT-SWAP" in names) == (False, True)
        await client.send("unsubscribe", {"channel": "books", "instId": "LUNA-USDT-SWAP"})
        await client.until(lambda m: m.get("event") == "unsubscribe")
        await client.subscribe("books", "LUNA-USDT-SWAP")
        fresh = await client.data("books")
        assert (fresh["action"], fresh["arg"]["instId"]) == ("snapshot", "LUNA-USDT-SWAP")
        assert fresh["data"][0]["seqId"] >= following["data"][0]["seqId"]


async def test_an_account_survives_what_it_trades():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["private"]) as client:
        await client.login()
        await client.subscribe("orders", instType="ANY")
        await client.until(lambda m: m.get("channel") == "orders")
        user = sim.engine.users["test"]
        user.place("BTC-USDT-SWAP", "buy", "market", 0, 1000)
        resting = user.place("BTC-USDT", "buy", "limit", 1, 1_000_000)
        sim.inject("rename:inst=BTC-USDT-SWAP,to=XBT-USDT-SWAP")
        sim.inject("expire:inst=BTC-USDT")
        assert resting.state == "canceled"
        assert user.positions["XBT-USDT-SWAP"].lots
        await client.subscribe("positions", instType="SWAP")
        row = (await client.data("positions"))["data"][0]
        assert row["instId"] == "XBT-USDT-SWAP"
        for _ in range(20_000):
            user.step()
        await client.send("unsubscribe", {"channel": "orders", "instType": "ANY"})
        await client.until(lambda m: m.get("event") == "unsubscribe")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("expire", "needs inst"),
        ("rename:inst=BTC-USDT", "needs to"),
        ("list:inst=WHAT", "A-B-SWAP"),
        ("list:inst=A-B-991399", "A-B-SWAP"),
        ("rename:inst=BTC-USDT,to=A-B-C-D", "A-B-SWAP"),
    ],
)
def test_a_listing_that_cannot_be_meant_is_refused(text, wrong):
    with pytest.raises(ConfigError, match=wrong):
        Fault.parse(text)

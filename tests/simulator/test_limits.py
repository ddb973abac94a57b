"""The exchange's own limits, as faithful as they are by default."""

import asyncio

import pytest
from client import FREE, Client
from websockets.exceptions import InvalidStatus

from okstream.simulator import TEST_ACCOUNT, Account, Settings, Simulator


async def test_a_fourth_connection_within_a_second_is_refused():
    async with Simulator() as sim:
        url = sim.urls["public"]
        async with Client(url), Client(url), Client(url):
            with pytest.raises(InvalidStatus) as caught:
                await Client(url).__aenter__()
            assert caught.value.response.status_code == 429
        assert sim.counters.rejected == 1


async def test_requests_beyond_the_budget_are_refused():
    settings = Settings(requests_per_hour=2)
    async with Simulator(settings=settings) as sim, Client(sim.urls["public"]) as client:
        for code in ("60027", "60027", "60014"):
            await client.subscribe("tickers")
            assert (await client.next())["code"] == code


async def test_a_frame_too_large_closes():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.ws.send("x" * 70_000)
        assert (await client.closed())[0] == 1009


async def test_silence_closes():
    async with Simulator(settings=Settings(idle_close=0.1)) as sim, Client(sim.urls["public"]) as client:
        assert await client.closed() == (4004, "No data received in 30s.")


async def test_one_connection_too_many_for_a_user_channel():
    settings = Settings(connects_per_second=None, channel_connections=1, orders_per_second=0)
    async with (
        Simulator(settings=settings) as sim,
        Client(sim.urls["private"]) as one,
        Client(sim.urls["private"]) as two,
    ):
        for client, event in ((one, "channel-conn-count"), (two, "channel-conn-count-error")):
            await client.login()
            await client.subscribe("orders", instType="ANY")
            message = await client.until(lambda m: "connCount" in m)
            assert (message["event"], message["channel"], message["connCount"]) == (event, "orders", "1")


async def test_tick_by_tick_books_need_the_tier_and_exclude_the_others():
    poor = Account("poor", TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase, tier=0)
    async with Simulator(settings=Settings(accounts=(poor,))) as sim, Client(sim.urls["public"]) as client:
        await client.login()
        await client.subscribe("books-l2-tbt", "BTC-USDT")
        assert (await client.until(lambda m: m.get("event") == "error"))["code"] == "64003"
    async with Simulator() as sim, Client(sim.urls["public"]) as client:
        await client.login()
        await client.subscribe("books-l2-tbt", "BTC-USDT")
        assert (await client.data("books-l2-tbt"))["action"] == "snapshot"
        await client.subscribe("books", "BTC-USDT")
        assert (await client.until(lambda m: m.get("event") == "subscribe"))["arg"]["channel"] == "books"
        assert (await client.until(lambda m: m.get("event") == "error"))["code"] == "64004"
        await client.subscribe("books", "ETH-USDT")
        await client.subscribe("books-l2-tbt", "ETH-USDT")
        driven = await client.until(lambda m: m.get("event") == "unsubscribe")
        assert driven["arg"] == {"channel": "books", "instId": "ETH-USDT"}


async def test_a_client_that_falls_too_far_behind_is_closed():
    settings = Settings(write_buffer=100_000)
    async with Simulator(settings=settings) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("bbo-tbt", "BTC-USDT")
        await client.data("bbo-tbt")
        sim.inject("flood:channel=bbo-tbt,n=2000")
        assert (await client.closed())[0] == 4005
        kept = sim.log.pushes("bbo-tbt:instId=BTC-USDT")
        assert not kept[-1].sent


async def test_a_client_that_does_not_read_at_all_is_dropped():
    settings = Settings(write_buffer=200_000, idle_close=None)
    async with Simulator(settings=settings) as sim, Client(sim.urls["public"]) as client:
        client.ws.transport.pause_reading()
        await client.subscribe("books", "BTC-USDT")
        async with Client(sim.urls["public"]) as other, asyncio.timeout(10):
            while not sim.counters.closed[4005]:
                sim.inject("snapshot:channel=books")
                await other.ws.send("ping")
                assert await other.next() == "pong"

"""Login and user channels of okx-v5."""

from decimal import Decimal

import pytest
from client import FREE, Client

from okstream.simulator import Settings, Simulator


async def test_login_then_orders_fills_and_balances_agree():
    settings = Settings(orders_per_second=100.0, rate=5.0)
    async with Simulator(settings=settings) as sim, Client(sim.urls["private"]) as client:
        await client.subscribe("account")
        assert (await client.next())["code"] == "60011"
        await client.login()
        assert (await client.next())["event"] == "login"
        await client.subscribe("orders", instType="ANY")
        await client.subscribe("account")
        await client.subscribe("positions", instType="ANY")
        await client.subscribe("fills")
        snapshot = await client.data("account")
        assert snapshot["eventType"] == "snapshot"
        assert snapshot["arg"]["uid"]
        seen = set()
        while seen < {"live", "filled", "canceled"}:
            row = (await client.data("orders"))["data"][0]
            seen.add(row["state"])
            assert Decimal(row["accFillSz"]) <= Decimal(row["sz"])
        assert (await client.data("positions"))["data"]
        assert (await client.data("fills"))["data"][0]["tradeId"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"apiKey": ""}, "60005"),
        ({"apiKey": "other"}, "60032"),
        ({"passphrase": "wrong"}, "60024"),
        ({"sign": "wrong"}, "60007"),
        ({"timestamp": "soon"}, "60004"),
        ({"timestamp": "1700000000"}, "60006"),
    ],
)
async def test_a_bad_login_is_refused_and_closed(change, code):
    async with Simulator(settings=FREE) as sim, Client(sim.urls["private"]) as client:
        await client.login(**change)
        assert (await client.next())["code"] == code
        assert await client.closed() == (4001, "Login Failed")


async def test_a_second_login_is_refused():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["private"]) as client:
        await client.login()
        await client.next()
        await client.login()
        assert (await client.next())["code"] == "60031"

"""What the parts of the simulated exchange say about the same thing agrees."""

import asyncio
import zlib
from decimal import Decimal

from client import FREE, Client
from test_v5_public import apply

from okstream.simulator import TEST_ACCOUNT, Settings, Simulator


async def test_balances_are_the_sum_of_the_fills():
    settings = Settings(orders_per_second=0)
    async with Simulator(settings=settings) as sim, Client(sim.urls["private"]) as client:
        await client.login()
        await client.subscribe("account", extraParams='{"updateInterval":"0"}')
        await client.subscribe("orders", instType="SPOT")
        await client.until(lambda m: m.get("channel") == "orders")
        user = sim.engine.users["test"]
        for side, lots in (("buy", 50_000_000), ("sell", 20_000_000), ("buy", 123)):
            user.place("BTC-USDT", side, "market", 0, lots)
        cash = {ccy: Decimal(amount) for ccy, amount in TEST_ACCOUNT.balances.items()}
        told = dict(cash)
        async with asyncio.timeout(5):
            while told == {ccy: Decimal(a) for ccy, a in TEST_ACCOUNT.balances.items()} or told != cash:
                message = await client.next()
                row = message["data"][0]
                if message["arg"]["channel"] == "account":
                    told |= {d["ccy"]: Decimal(d["cashBal"]) for d in row["details"]}
                elif row["execType"]:
                    sign = 1 if row["side"] == "buy" else -1
                    cash["BTC"] += sign * Decimal(row["fillSz"])
                    cash["USDT"] -= sign * Decimal(row["fillPx"]) * Decimal(row["fillSz"])
                    cash[row["fillFeeCcy"]] += Decimal(row["fillFee"])


async def test_fills_of_the_user_are_trades_of_the_market():
    settings = Settings(orders_per_second=100.0, rate=10.0)
    async with Simulator(settings=settings) as sim, Client(sim.urls["private"]) as client:
        await client.login()
        await client.subscribe("fills")
        for _ in range(5):
            row = (await client.data("fills"))["data"][0]
            trade = next(t for t in sim.log.trades(row["instId"]) if str(t.id) == row["tradeId"])
            inst = sim.engine.market.instruments[row["instId"]]
            assert Decimal(row["fillSz"]) <= Decimal(inst.size(trade.lots))
            if row["execType"] == "T":
                assert (row["fillPx"], row["side"]) == (inst.price(trade.price), trade.side)
            else:
                assert row["side"] != trade.side


async def test_two_connections_see_one_numbering_each_in_its_own_rhythm():
    async with (
        Simulator(settings=FREE) as sim,
        Client(sim.urls["public"]) as one,
        Client(sim.urls["public"]) as two,
    ):
        chains = []
        for client in (one, two):
            await client.subscribe("books", "BTC-USDT")
        for client in (one, two):
            rows = [(await client.data("books"))["data"][0] for _ in range(8)]
            assert [r["prevSeqId"] for r in rows[1:]] == [r["seqId"] for r in rows[:-1]]
            chains.append({r["seqId"]: r for r in rows})
        assert chains[0].keys() != chains[1].keys()
        for number in chains[0].keys() & chains[1].keys():
            assert chains[0][number]["ts"] == chains[1][number]["ts"]


async def test_a_real_checksum_is_that_of_the_book():
    settings = Settings(checksum="real", rate=10.0)
    async with Simulator(settings=settings) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("books", "ETH-USDT-SWAP")
        bids, asks = {}, {}
        for _ in range(8):
            row = (await client.data("books"))["data"][0]
            apply(bids, row["bids"])
            apply(asks, row["asks"])
            best = zip(sorted(bids, key=float, reverse=True)[:25], sorted(asks, key=float)[:25], strict=True)
            words = [f"{b}:{bids[b][0]}:{a}:{asks[a][0]}" for b, a in best]
            assert row["checksum"] % 2**32 == zlib.crc32(":".join(words).encode())


async def test_a_hundred_and_fifty_instruments_on_one_connection():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        insts = [f"SIM{i:03d}-USDT" for i in range(150)]
        await client.send("subscribe", *({"channel": "tickers", "instId": i} for i in insts))
        missing = set(insts)
        async with asyncio.timeout(5):
            while missing:
                message = await client.next()
                if "data" in message:
                    missing.discard(message["arg"]["instId"])
        await client.send("unsubscribe", *({"channel": "tickers", "instId": i} for i in insts))
        for _ in insts:
            await client.until(lambda m: m.get("event") == "unsubscribe")
        assert not sim.engine.market.held


async def test_the_time_is_the_shifted_one_and_always_grows():
    settings = Settings(start_ms=1_600_000_000_000, clock_offset=86_400.0, rate=10.0)
    async with Simulator(settings=settings) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("bbo-tbt", "BTC-USDT")
        times = [int((await client.data("bbo-tbt"))["data"][0]["ts"]) for _ in range(20)]
        assert times == sorted(set(times))
        assert 0 <= times[-1] - 1_600_086_400_000 < 60_000


async def test_compression_is_agreed_on_where_it_is_switched_on():
    async with Simulator(settings=Settings(deflate=True)) as sim, Client(sim.urls["public"]) as client:
        assert "permessage-deflate" in client.ws.response.headers["Sec-WebSocket-Extensions"]
        await client.subscribe("books", "BTC-USDT")
        assert len((await client.data("books"))["data"][0]["asks"]) == 400

"""Public channels of okx-v5, seen by a plain client."""

from client import FREE, Client

from okstream.simulator import Settings, Simulator


async def test_every_argument_is_answered_in_order_and_echoed():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        args = [{"channel": "tickers", "instId": "BTC-USDT"}, {"channel": "nope", "instId": "BTC-USDT"}]
        await client.send("subscribe", *args, {"channel": "books", "instId": "NO-SUCH"}, id="7a")
        control = [await client.until(lambda m: "event" in m) for _ in range(3)]
        assert [m["event"] for m in control] == ["subscribe", "error", "error"]
        assert control[0]["arg"] == args[0]
        assert {m["id"] for m in control} == {"7a"}
        assert control[1]["code"] == "60018"
        assert "channel:nope,instId:BTC-USDT doesn't exist" in control[1]["msg"]
        assert len({m["connId"] for m in control}) == 1


async def test_ping_is_answered_as_plain_text():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.ws.send("ping")
        assert await client.next() == "pong"


async def test_garbage_and_unknown_operations_are_errors():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.ws.send("{oops")
        assert (await client.next())["code"] == "60012"
        await client.send("dance", {})
        assert (await client.next())["code"] == "60019"
        await client.subscribe("tickers")
        assert (await client.next())["code"] == "60027"


def apply(levels, rows):
    """Keep a side of a book as a client would."""
    for price, size, _, orders in rows:
        if size == "0":
            levels.pop(price, None)
        else:
            levels[price] = (size, orders)


async def test_a_book_keeps_its_chain_and_exactly_its_window():
    settings = Settings(connects_per_second=None, rate=20.0)
    async with Simulator(settings=settings) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("books", "BTC-USDT")
        first = await client.data("books")
        assert first["action"] == "snapshot"
        bids, asks, unknown = {}, {}, 0
        apply(bids, first["data"][0]["bids"])
        apply(asks, first["data"][0]["asks"])
        assert first["data"][0]["prevSeqId"] == -1
        last = first["data"][0]["seqId"]
        for _ in range(15):
            row = (await client.data("books"))["data"][0]
            assert row["prevSeqId"] == last
            last = row["seqId"]
            unknown += sum(p not in bids for p, size, *_ in row["bids"] if size == "0")
            apply(bids, row["bids"])
            apply(asks, row["asks"])
            assert (len(bids), len(asks)) == (400, 400)
            assert max(map(float, bids)) < min(map(float, asks))
            assert [float(r[0]) for r in row["asks"]] == sorted(float(r[0]) for r in row["asks"])
            assert [float(r[0]) for r in row["bids"]] == sorted((float(r[0]) for r in row["bids"]), reverse=True)
            assert row["checksum"] == 0
        assert unknown > 0


async def test_trades_account_for_every_id():
    async with Simulator(settings=Settings(rate=20.0)) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("trades", "ETH-USDT")
        row = (await client.data("trades"))["data"][0]
        for _ in range(20):
            following = (await client.data("trades"))["data"][0]
            assert int(following["tradeId"]) - int(following["count"]) == int(row["tradeId"])
            row = following
        pushes = sim.log.pushes("trades:instId=ETH-USDT")
        assert [p.kind for p in pushes[:2]] == ["cached", "push"]
        assert all(p.sent for p in pushes)


async def test_ticker_shows_the_last_trade_and_the_touch():
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        await client.subscribe("tickers", "BTC-USDT-SWAP")
        for _ in range(3):
            row = (await client.data("tickers"))["data"][0]
            assert float(row["bidPx"]) < float(row["askPx"])
            trades = {sim.engine.market.instruments["BTC-USDT-SWAP"].price(t.price)
                      for t in sim.engine.market.books["BTC-USDT-SWAP"].trades}  # fmt: skip
            assert row["last"] in trades


async def test_small_books_and_candles_flow():
    async with Simulator(settings=FREE) as sim:
        async with Client(sim.urls["public"]) as client:
            await client.subscribe("bbo-tbt", "BTC-USDT")
            await client.subscribe("books5", "BTC-USDT")
            assert len((await client.data("bbo-tbt"))["data"][0]["asks"]) == 1
            assert len((await client.data("books5"))["data"][0]["asks"]) == 5
        async with Client(sim.urls["business"]) as client:
            await client.subscribe("candle1m", "BTC-USDT")
            for _ in range(2):
                assert len((await client.data("candle1m"))["data"][-1]) == 9


async def test_wrong_paths_are_refused():
    async with Simulator(settings=FREE) as sim:
        async with Client(sim.urls["public"]) as client:
            await client.subscribe("candle1m", "BTC-USDT")
            assert (await client.next())["code"] == "64001"
            await client.subscribe("books-l2-tbt", "BTC-USDT")
            assert (await client.next())["code"] == "60011"
        async with Client(sim.urls["business"]) as client:
            await client.subscribe("tickers", "BTC-USDT")
            assert (await client.next())["code"] == "64002"

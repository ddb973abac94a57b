"""REST beside the socket, on the same port and from the same market."""

import base64
import hashlib
import hmac
import json

import aiohttp
from client import FREE, Client

from okstream.simulator import TEST_ACCOUNT, Settings, Simulator
from okstream.simulator.clock import iso


def signed(sim, method, path, body=""):
    stamp = iso(sim.engine.clock.ms())
    mac = hmac.new(TEST_ACCOUNT.secret.encode(), (stamp + method + path + body).encode(), hashlib.sha256)
    return {
        "OK-ACCESS-KEY": TEST_ACCOUNT.key,
        "OK-ACCESS-SIGN": base64.b64encode(mac.digest()).decode(),
        "OK-ACCESS-TIMESTAMP": stamp,
        "OK-ACCESS-PASSPHRASE": TEST_ACCOUNT.passphrase,
    }


async def test_public_data():
    settings = Settings(clock_offset=-3600.0)
    async with Simulator(settings=settings) as sim, aiohttp.ClientSession(sim.rest_url) as http:
        for path in (
            "public/time",
            "public/instruments?instType=SPOT",
            "public/instruments?instType=OPTION&instFamily=BTC-USD",
            "market/tickers?instType=SWAP",
            "market/ticker?instId=BTC-USDT",
            "market/books?instId=BTC-USDT&sz=400",
            "market/trades?instId=BTC-USDT",
            "market/history-trades?instId=BTC-USDT&limit=2",
            "market/candles?instId=BTC-USDT&bar=1Dutc",
            "public/mark-price?instId=BTC-USDT-SWAP",
            "public/funding-rate?instId=BTC-USDT-SWAP",
            "public/open-interest?instId=BTC-USD-SWAP",
            "system/status",
        ):
            async with http.get(f"/api/v5/{path}") as reply:
                answer = await reply.json()
                assert (reply.status, answer["code"]) == (200, "0"), path
                assert answer["data"], path


async def test_errors_and_limits():
    async with Simulator() as sim, aiohttp.ClientSession(sim.rest_url) as http:
        for path, code in (
            ("market/books?instId=BTC-USDT&sz=401", "51000"),
            ("market/books", "50014"),
            ("market/ticker?instId=NO-SUCH", "51001"),
            ("account/balance", "50103"),
        ):
            async with http.get(f"/api/v5/{path}") as reply:
                assert (await reply.json())["code"] == code
        for _ in range(11):
            async with http.get("/api/v5/public/time") as reply:
                status, answer = reply.status, await reply.json()
        assert (status, answer["code"]) == (429, "50011")


async def test_an_order_over_rest_is_seen_on_the_socket():
    async with (
        Simulator(settings=Settings(orders_per_second=0)) as sim,
        Client(sim.urls["private"]) as client,
        aiohttp.ClientSession(sim.rest_url) as http,
    ):
        await client.login()
        await client.subscribe("orders", instType="SPOT")
        await client.until(lambda m: m.get("event") == "channel-conn-count")
        body = json.dumps({"instId": "BTC-USDT", "side": "buy", "ordType": "limit", "px": "1000.5", "sz": "0.01"})
        path = "/api/v5/trade/order"
        async with http.post(path, data=body, headers=signed(sim, "POST", path, body)) as reply:
            answer = await reply.json()
        number = answer["data"][0]["ordId"]
        row = (await client.data("orders"))["data"][0]
        assert (row["ordId"], row["state"], row["px"]) == (number, "live", "1000.5")
        path = "/api/v5/trade/orders-pending?instType=SPOT"
        async with http.get(path, headers=signed(sim, "GET", path)) as reply:
            assert [o["ordId"] for o in (await reply.json())["data"]] == [number]
        path = "/api/v5/account/balance?ccy=USDT"
        async with http.get(path, headers=signed(sim, "GET", path)) as reply:
            assert (await reply.json())["data"][0]["details"][0]["frozenBal"] == "10.005"
        path, body = "/api/v5/trade/cancel-order", json.dumps({"instId": "BTC-USDT", "ordId": number})
        async with http.post(path, data=body, headers=signed(sim, "POST", path, body)) as reply:
            assert (await reply.json())["data"][0]["sCode"] == "0"
        assert (await client.data("orders"))["data"][0]["state"] == "canceled"
        path, wrong = "/api/v5/account/positions", signed(sim, "GET", "/other")
        async with http.get(path, headers=wrong) as reply:
            assert (reply.status, (await reply.json())["code"]) == (401, "50113")


async def test_faults_over_http_need_the_token():
    async with Simulator(settings=FREE) as sim, aiohttp.ClientSession() as http:
        async with http.post(sim.control_url, data="drop") as reply:
            assert reply.status == 401
        headers = {"Authorization": f"Bearer {sim.token}"}
        async with http.post(sim.control_url, data="handshake:status=503\ngap", headers=headers) as reply:
            assert (await reply.json())["injected"] == ["handshake", "gap"]
        async with http.post(sim.control_url, data="nonsense", headers=headers) as reply:
            assert reply.status == 400
        async with http.get(sim.control_url, headers=headers) as reply:
            assert (await reply.json())["armed"] == ["handshake", "gap"]


async def test_rest_is_of_now_while_the_stream_is_stalled():
    """Same numbers as on the stream, and never behind it: a client can tell a stall from a quiet market."""

    async def asked(http, path):
        async with http.get(f"/api/v5/market/{path}") as reply:
            return (await reply.json())["data"][0]

    inst, channels = "BTC-USDT", ("books", "trades", "tickers")
    async with (
        Simulator(settings=FREE) as sim,
        Client(sim.urls["public"]) as client,
        aiohttp.ClientSession(sim.rest_url) as http,
    ):
        for channel in channels:
            await client.subscribe(channel, inst)
        pushed = (await client.data("books"))["data"][0]["seqId"]
        before = [await asked(http, f"{path}?instId={inst}") for path in ("books", "trades", "ticker")]
        assert len(before[0]["asks"]) == len(before[0]["bids"]) == 1
        assert pushed <= before[0]["seqId"]
        while pushed < before[0]["seqId"]:
            pushed = (await client.data("books"))["data"][0]["seqId"]
        for channel in channels:
            sim.inject(f"stall:channel={channel},seconds=600")
        await client.subscribe("bbo-tbt", inst)
        while sum(sim.counters.faults.values()) < 3:
            await client.data("bbo-tbt")
        held = {channel: sim.log.pushes(f"{channel}:instId={inst}")[-1].payload["data"][0] for channel in channels}
        books, trades, ticker = [
            await asked(http, f"{path}?instId={inst}&{size}=1")
            for path, size in (("books", "sz"), ("trades", "limit"), ("ticker", "limit"))
        ]
        book = sim.engine.market.books[inst]
        assert held["books"]["seqId"] <= books["seqId"] <= book.seq
        assert int(held["trades"]["tradeId"]) <= int(trades["tradeId"]) <= book.last_id
        assert int(held["tickers"]["ts"]) <= int(ticker["ts"]) <= book.ts
        assert books["seqId"] > before[0]["seqId"]
        bbo = (await client.data("bbo-tbt"))["data"][0]
        assert abs(bbo["seqId"] - books["seqId"]) < 10_000

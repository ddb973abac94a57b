"""okex-v1: arrays, long channel names, asks from the top, text or raw Deflate."""

import hashlib
import json

import pytest
from test_v3 import Old

from okstream.simulator import TEST_ACCOUNT, Settings, Simulator

QUIET = Settings(connects_per_second=None, v1_double_acks=False, rate=5.0)


class Oldest(Old):
    compressed = False

    async def add(self, *channels):
        await self.ws.send(json.dumps([{"event": "addChannel", "channel": c} for c in channels]))

    async def channel(self, name):
        return (await self.until(lambda m: m[0].get("channel") == name))[0]


async def test_text_answers_and_errors():
    async with Simulator("okex-v1", QUIET) as sim, Oldest(sim.urls["spot"]) as client:
        await client.ws.send("{'event':'ping'}")
        assert await client.next() == {"event": "pong"}
        await client.add("ok_sub_spot_btc_usdt_ticker")
        assert await client.next() == [
            {"binary": 0, "channel": "addChannel", "data": {"result": True, "channel": "ok_sub_spot_btc_usdt_ticker"}}
        ]
        ticker = await client.channel("ok_sub_spot_btc_usdt_ticker")
        assert isinstance(ticker["data"]["timestamp"], int)
        await client.add("ok_sub_spot_btc_ticker")
        wrong = await client.channel("ok_sub_spot_btc_ticker")
        assert wrong["data"] == {"result": False, "error_msg": "param not match.", "error_code": 20116}
        await client.ws.send('{"event":"dance"}')
        assert (await client.until(lambda m: "channel" not in m[0]))[0]["data"]["error_code"] == 20103
        await client.ws.send('{"event":"removeChannel","channel":"ok_sub_spot_btc_usdt_ticker"}')
        assert (await client.channel("removeChannel"))["data"]["result"] is True


@pytest.mark.parametrize("way", ["/ws/v1", "/websocket?compress=true"])
async def test_compressed_paths(way):
    async with Simulator("okex-v1", QUIET) as sim, Old(sim.url + way) as client:
        await client.ws.send('{"event":"ping"}')
        assert await client.next() == {"event": "pong"}
        await client.ws.send('{"event":"addChannel","channel":"ok_sub_spot_eth_btc_deals"}')
        assert (await client.next())[0]["binary"] == 1
        deal = (await client.next())[0]
        assert deal["binary"] == 1
        assert deal["data"][-1][4] in ("bid", "ask")


async def test_one_compressed_subscription_on_a_text_connection():
    async with Simulator("okex-v1", QUIET) as sim, Oldest(sim.urls["spot"]) as client:
        name = "ok_sub_spot_btc_usdt_depth_5"
        await client.ws.send(json.dumps({"event": "addChannel", "channel": name, "binary": 1}))
        assert (await client.next())[0]["channel"] == "addChannel"
        assert isinstance(await client.ws.recv(), bytes)


async def test_books_begin_whole_with_the_best_ask_last():
    async with Simulator("okex-v1", QUIET) as sim, Oldest(sim.urls["spot"]) as client:
        await client.add("ok_sub_spot_btc_usdt_depth", "ok_sub_futureusd_btc_depth_quarter_10")
        data = (await client.channel("ok_sub_spot_btc_usdt_depth"))["data"]
        asks, bids = [float(r[0]) for r in data["asks"]], [float(r[0]) for r in data["bids"]]
        assert (len(asks), len(bids)) == (200, 200)
        assert asks == sorted(asks, reverse=True)
        assert bids == sorted(bids, reverse=True)
        assert asks[-1] > bids[0]
        future = (await client.channel("ok_sub_futureusd_btc_depth_quarter_10"))["data"]
        assert all(isinstance(cell, int | float) for row in future["asks"] for cell in row)
        assert future["asks"][-1][4] < future["asks"][0][4]


async def test_every_public_channel_flows():
    async with Simulator("okex-v1", QUIET) as sim, Oldest(sim.urls["okcoin"]) as client:
        names = [f"ok_sub_spot_btc_usdt_{c}" for c in ("ticker", "deals", "depth", "depth_20", "kline_1min")]
        names += [f"ok_sub_futureusd_btc_{c}_this_week" for c in ("ticker", "trade", "depth", "markprice")]
        names += ["ok_sub_futureusd_btc_kline_quarter_15min", "ok_sub_futureusd_btc_index"]
        await client.add(*names)
        missing = set(names)
        while missing:
            missing.discard((await client.next())[0].get("channel"))


async def test_login_with_md5_and_user_channels():
    settings = Settings(orders_per_second=100.0, rate=5.0)
    async with Simulator("okex-v1", settings) as sim, Oldest(sim.urls["spot"]) as client:
        wrong = {"api_key": TEST_ACCOUNT.key, "sign": "X"}
        await client.ws.send(json.dumps({"event": "login", "parameters": wrong}))
        assert await client.next() == [{"data": {"result": False, "error_msg": "Invalid logon.", "error_code": 20102}}]
        text = f"api_key={TEST_ACCOUNT.key}&secret_key={TEST_ACCOUNT.secret}"
        right = {"api_key": TEST_ACCOUNT.key, "sign": hashlib.md5(text.encode()).hexdigest().upper()}
        await client.ws.send(json.dumps({"event": "login", "parameters": right}))
        assert (await client.next())[0]["channel"] == "login"
        names = {"ok_sub_spot_btc_usdt_order", "ok_sub_spot_btc_usdt_balance"}
        await client.add(*names)
        names |= {"ok_sub_futureusd_trades", "ok_sub_futureusd_userinfo", "ok_sub_futureusd_positions"}
        while names:
            names.discard((await client.next())[0].get("channel"))

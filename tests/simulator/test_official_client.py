"""The exchange's own Python client against the simulated exchange."""

import asyncio
import json
import logging

import pytest
import websockets
from client import FREE

from okstream.simulator import TEST_ACCOUNT, Simulator

okx = pytest.importorskip("okx.websocket.WsPrivateAsync")
public = pytest.importorskip("okx.websocket.WsPublicAsync")


class Plain:
    """The client's own factory insists on TLS; this one dials a plain loopback socket."""

    def __init__(self, url):
        self.url = url
        self.websocket = None

    async def connect(self):
        self.websocket = await websockets.connect(self.url, proxy=None)
        return self.websocket

    async def close(self):
        await self.websocket.close()


async def wait_for(heard, wanted, timeout=10):
    async with asyncio.timeout(timeout):
        while True:
            text = await heard.get()
            message = json.loads(text)
            if wanted(message):
                return message


async def test_login_subscribe_data_error_and_notice(caplog):
    caplog.set_level(logging.CRITICAL)
    async with Simulator(settings=FREE) as sim:
        heard = asyncio.Queue()
        user = okx.WsPrivateAsync(TEST_ACCOUNT.key, TEST_ACCOUNT.passphrase, TEST_ACCOUNT.secret, sim.urls["private"])
        user.factory = Plain(user.url)
        user.callback = heard.put_nowait
        reader = await user.start()
        await user.login()
        assert (await wait_for(heard, lambda m: m["event"] == "login"))["code"] == "0"
        await user.send("subscribe", [{"channel": "account"}], id="5")
        assert (await wait_for(heard, lambda m: m.get("event") == "subscribe"))["id"] == "5"
        assert (await wait_for(heard, lambda m: "data" in m))["eventType"] == "snapshot"
        await user.stop()
        await reader

        market = public.WsPublicAsync(sim.urls["public"])
        market.factory = Plain(market.url)
        reader = await market.start()
        args = [{"channel": c, "instId": "BTC-USDT"} for c in ("tickers", "trades", "books", "bbo-tbt")]
        await market.subscribe(args, heard.put_nowait)
        for _ in range(100):
            await wait_for(heard, lambda m: "data" in m)
        await market.subscribe([{"channel": "candle1m", "instId": "BTC-USDT"}], heard.put_nowait)
        assert (await wait_for(heard, lambda m: m.get("event") == "error"))["code"] == "64001"
        sim.inject("notice:lead=0.05")
        assert (await wait_for(heard, lambda m: m.get("event") == "notice"))["code"] == "64008"
        await asyncio.wait([reader], timeout=5)
        assert reader.done()
        reader.exception()

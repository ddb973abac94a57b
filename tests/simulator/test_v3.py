"""okex-v3: raw Deflate, one answer per argument, books with a real checksum."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import zlib

import pytest
from client import FREE, Client

from okstream.simulator import TEST_ACCOUNT, Settings, Simulator


class Old(Client):
    """Inflates binary frames."""

    compressed = True

    async def next(self, timeout=5.0):
        frame = await asyncio.wait_for(self.ws.recv(), timeout)
        assert isinstance(frame, bytes) == self.compressed
        decoder = zlib.decompressobj(-15)
        text = decoder.decompress(frame) if isinstance(frame, bytes) else frame.encode()
        if isinstance(frame, bytes):
            assert decoder.eof
            assert not decoder.unused_data
        return "pong" if text == b"pong" else json.loads(text)

    async def data(self, table, timeout=5.0):
        return await self.until(lambda m: m.get("table") == table, timeout)


def login_args(**change):
    stamp = f"{time.time():.3f}"
    mac = hmac.new(TEST_ACCOUNT.secret.encode(), f"{stamp}GET/users/self/verify".encode(), hashlib.sha256)
    sign = change.get("sign", base64.b64encode(mac.digest()).decode())
    return [change.get("key", TEST_ACCOUNT.key), TEST_ACCOUNT.passphrase, change.get("stamp", stamp), sign]


async def test_answers_come_first_and_in_order():
    async with Simulator("okex-v3", FREE) as sim, Old(sim.urls["public"]) as client:
        await client.ws.send("ping")
        assert await client.next() == "pong"
        await client.send("subscribe", "spot/ticker:BTC-USDT", "spot/nope:BTC-USDT", "spot/trade:BTC-USDT")
        assert await client.next() == {"event": "subscribe", "channel": "spot/ticker:BTC-USDT"}
        assert await client.next() == {
            "event": "error",
            "message": "Channel spot/nope:BTC-USDT doesn't exist",
            "errorCode": 30040,
        }
        assert await client.next() == {"event": "subscribe", "channel": "spot/trade:BTC-USDT"}
        assert (await client.data("spot/ticker"))["data"][0]["instrument_id"] == "BTC-USDT"
        assert (await client.data("spot/trade"))["data"][0]["size"]
        await client.ws.send('{"event":"subscribe"}')
        assert (await client.until(lambda m: m.get("event") == "error"))["errorCode"] == 30039
        await client.send("subscribe", "spot/order:BTC-USDT")
        assert (await client.until(lambda m: m.get("event") == "error"))["errorCode"] == 30041


def crc(asks, bids):
    best = [sorted(bids, key=lambda p: -float(p))[:25], sorted(asks, key=float)[:25]]
    words = []
    for i in range(25):
        for side, book in zip(best, (bids, asks), strict=True):
            if i < len(side):
                words += [side[i], book[side[i]]]
    value = zlib.crc32(":".join(words).encode())
    return value - 2**32 if value >= 2**31 else value


@pytest.mark.parametrize("table", ["spot/depth_l2_tbt:BTC-USDT", "swap/depth:BTC-USDT-SWAP"])
async def test_every_checksum_is_right_and_every_deletion_known(table):
    async with Simulator("okex-v3", Settings(rate=20.0)) as sim, Old(sim.urls["public"]) as client:
        await client.send("subscribe", table)
        asks, bids = {}, {}
        for number in range(20):
            message = await client.data(table.partition(":")[0])
            assert message["action"] == ("update" if number else "partial")
            row = message["data"][0]
            for levels, rows in ((asks, row["asks"]), (bids, row["bids"])):
                for price, size, _, _ in rows:
                    if size == "0":
                        del levels[price]
                    else:
                        levels[price] = size
            assert (len(asks), len(bids)) == (400, 400)
            assert row["checksum"] == crc(asks, bids)


async def test_all_public_tables_flow():
    async with Simulator("okex-v3", FREE) as sim, Old(sim.urls["public"]) as client:
        future = next(i.inst for i in sim.engine.market.instruments.values() if i.type == "FUTURES")
        names = [f"spot/{c}:BTC-USDT" for c in ("ticker", "trade", "depth5", "depth", "candle60s")]
        names += [f"futures/{c}:{future}" for c in ("ticker", "trade", "depth", "candle180s", "mark_price")]
        names += [f"swap/{c}:BTC-USD-SWAP" for c in ("ticker", "funding_rate", "price_range", "candle86400s")]
        names += ["index/ticker:BTC-USD", "index/candle60s:BTC-USD"]
        await client.send("subscribe", *names)
        missing = {n.partition(":")[0] for n in names}
        while missing:
            message = await client.next()
            assert message.get("event") != "error", message
            missing.discard(message.get("table"))


async def test_login_and_user_channels():
    settings = Settings(orders_per_second=100.0, rate=5.0)
    async with Simulator("okex-v3", settings) as sim, Old(sim.urls["public"]) as client:
        await client.send("login", *login_args())
        assert await client.next() == {"event": "login", "success": True}
        names = ["spot/order:BTC-USDT", "spot/account:USDT", "swap/order:BTC-USDT-SWAP"]
        names += ["swap/position:BTC-USDT-SWAP", "swap/account:BTC-USDT-SWAP", "futures/account:BTC"]
        await client.send("subscribe", *names)
        missing = {n.partition(":")[0] for n in names}
        while missing:
            missing.discard((await client.next()).get("table"))


async def test_a_bad_login_is_refused_and_closed():
    async with Simulator("okex-v3", FREE) as sim, Old(sim.urls["public"]) as client:
        await client.send("login", *login_args(sign="wrong"))
        assert await client.next() == {"event": "error", "message": "Invalid sign", "errorCode": 30013}
        await client.closed()


async def _frame(client, damaged):
    """Read until a frame is `damaged`; some may have been on their way before the fault was injected."""
    for _ in range(100):
        decoder = zlib.decompressobj(-15)
        decoder.decompress(await client.ws.recv())
        if damaged(decoder):
            return True
    return False


async def test_damaged_frames():
    async with Simulator("okex-v3", FREE) as sim, Old(sim.urls["public"]) as client:
        await client.send("subscribe", "spot/ticker:BTC-USDT")
        await client.data("spot/ticker")
        sim.inject("truncate:channel=ticker")
        assert await _frame(client, lambda decoder: not decoder.eof)
        sim.inject("pad:channel=spot/ticker")
        assert await _frame(client, lambda decoder: decoder.unused_data)
        await client.send("subscribe", "spot/depth:ETH-USDT")
        await client.data("spot/depth")
        sim.inject("checksum")
        await client.until(lambda m: m.get("table") == "spot/depth" and m["data"][0]["checksum"] == 123456789)
        assert sim.counters.faults == {"truncate": 1, "pad": 1, "checksum": 1}

"""A plain client for the simulated exchange: it knows WebSocket and JSON, and nothing of okstream."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from okstream.simulator import TEST_ACCOUNT, Settings

FREE = Settings(start_ms=None, connects_per_second=None, requests_per_hour=None, channel_connections=None, rate=3.0)


class Client:
    """Sends dicts, receives dicts; every wait is bounded."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ws: ClientConnection

    async def __aenter__(self) -> Client:
        self.ws = await connect(self.url, ping_interval=None, proxy=None, max_size=None, close_timeout=0.3)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ws.close()

    async def send(self, op: str, *args: Any, **more: Any) -> None:
        await self.ws.send(json.dumps({**more, "op": op, "args": list(args)}))

    async def subscribe(self, channel: str, inst: str = "", **more: str) -> None:
        arg = {"channel": channel, **({"instId": inst} if inst else {}), **more}
        await self.send("subscribe", arg)

    async def login(self, **change: Any) -> None:
        stamp = str(int(time.time()))
        mac = hmac.new(TEST_ACCOUNT.secret.encode(), f"{stamp}GET/users/self/verify".encode(), hashlib.sha256)
        arg = {"apiKey": TEST_ACCOUNT.key, "passphrase": TEST_ACCOUNT.passphrase, "timestamp": stamp}
        arg["sign"] = base64.b64encode(mac.digest()).decode()
        await self.send("login", {**arg, **change})

    async def next(self, timeout: float = 30.0) -> Any:
        text = await asyncio.wait_for(self.ws.recv(), timeout)
        return text if text == "pong" else json.loads(text)

    async def until(self, wanted: Callable[[Any], bool], timeout: float = 30.0) -> Any:
        async with asyncio.timeout(timeout):
            while True:
                message = await self.next(timeout)
                if wanted(message):
                    return message

    async def data(self, channel: str, timeout: float = 30.0) -> Any:
        """The next data message of a channel."""
        return await self.until(lambda m: "data" in m and m["arg"]["channel"] == channel, timeout)

    async def closed(self, timeout: float = 30.0) -> tuple[int | None, str]:
        await asyncio.wait_for(self.ws.wait_closed(), timeout)
        return self.ws.close_code, self.ws.close_reason or ""

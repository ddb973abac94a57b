"""The okex-v3 WebSocket server: every message is one raw-Deflate binary frame of its own."""

from __future__ import annotations

import hmac
import zlib
from typing import Any

import orjson

from okstream.simulator import v3_channels
from okstream.simulator.engine import Subscription
from okstream.simulator.instruments import Instrument
from okstream.simulator.talk import Talk
from okstream.simulator.v5 import sign

PATHS = {"public": "/ws/v3"}
ERRORS = {
    "30004": "PASSPHRASE can not be blank",
    "30005": "Invalid OK_ACCESS_TIMESTAMP",
    "30006": "Invalid OK_ACCESS_KEY",
    "30008": "Timestamp request expired",
    "30013": "Invalid sign",
    "30015": "Invalid OK_ACCESS_PASSPHRASE",
    "30026": "Requests too frequent",
    "30027": "Login failure",
    "30039": "Unrecognized request: {0}",
    "30040": "Channel {0} doesn't exist",
    "30041": "User not logged in / User must be logged in",
    "30042": "Already logged in",
}
MAX_ARGS = 4096  # bytes of all channel names in one request
HOURLY = 240


def deflate(text: bytes) -> bytes:
    """Raw Deflate as the exchange's encoder made it: level 1, no header, one finished stream."""
    encoder = zlib.compressobj(1, zlib.DEFLATED, -15)
    return encoder.compress(text) + encoder.flush()


class V3(Talk):
    """Login, subscriptions and answers of one okex-v3 connection."""

    idle_code, idle_reason = 4001, "no data received for a long time"

    def wire(self, text: bytes) -> bytes:
        return deflate(text)

    def ping(self, text: str) -> bool:
        return text == "ping" and (self.connection.send(deflate(b"pong")) or True)

    def say(self, message: dict[str, Any]) -> None:
        self.connection.send(deflate(orjson.dumps(message)))

    def error(self, code: str, word: str = "") -> None:
        text = ERRORS.get(code, ERRORS["30027"]).replace("{0}", word)
        self.say({"event": "error", "message": text, "errorCode": int(code)})

    def request(self, text: str) -> None:
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            request = {}
        args = request.get("args")
        if not isinstance(args, list) or not all(isinstance(a, str) for a in args):
            self.error("30039", text)
            return
        op = request.get("op")
        if op not in ("login", "subscribe", "unsubscribe"):
            self.error("30039", text)
        elif self.too_many(HOURLY if self.engine.settings.requests_per_hour is not None else None):
            self.error("30026")
        elif sum(map(len, args)) > MAX_ARGS:
            self.error("30039", "too long")
        elif op == "login":
            self._login(args)
        elif op == "subscribe":
            for sub in [s for name in args if (s := self._subscribe(name)) is not None]:
                self.engine.start(sub)
        else:
            for name in args:
                self._unsubscribe(name)

    def _login(self, args: list[str]) -> None:
        if self.connection.login is not None:
            self.error("30042")
            return
        code = self._refusal([*args, "", "", "", ""])
        fault = self.take("refuse-login")
        if fault is not None:
            code = fault.option("code") if fault.option("code") in ERRORS else "30027"
        if code is None:
            account = self.account(args[0])
            assert account is not None
            self.connection.login = account.name
            self.engine.counters.logins += 1
            self.say({"event": "login", "success": True})
            return
        self.error(code)
        if self.engine.settings.close_failed_login:
            self.connection.close(1000)

    def _refusal(self, args: list[str]) -> str | None:
        key, passphrase, stamp, given = args[:4]
        account = self.account(key)
        if account is None:
            return "30006"
        if passphrase != account.passphrase:
            return "30015" if passphrase else "30004"
        stale = self.stale(stamp)
        if stale is not False:
            return "30005" if stale is None else "30008"
        right = sign(account.secret, stamp + "GET" + "/users/self/verify")
        return None if hmac.compare_digest(right.encode(), given.encode()) else "30013"

    def _subscribe(self, name: str) -> Subscription | None:
        """Answer one channel. Returns what has yet to be started."""
        table, _, target = name.partition(":")
        fault = self.take("refuse", table, target)
        if fault is not None:
            self.error(fault.option("code") if fault.option("code") in ERRORS else "30040", name)
            return None
        channel = v3_channels.find(table)
        found = self._target(table, target)
        if channel is None or found is None:
            self.error("30040", name)
            return None
        private = issubclass(channel, v3_channels.UserSubscription)
        if private and self.connection.login is None:
            self.error("30041")
            return None
        self.say({"event": "subscribe", "channel": name})
        if name in self.connection.subscriptions:
            return None
        sub = self._make(channel, name, table, target, found)
        sub.wire = deflate
        self.engine.attach(sub, self.connection, self.phase)
        return sub

    def _make(self, channel: Any, name: str, table: str, target: str, found: Instrument | str) -> Subscription:
        arg = {"channel": table, "instId": target}
        if issubclass(channel, v3_channels.UserSubscription):
            assert self.connection.login is not None
            arg["instType"] = table.partition("/")[0].upper()
            if table.endswith("/account"):
                arg["ccy"] = found.settle if isinstance(found, Instrument) else found.rpartition("-")[2]
            sub: Subscription = channel(self.engine, name, arg, self.engine.users[self.connection.login])
        else:
            sub = channel(self.engine, name, arg)
        return sub

    def _target(self, table: str, target: str) -> Instrument | str | None:
        """The instrument a filter names, or the filter itself where it names something else; None: nothing."""
        business, _, channel = table.partition("/")
        market = self.engine.market
        if business == "index":
            return target if market.index(target) else None
        if channel == "account" and business in ("spot", "futures"):
            return target or None
        if table == "system/status":
            return "status"
        found = market.instruments.get(target)
        return found if found is not None and found.type == business.upper() else None

    def _unsubscribe(self, name: str) -> None:
        if v3_channels.find(name.partition(":")[0]) is None:
            self.error("30040", name)
            return
        sub = self.connection.subscriptions.get(name)
        if sub is not None:
            self.engine.remove(sub)
        self.say({"event": "unsubscribe", "channel": name})

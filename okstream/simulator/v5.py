"""The okx-v5 WebSocket server: one conversation per connection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

import orjson

from okstream.simulator.engine import Subscription
from okstream.simulator.talk import Talk
from okstream.simulator.v5_account import UserSubscription
from okstream.simulator.v5_channels import CHANNELS, Channel
from okstream.simulator.v5_public import V5Subscription

PATHS = {"public": "/ws/v5/public", "private": "/ws/v5/private", "business": "/ws/v5/business"}
_HELP = "https://www.okx.com/help-center/changes-to-v5-api-websocket-subscription-parameter-and-url."
ERRORS = {
    "60004": "Invalid timestamp",
    "60005": "Invalid apiKey",
    "60006": "Timestamp request expired",
    "60007": "Invalid sign",
    "60009": "Login failed.",
    "60011": "Please log in",
    "60012": "Invalid request: {0}",
    "60013": "Invalid args",
    "60014": "Requests too frequent",
    "60018": "Wrong URL or {0} doesn't exist. Please use the correct URL, channel and parameters referring to "
    "API document.",
    "60019": "Invalid op: {0}",
    "60024": "Wrong passphrase",
    "60027": "Parameter {0} can not be empty.",
    "60031": "The WebSocket endpoint does not allow multiple or repeated logins.",
    "60032": "API key doesn't exist",
    "60033": "Parameter {0} error.",
    "63999": "Login failed due to internal error. Please try again later.",
    "64001": "This channel has been migrated to the '/business' URL. Please subscribe using the new URL. More "
    f"details can refer to: {_HELP}",
    "64002": 'This channel is not supported by "/business" URL. Please use "/private" URL(for private channels), '
    f'or "/public" URL(for public channels). More details can refer to: {_HELP}',
    "64003": "Your trading fee tier doesn't meet the requirement to access this channel",
    "64004": "Subscribe to both {0} and books-l2-tbt for {1} is not allowed. Unsubscribe books-l2-tbt first.",
    "64007": "Operation {0} failed due to WebSocket internal error. Please try again later.",
}
NOTICE = "The connection will soon be closed for a service upgrade. Please reconnect."
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_EXCLUSIVE = ("books", "books50-l2-tbt")


def key_of(arg: dict[str, Any]) -> str:
    """The oracle's name of a subscription: "books:instId=BTC-USDT". How often it pushes is no part of it."""
    rest = sorted((k, str(v)) for k, v in arg.items() if k not in ("channel", "extraParams"))
    return str(arg["channel"]) + (":" + ",".join(f"{k}={v}" for k, v in rest) if rest else "")


def sign(secret: str, text: str) -> str:
    """base64 of the HMAC-SHA256 of `text`."""
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


class V5(Talk):
    """Login, subscriptions and answers of one okx-v5 connection."""

    @property
    def path(self) -> str:
        return self.connection.path.rsplit("/", 1)[-1]

    def ping(self, text: str) -> bool:
        return text == "ping" and (self.connection.send("pong") or True)

    def request(self, text: str) -> None:
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict) or "op" not in request:
            self.error("60012", text)
            return
        given = request.get("id")
        id = given if isinstance(given, str) and _ID.fullmatch(given) else None
        op, args = request["op"], request.get("args")
        if op not in ("subscribe", "unsubscribe", "login"):
            self.error("60019", op, id=id)
        elif self.too_many(self.engine.settings.requests_per_hour):
            self.error("60014", id=id)
        elif not isinstance(args, list) or not args or not all(isinstance(a, dict) for a in args):
            self.error("60013", id=id)
        elif op == "login":
            self._login(args[0], id)
        elif op == "subscribe":
            # All answers first, then all first pushes.
            for sub in [s for arg in args if (s := self._subscribe(arg, id)) is not None]:
                self.engine.start(sub)
        else:
            for arg in args:
                self._unsubscribe(arg, id)

    # Answers

    def say(self, message: dict[str, Any], id: str | None = None) -> None:
        head = {"id": id} if id is not None else {}
        self.connection.send(orjson.dumps({**head, **message, "connId": self.connection.id}).decode())

    def error(self, code: str, *words: str, id: str | None = None) -> None:
        text = ERRORS.get(code, "Unknown error")
        for i, word in enumerate(words):
            text = text.replace(f"{{{i}}}", str(word))
        self.say({"event": "error", "msg": text, "code": code}, id)

    def notice(self) -> None:
        self.say({"event": "notice", "msg": NOTICE, "code": "64008"})

    def unknown_event(self) -> str:
        return orjson.dumps({"event": "weather", "msg": "sunny", "connId": self.connection.id}).decode()

    # Login

    def _login(self, arg: dict[str, Any], id: str | None) -> None:
        if self.connection.login is not None:
            self.error("60031", id=id)
            return
        code = self._refusal(arg)
        fault = self.take("refuse-login")
        if fault is not None:
            code = fault.option("code")
        if code is None:
            self.connection.login = self.account(arg["apiKey"]).name  # type: ignore[union-attr]
            self.engine.counters.logins += 1
            self.say({"event": "login", "msg": "", "code": "0"}, id)
            return
        self.error(code, id=id)
        if self.engine.settings.close_failed_login:
            self.connection.close(4001, "Login Failed")

    def _refusal(self, arg: dict[str, Any]) -> str | None:
        """The code of the first thing wrong with a login, None where nothing is."""
        if not arg.get("apiKey"):
            return "60005"
        account = self.account(arg["apiKey"])
        if account is None:
            return "60032"
        stamp = str(arg.get("timestamp", ""))
        stale = self.stale(stamp)
        if stale is not False:
            return "60004" if stale is None else "60006"
        if arg.get("passphrase") != account.passphrase:
            return "60024"
        right = sign(account.secret, stamp + "GET" + "/users/self/verify")
        if not hmac.compare_digest(right.encode(), str(arg.get("sign", "")).encode()):
            return "60007"
        return None

    # Subscriptions

    def _subscribe(self, arg: dict[str, Any], id: str | None) -> Subscription | None:
        """Answer one argument. Returns what has yet to be started."""
        name, inst = str(arg.get("channel", "")), str(arg.get("instId", ""))
        fault = self.take("refuse", name, inst)
        if fault is not None:
            self.error(fault.option("code"), _described(arg), id=id)
            return None
        refusal = self._objection(arg, name, inst)
        if refusal is not None:
            self.error(*refusal, id=id)
            return None
        self.say({"event": "subscribe", "arg": arg}, id)
        key, channel = key_of(arg), CHANNELS[name]
        if key in self.connection.subscriptions:
            return None
        if name in _EXCLUSIVE and self._find("books-l2-tbt", inst):
            self.error("64004", name, inst, id=id)
            return None
        if channel.limited and not self._counted(name, 1):
            return None
        sub = self._make(channel, key, arg)
        self.engine.attach(sub, self.connection, self.phase)
        if name == "books-l2-tbt":
            self.later(2.0, lambda: self._expel(inst))
        return sub

    def _make(self, channel: Channel, key: str, arg: dict[str, Any]) -> Subscription:
        if issubclass(channel.serves, UserSubscription):
            assert self.connection.login is not None
            return channel.serves(self.engine, key, arg, self.engine.users[self.connection.login])
        made: V5Subscription = channel.serves(self.engine, key, arg)
        return made

    def _objection(self, arg: dict[str, Any], name: str, inst: str) -> tuple[str, ...] | None:
        """The error code and its words for an argument that cannot be served, None for a good one."""
        channel = CHANNELS.get(name)
        if channel is None:
            return "60018", _described(arg)
        if self.path not in channel.paths:
            if channel.paths == ("business",):
                return ("64001",)
            return ("64002",) if self.path == "business" else ("60018", _described(arg))
        if channel.login and self.connection.login is None:
            return ("60011",)
        missing = next((name for name in channel.required if not arg.get(name)), None)
        if missing is not None:
            return "60027", missing
        if not self._exists(channel, arg, inst):
            return "60018", _described(arg)
        if channel.tier and self._tier() < channel.tier:
            return ("64003",)
        return None

    def _exists(self, channel: Channel, arg: dict[str, Any], inst: str) -> bool:
        market = self.engine.market
        if channel.types and arg.get("instType") not in channel.types:
            return False
        if channel.either and not inst:
            every = market.instruments.values()
            return any(i.family == arg.get("instFamily") and i.type in channel.only for i in every)
        if not inst or channel.target == "":
            return True
        if channel.target == "index":
            return market.index(inst) is not None
        found = market.instruments.get(inst)
        return found is not None and (not channel.only or found.type in channel.only)

    def _tier(self) -> int:
        login = self.connection.login
        return self.engine.users[login].account.tier if login is not None else 0

    def _find(self, channel: str, inst: str) -> Subscription | None:
        live = self.connection.subscriptions.values()
        return next((s for s in live if s.channel == channel and s.inst == inst), None)

    def _expel(self, inst: str) -> None:
        """books-l2-tbt drives the other depths of its instrument off the connection, some seconds later."""
        if self._find("books-l2-tbt", inst) is None:
            return
        for name in _EXCLUSIVE:
            other = self._find(name, inst)
            if other is not None:
                self.engine.remove(other)
                self.say({"event": "unsubscribe", "arg": other.arg})

    def _unsubscribe(self, arg: dict[str, Any], id: str | None) -> None:
        name = str(arg.get("channel", ""))
        if name not in CHANNELS:
            self.error("60018", _described(arg), id=id)
            return
        live = self.connection.subscriptions
        # What a renamed instrument was subscribed to as, its new name unsubscribes from as well.
        former = self.engine.market.former.get(str(arg.get("instId", "")), "")
        sub = live.get(key_of(arg)) or live.get(key_of({**arg, "instId": former}))
        if sub is not None:
            self.engine.remove(sub)
        self.say({"event": "unsubscribe", "arg": arg}, id)
        if CHANNELS[name].limited:
            self._counted(name, 0)

    def _counted(self, name: str, extra: int) -> bool:
        """Say how many connections carry this user channel. False where one more would be too many."""
        limit, login = self.engine.settings.channel_connections, self.connection.login
        using = {
            peer.id
            for peer in self.peers()
            if peer.login == login and any(s.channel == name for s in peer.subscriptions.values())
        }
        if extra:
            using.add(self.connection.id)
        refused = limit is not None and len(using) > limit
        event = "channel-conn-count-error" if refused else "channel-conn-count"
        count = limit if refused else len(using)
        self.say({"event": event, "channel": name, "connCount": str(count)})
        return not refused


def _described(arg: dict[str, Any]) -> str:
    """channel:candle1s,instId:BTC-USDT-SWAP"""
    rest = ",".join(f"{k}:{v}" for k, v in arg.items() if k != "channel")
    return f"channel:{arg.get('channel', '')}" + (f",{rest}" if rest else "")

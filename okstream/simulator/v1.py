"""The okex-v1 WebSocket server: arrays of messages, text or raw Deflate, channels with long names."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson

from okstream.simulator import v1_channels
from okstream.simulator.account import User
from okstream.simulator.engine import Subscription
from okstream.simulator.settings import Account
from okstream.simulator.talk import Talk
from okstream.simulator.v3 import deflate
from okstream.simulator.v5 import sign

PATHS = {
    "public": "/ws/v1",
    "spot": "/websocket",
    "futures": "/websocket/okexapi",
    "okcoin": "/websocket/okcoinapi",
}
ERRORS = {
    20102: "Invalid logon.",
    20103: "The subscription event type is invalid.",
    20107: "Illegal JSON format.",
    20116: "param not match.",
}


def md5_sign(parameters: dict[str, Any], secret: str) -> str:
    """Upper-case MD5 of the sorted parameters and the secret, as this generation signs."""
    words = [f"{name}={parameters[name]}" for name in sorted(parameters) if name != "sign"]
    text = "&".join([*words, f"secret_key={secret}"])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()


class V1(Talk):
    """
    Login, channels and answers of one okex-v1 connection.

    /ws/v1 and ?compress=true compress every message; elsewhere one subscription may ask with "binary".
    """

    compressed = False
    _acks = 0

    def opened(self) -> None:
        self.compressed = self.connection.path == "/ws/v1" or self.connection.query.get("compress") == "true"
        super().opened()

    def idle_limit(self) -> float | None:
        # Silent clients were dropped every five minutes or so; nothing says after exactly how long.
        return 300.0 if self.engine.settings.idle_close is not None else None

    def wire(self, text: bytes) -> str | bytes:
        return deflate(text) if self.compressed else text.decode()

    def ping(self, text: str) -> bool:
        if text.replace("'", '"').replace(" ", "") != '{"event":"ping"}':
            return False
        self.connection.send(self.wire(b'{"event":"pong"}'))
        return True

    def say(self, message: dict[str, Any]) -> None:
        self.connection.send(self.wire(orjson.dumps([message])))

    def error(self, code: int, channel: str | None = None) -> None:
        data = {"result": False, "error_msg": ERRORS.get(code, "param not match."), "error_code": code}
        if code == 20102:
            self.say({"data": data})
            return
        head = {"binary": int(self.compressed)} | ({"channel": channel} if channel is not None else {})
        self.say({**head, "data": data})

    def request(self, text: str) -> None:
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = self._quoted(text)
        for one in request if isinstance(request, list) else [request]:
            if isinstance(one, dict):
                self._one(one)
            else:
                self.error(20107)

    @staticmethod
    def _quoted(text: str) -> Any:
        """JavaScript with single quotes, which this server has always taken."""
        try:
            return orjson.loads(text.replace("'", '"'))
        except orjson.JSONDecodeError:
            return None

    def _one(self, request: dict[str, Any]) -> None:
        event, channel = request.get("event"), str(request.get("channel", ""))
        if event == "login":
            self._login(request.get("parameters"))
        elif event == "addChannel":
            if isinstance(request.get("parameters"), dict) and self.connection.login is None:
                account = self._signed(request["parameters"])
                if account is None:
                    self.error(20102)
                    return
                self.connection.login = account.name
            self._add(channel, bool(request.get("binary")))
        elif event == "removeChannel":
            sub = self.connection.subscriptions.get(channel)
            if sub is not None:
                self.engine.remove(sub)
            self._ack("removeChannel", channel)
        else:
            self.error(20103)

    def _ack(self, event: str, channel: str) -> None:
        data = {"result": True, "channel": channel}
        self._acks += 1
        # Some answers came twice; which ones nobody knew.
        for _ in range(2 if self.engine.settings.v1_double_acks and self._acks % 4 == 0 else 1):
            self.say({"binary": int(self.compressed), "channel": event, "data": data})

    def _login(self, parameters: Any) -> None:
        account = self._signed(parameters if isinstance(parameters, dict) else {})
        if self.take("refuse-login") is not None or account is None:
            self.error(20102)
            return
        self.connection.login = account.name
        self.engine.counters.logins += 1
        self.say({"binary": int(self.compressed), "channel": "login", "data": {"result": True}})
        for name in v1_channels.AFTER_LOGIN:
            self._begin(name, v1_channels.find(name, self.engine.market), False)

    def _signed(self, parameters: dict[str, Any]) -> Account | None:
        """The account whose signature this is: MD5, or the HMAC of the last months."""
        account = self.account(parameters.get("api_key"))
        if account is None:
            return None
        given = str(parameters.get("sign", ""))
        if "passphrase" in parameters:
            stamp = str(parameters.get("timestamp", ""))
            if parameters["passphrase"] != account.passphrase or self.stale(stamp) is not False:
                return None
            right = sign(account.secret, stamp + "GET" + "/users/self/verify")
        else:
            right = md5_sign(parameters, account.secret)
        return account if hmac.compare_digest(right.encode(), given.encode()) else None

    def _add(self, channel: str, binary: bool) -> None:
        found = v1_channels.find(channel, self.engine.market)
        inst = found.inst if found is not None else ""
        if self.take("refuse", channel, inst) is not None or found is None:
            self.error(20116, channel)
            return
        self._ack("addChannel", channel)
        self._begin(channel, found, binary)

    def _begin(self, channel: str, found: v1_channels.Found | None, binary: bool) -> None:
        # A user channel without a login is acknowledged and stays silent.
        if found is None or channel in self.connection.subscriptions:
            return
        user: User | None = None
        if found.private:
            if self.connection.login is None:
                return
            user = self.engine.users[self.connection.login]
        sub = self._make(channel, found, user)
        compressed = self.compressed or binary
        numbers = found.numbers or self.engine.settings.v1_numbers

        def wire(text: bytes) -> str | bytes:
            text = v1_channels.unquoted(text) if numbers else text
            text = text.replace(b'"binary":0', b'"binary":1', 1) if compressed else text
            return deflate(text) if compressed else text.decode()

        sub.wire = wire
        self.engine.attach(sub, self.connection, self.phase)
        self.engine.start(sub)

    def _make(self, channel: str, found: v1_channels.Found, user: User | None) -> Subscription:
        arg = {"channel": channel, "instId": found.inst, **found.options}
        more = () if user is None else (user,)
        sub: Subscription = found.serves(self.engine, channel, arg, *more)
        return sub

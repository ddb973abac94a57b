"""REST of okx-v5: what a streamer asks for, with the envelope, the error codes and the limits of the exchange."""

from __future__ import annotations

import hmac
import re
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import orjson
from aiohttp import web

from okstream.simulator import v5_account, v5_derived, v5_public
from okstream.simulator.account import User
from okstream.simulator.book import MarketBook
from okstream.simulator.candles import BARS, Bars, bar_start
from okstream.simulator.engine import Engine
from okstream.simulator.v5 import sign

MESSAGES = {
    "50011": (429, "Too Many Requests"),
    "50014": (400, "Parameter {0} can not be empty."),
    "50102": (401, "Timestamp request expired"),
    "50103": (401, "Request header OK-ACCESS-KEY can not be empty."),
    "50105": (401, "Request header OK-ACCESS-PASSPHRASE incorrect."),
    "50111": (401, "Invalid OK-ACCESS-KEY"),
    "50112": (401, "Invalid OK-ACCESS-TIMESTAMP"),
    "50113": (401, "Invalid Sign"),
    "51000": (400, "Parameter {0} error."),
    "51001": (200, "Instrument ID doesn't exist."),
}
PUBLIC = {
    "public/time": 10,
    "public/instruments": 20,
    "public/mark-price": 10,
    "public/funding-rate": 10,
    "public/open-interest": 20,
    "system/status": 1,
    "market/tickers": 20,
    "market/ticker": 20,
    "market/books": 40,
    "market/trades": 100,
    "market/history-trades": 20,
    "market/candles": 40,
    "market/history-candles": 20,
}
SIGNED = {
    "account/balance": 10,
    "account/positions": 10,
    "account/config": 5,
    "trade/orders-pending": 60,
    "trade/orders-history": 40,
    "trade/order": 60,
    "trade/fills": 60,
}


class Refused(Exception):
    """A request the exchange answers with an error code."""

    def __init__(self, code: str, word: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.word = word


class Rest:
    """The routes under /api/v5. Names of methods are the paths with "_" for "/" and "-"."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._recent: dict[tuple[str, str], deque[float]] = {}

    def routes(self) -> list[web.RouteDef]:
        asked = [web.get(f"/api/v5/{path}", self._route(path)) for path in (*PUBLIC, *SIGNED)]
        posted = ("trade/order", "trade/cancel-order")
        return asked + [web.post(f"/api/v5/{path}", self._route(path, "post_")) for path in posted]

    def _route(self, path: str, prefix: str = "") -> Callable[[web.Request], Any]:
        answer = getattr(self, prefix + path.replace("/", "_").replace("-", "_"))

        async def handle(request: web.Request) -> web.Response:
            self.engine.counters.rest += 1
            try:
                body = await request.text()
                self._limit(path, PUBLIC.get(path) or SIGNED.get(path) or 60, request)
                if prefix or path in SIGNED:
                    user = self._user(request, body)
                    asked = self._json(body) if prefix else dict(request.query)
                    data = answer(user, asked)
                else:
                    data = answer(dict(request.query))
            except Refused as refused:
                status, text = MESSAGES[refused.code]
                return _reply(refused.code, text.replace("{0}", refused.word), [], status)
            return _reply("0", "", data)

        return handle

    def _limit(self, path: str, limit: int, request: web.Request) -> None:
        if not self.engine.settings.rest_limits:
            return
        # system/status allows one in 5 s, everything else so many in 2 s.
        window, now = (5.0 if path == "system/status" else 2.0), self.engine.clock.now()
        recent = self._recent.setdefault((path, request.query.get("instId", "") if "public" in path else ""), deque())
        while recent and now - recent[0] >= window:
            recent.popleft()
        if len(recent) >= limit:
            raise Refused("50011")
        recent.append(now)

    def _json(self, body: str) -> dict[str, Any]:
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refused("51000", "body") from None
        if not isinstance(asked, dict):
            raise Refused("51000", "body")
        return asked

    def _user(self, request: web.Request, body: str) -> User:
        """The user whose signature the request carries."""
        headers = request.headers
        key, stamp = headers.get("OK-ACCESS-KEY", ""), headers.get("OK-ACCESS-TIMESTAMP", "")
        if not key:
            raise Refused("50103")
        user = next((u for u in self.engine.users.values() if u.account.key == key), None)
        if user is None:
            raise Refused("50111")
        if headers.get("OK-ACCESS-PASSPHRASE") != user.account.passphrase:
            raise Refused("50105")
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp):
            raise Refused("50112")
        age = self.engine.settings.login_age
        if age is not None and abs(datetime.fromisoformat(stamp).timestamp() - self.engine.clock.ms() / 1000) > age:
            raise Refused("50102")
        right = sign(user.account.secret, stamp + request.method + request.raw_path + body)
        if not hmac.compare_digest(right.encode(), headers.get("OK-ACCESS-SIGN", "").encode()):
            raise Refused("50113")
        return user

    # Arguments

    def _book(self, asked: dict[str, str]) -> MarketBook:
        inst = asked.get("instId", "")
        if not inst:
            raise Refused("50014", "instId")
        if inst not in self.engine.market.instruments:
            raise Refused("51001")
        return self.engine.market.book(inst, self.engine.clock.ms())

    def _of_type(self, asked: dict[str, str]) -> list[str]:
        every = self.engine.market.instruments.values()
        wanted = asked.get("instType", "")
        if not wanted:
            raise Refused("50014", "instType")
        if wanted not in ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "EVENTS"):
            raise Refused("51000", "instType")
        return [i.inst for i in every if i.type == wanted]

    @staticmethod
    def _number(asked: dict[str, str], name: str, default: int, most: int) -> int:
        given = asked.get(name, str(default))
        if not given.isdigit() or not 1 <= int(given) <= most:
            raise Refused("51000", name)
        return int(given)

    # Public data

    def public_time(self, _: dict[str, str]) -> list[Any]:
        return [{"ts": str(self.engine.clock.ms())}]

    def system_status(self, _: dict[str, str]) -> list[Any]:
        return [v5_derived.status_row(self.engine.market.start_ms)]

    def public_instruments(self, asked: dict[str, str]) -> list[Any]:
        market = self.engine.market
        found = [market.instruments[i] for i in self._of_type(asked)]
        if asked.get("instId"):
            found = [i for i in found if i.inst == asked["instId"]]
        family = asked.get("instFamily")
        return [v5_derived.instrument_row(i, market.start_ms) for i in found if family is None or i.family == family]

    def public_mark_price(self, asked: dict[str, str]) -> list[Any]:
        return [{**v5_derived.mark_price(self._book(asked)), "ts": str(self.engine.clock.ms())}]

    def public_open_interest(self, asked: dict[str, str]) -> list[Any]:
        row = v5_derived.open_interest(self._book(asked), self.engine.settings.seed)
        return [{**row, "ts": str(self.engine.clock.ms())}]

    def public_funding_rate(self, asked: dict[str, str]) -> list[Any]:
        now = self.engine.clock.ms()
        row = v5_derived.funding_rate(self._book(asked).instrument, self.engine.settings.seed, now)
        return [{**row, "ts": str(now)}]

    def market_ticker(self, asked: dict[str, str]) -> list[Any]:
        return [v5_public.ticker(self._book(asked))]

    def market_tickers(self, asked: dict[str, str]) -> list[Any]:
        market, now = self.engine.market, self.engine.clock.ms()
        # Only what already moves, and the hand-made ones: not hundreds of books for one question.
        names = [i for i in self._of_type(asked) if i in market.books or not i.startswith("SIM")]
        return [v5_public.ticker(market.book(i, now)) for i in names]

    def market_books(self, asked: dict[str, str]) -> list[Any]:
        book, size = self._book(asked), self._number(asked, "sz", 1, 400)
        inst = book.instrument
        sides = [
            [
                [inst.price(key * side.sign), inst.size(lots), "0", str(orders)]
                for key, (lots, orders) in side.window(size).items()
            ]
            for side in (book.asks, book.bids)
        ]
        return [{"asks": sides[0], "bids": sides[1], "ts": str(book.ts), "seqId": book.seq}]

    def market_trades(self, asked: dict[str, str]) -> list[Any]:
        book, limit = self._book(asked), self._number(asked, "limit", 100, 500)
        return list(islice(self._trades(book), limit))

    def market_history_trades(self, asked: dict[str, str]) -> list[Any]:
        book, limit = self._book(asked), self._number(asked, "limit", 100, 100)
        key = "ts" if asked.get("type") == "2" else "tradeId"
        after, before = int(asked.get("after") or 1 << 62), int(asked.get("before") or -1)
        return list(islice((row for row in self._trades(book) if before < int(row[key]) < after), limit))

    def _trades(self, book: MarketBook) -> Iterator[dict[str, str]]:
        """Single matches, newest first."""
        for trade in reversed(book.trades):
            for i in range(trade.count - 1, -1, -1):
                row = v5_public.trade_row(book.instrument, trade, trade.id - trade.count + 1 + i, trade.parts[i])
                yield {**row, "source": "0"}

    def market_candles(self, asked: dict[str, str]) -> list[Any]:
        book, limit = self._book(asked), self._number(asked, "limit", 100, 300)
        bar = asked.get("bar") or "1m"
        if bar not in BARS:
            raise Refused("51000", "bar")
        bars = Bars(book, bar)
        bars.roll(bar_start(bar, self.engine.clock.ms()))
        newest = bars.bars[-1].ts
        after, before = int(asked.get("after") or 1 << 62), int(asked.get("before") or -1)
        rows = [b.row(book.instrument, b.ts < newest) for b in reversed(bars.bars) if before < b.ts < after]
        return rows[:limit]

    market_history_candles = market_candles

    # A user's data

    def account_balance(self, user: User, asked: dict[str, str]) -> list[Any]:
        names = asked["ccy"].split(",") if asked.get("ccy") else list(user.cash)
        return [v5_account.account_row(user, names, self.engine.clock.ms())]

    def account_positions(self, user: User, asked: dict[str, str]) -> list[Any]:
        now = self.engine.clock.ms()
        rows = [v5_account.position_row(user, p, now) for p in user.positions.values() if p.lots]
        return _filtered(rows, asked)

    def account_config(self, user: User, _: dict[str, str]) -> list[Any]:
        row = {"uid": user.account.uid, "mainUid": user.account.uid, "acctLv": "2", "posMode": "net_mode"}
        return [{**row, "level": f"VIP{user.account.tier}", "label": user.account.name, "perm": "read_only,trade"}]

    def trade_orders_pending(self, user: User, asked: dict[str, str]) -> list[Any]:
        return self._orders(user, asked, True)

    def trade_orders_history(self, user: User, asked: dict[str, str]) -> list[Any]:
        return self._orders(user, asked, False)

    def _orders(self, user: User, asked: dict[str, str], open_: bool) -> list[Any]:
        limit = self._number(asked, "limit", 100, 100)
        after, before = int(asked.get("after") or 1 << 63), int(asked.get("before") or -1)
        found = [o for o in user.orders.values() if o.open == open_ and before < o.id < after]
        rows = [v5_account.order_row(o) for o in sorted(found, key=lambda o: -o.id)]
        return _filtered(rows, asked)[:limit]

    def trade_order(self, user: User, asked: dict[str, str]) -> list[Any]:
        for order in user.orders.values():
            if asked.get("ordId") == str(order.id) or (asked.get("clOrdId") or None) == order.client_id:
                return [v5_account.order_row(order)]
        raise Refused("51000", "ordId")

    def trade_fills(self, user: User, asked: dict[str, str]) -> list[Any]:
        limit = self._number(asked, "limit", 100, 100)
        rows = []
        for fill in reversed(user.fills):
            row = v5_account.order_row(fill)
            names = "instType instId tradeId ordId clOrdId tag fillPx fillSz side posSide execType".split()
            rows.append(
                {n: row[n] for n in names}
                | {"billId": str(fill.id + fill.trade_id), "subType": "1", "feeCcy": row["fillFeeCcy"]}
                | {"fee": row["fillFee"], "ts": row["uTime"], "fillTime": row["fillTime"]}
            )
        after, before = int(asked.get("after") or 1 << 63), int(asked.get("before") or -1)
        return _filtered([r for r in rows if before < int(r["billId"]) < after], asked)[:limit]

    def post_trade_order(self, user: User, asked: dict[str, Any]) -> list[Any]:
        inst = self.engine.market.instruments[self._book(asked).instrument.inst]
        side, kind = asked.get("side"), asked.get("ordType", "limit")
        if side not in ("buy", "sell"):
            raise Refused("51000", "side")
        if kind not in ("limit", "market", "post_only", "ioc"):
            raise Refused("51000", "ordType")
        lots = _units(asked.get("sz"), inst.size_places, "sz")
        price = 0 if kind == "market" else _units(asked.get("px"), inst.price_places, "px")
        order = user.place(inst.inst, side, kind, price, lots, str(asked.get("clOrdId", "")))
        head = {"ordId": str(order.id), "clOrdId": order.client_id, "tag": ""}
        return [{**head, "ts": str(order.created), "sCode": "0", "sMsg": "Order placed"}]

    def post_trade_cancel_order(self, user: User, asked: dict[str, Any]) -> list[Any]:
        given = str(asked.get("ordId", ""))
        done = given.isdigit() and user.cancel(int(given))
        message = "" if done else "Order cancellation failed as the order has been filled, canceled or does not exist."
        head = {"ordId": given, "clOrdId": "", "ts": str(self.engine.clock.ms())}
        return [{**head, "sCode": "0" if done else "51400", "sMsg": message}]


def _units(given: Any, places: int, name: str) -> int:
    """Decimal text as a whole number of ticks or lots."""
    if not re.fullmatch(r"\d{1,15}(\.\d+)?", str(given)):
        raise Refused("51000", name)
    whole, _, fraction = str(given).partition(".")
    if len(fraction.rstrip("0")) > places:
        raise Refused("51000", name)
    value = int(whole + fraction[:places].ljust(places, "0"))
    if value <= 0:
        raise Refused("51000", name)
    return value


def _filtered(rows: list[Any], asked: dict[str, str]) -> list[Any]:
    names = [n for n in ("instType", "instId", "ordId", "ordType", "state") if asked.get(n)]
    return [row for row in rows if all(row.get(n) == asked[n] for n in names)]


def _reply(code: str, message: str, data: list[Any], status: int = 200) -> web.Response:
    body = orjson.dumps({"code": code, "msg": message, "data": data})
    return web.Response(body=body, status=status, content_type="application/json")

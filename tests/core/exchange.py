"""A scripted OKX v5: messages as the exchange sends them, and one session that is spoken to without a socket."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any
from zlib import crc32

import orjson

from okstream.channels import Subscription, parse
from okstream.dialects import Dialect, Op, Refusal, load
from okstream.dialects.signing import Credentials
from okstream.encoding import encode
from okstream.feed import Delivery, Feed
from okstream.feed.source import Source
from okstream.records import AnyRecord, Gap, Status
from okstream.session import Session
from okstream.session.budget import Budget
from okstream.session.terms import Terms
from okstream.statements import Statements
from okstream.venues import V5_LIMITS, Limits

V5, V3, V1 = load("okx-v5"), load("okex-v3"), load("okex-v1")
STATEMENTS = Statements("t")
RECV = 1_700_000_000_000_000_000
CREDENTIALS = Credentials("985d5b66-57ce-40fb-b714-afc0b9787083", "22582BD0CFF14C41EDBF1AB98506286D", 'pa"ss wörd\\1')


def subscription(text: str) -> Subscription:
    (sub,) = parse(text, "main" if text.startswith(("orders", "fills", "account", "positions")) else None)
    return sub


def feed(text: str, *, dialect: Dialect = V5, parsed: bool = True, keeps: bool = False) -> Feed:
    return Feed(subscription(text), "okx", dialect, STATEMENTS, parsed=parsed, keeps=keeps)


def source(text: str, *, dialect: Dialect = V5, parsed: bool = True) -> Source:
    """One connection's part of a feed that has no other."""
    return feed(text, dialect=dialect, parsed=parsed).source()


def arg(text: str) -> dict[str, str]:
    """The exchange's own argument of a subscription."""
    (argument,) = orjson.loads(V5.request("subscribe", [subscription(text)], "1"))["args"]
    return dict(argument)


def push(text: str, *rows: Any, **more: Any) -> dict[str, Any]:
    return {"arg": arg(text), **more, "data": list(rows)}


def trade(number: int, *, count: int | None = 1, inst: str = "BTC-USDT") -> dict[str, Any]:
    ts = str(1000 + number % 10**15)
    row = {"instId": inst, "tradeId": str(number), "px": "1.0", "sz": "2", "side": "buy", "ts": ts}
    return row if count is None else {**row, "count": str(count)}


def trades(*numbers: int, inst: str = "BTC-USDT") -> dict[str, Any]:
    return push(f"trades:{inst}", *(trade(number, inst=inst) for number in numbers))


def book(
    action: str, prev: int, seq: int, *, inst: str = "BTC-USDT", price: str = "5", ts: int | None = None
) -> dict[str, Any]:
    stamp = str(seq * 100 if ts is None else ts)
    row = {"asks": [[price, "1", "0", "1"]], "bids": [], "ts": stamp, "checksum": 0}
    return push(f"book:{inst}", {**row, "prevSeqId": prev, "seqId": seq}, action=action)


def v3_book(action: str, second: int, bid: str = "", *, ms: int = 0, checksum: int | None = None) -> dict[str, Any]:
    """A book of v3 whose best bid is `bid` and whose only ask is 11; of an update only what is given."""
    bids = [[bid, "1", "0", "1"]] if bid else []
    asks = [["11", "1", "0", "1"]] if action == "partial" else []
    if checksum is None:
        checksum = checksum_of([bid], ["11"])
    row = {"instrument_id": "BTC-USDT", "asks": asks, "bids": bids, "checksum": checksum}
    row["timestamp"] = f"2020-01-01T00:00:{second:02d}.{ms:03d}Z"
    return {"table": "spot/depth", "action": action, "data": [row]}


def checksum_of(bids: Sequence[str | tuple[str, str]], asks: Sequence[str | tuple[str, str]]) -> int:
    """The checksum of levels, best first (without a size: of size 1), made here from the documented rule alone."""
    levels = [level for both in zip_longest(bids[:25], asks[:25]) for level in both if level]
    pairs = [(level, "1") if isinstance(level, str) else level for level in levels]
    number = crc32(":".join(f"{price}:{size}" for price, size in pairs).encode())
    return number - 2**32 if number >= 2**31 else number


def ticker(ts: int, last: str = "1", *, inst: str = "BTC-USDT") -> dict[str, Any]:
    names = "last lastSz bidPx bidSz askPx askSz open24h high24h low24h vol24h volCcy24h"
    return push(f"ticker:{inst}", {"instId": inst, "ts": str(ts), **dict.fromkeys(names.split(), last)})


def order(state: str = "live", **more: Any) -> dict[str, Any]:
    row = {"instId": "BTC-USDT", "ordId": "1", "side": "buy", "px": "10", "sz": "1", "uTime": "1000"}
    row |= {"ordType": "limit", "accFillSz": "0"}
    return push("orders:instType=ANY", {**row, "state": state, **more})


def v1_order(status: int, number: int = 1) -> list[dict[str, Any]]:
    """A push of the orders:BTC-USDT of v1; there is no time of the change in it."""
    row = {"symbol": "btc_usdt", "tradeAmount": "1", "createdDate": "1", "orderId": str(number), "averagePrice": "0"}
    row |= {"completedTradeAmount": "0", "tradeType": "buy", "status": str(status), "tradeUnitPrice": "1"}
    return v1(row, "ok_sub_spot_btc_usdt_order")


def v1(data: Any, channel: str) -> list[dict[str, Any]]:
    return [{"binary": 0, "channel": channel, "data": data}]


def v1_book(ts: int, bid: str = "9", inst: str = "btc_usdt", kind: str = "depth") -> list[dict[str, Any]]:
    return v1({"asks": [["11", "1"]], "bids": [[bid, "1"]], "timestamp": ts}, f"ok_sub_spot_{inst}_{kind}")


def ack(op: Op, text: str, number: str | None = None) -> dict[str, Any]:
    message = {"event": op, "arg": arg(text), "connId": "accb8e21"}
    return message if number is None else {"id": number, **message}


def error(code: str, text: str, number: str | None = None) -> dict[str, Any]:
    message = {"event": "error", "code": code, "msg": text, "connId": "accb8e21"}
    return message if number is None else {"id": number, **message}


LOGIN = {"event": "login", "code": "0", "msg": "", "connId": "accb8e21"}


class Call:
    """One connection: what the session says is read as requests, what the exchange says goes in as text frames."""

    def __init__(
        self,
        subs: Iterable[str] = (),
        *,
        feeds: dict[str, Feed] | None = None,
        credentials: Credentials | None = None,
        limits: Limits = V5_LIMITS,
        budget: Budget | None = None,
        raw: bool = False,
        parsed: bool = True,
        asks: bool = False,
        now: float = 0.0,
        dialect: Dialect = V5,
    ) -> None:
        self.dialect = dialect
        self.feeds = {} if feeds is None else feeds
        for text in subs:
            one = feed(text, dialect=dialect, parsed=parsed)
            self.feeds[one.traits.key] = one
        self.now = now
        budget = budget or Budget(limits.requests)
        terms = Terms(dialect, limits, budget, credentials, parsed=parsed, raw=raw)
        self.session = Session(terms, self.feeds, now, 1_700_000_000_000, asks=asks)

    def sent(self) -> list[Any]:
        """Everything that is to be sent now: requests as objects, a ping as text."""
        frames = self.session.to_send(self.now)
        return [frame.decode() if frame == self.dialect.ping() else orjson.loads(frame) for frame in frames]

    def hears(self, *messages: Any) -> list[Delivery]:
        frames = [message if isinstance(message, bytes) else orjson.dumps(message) for message in messages]
        return [got for frame in frames for got in self.session.receive(frame, False, self.now, self.wall)]

    def records(self, *messages: Any) -> list[AnyRecord]:
        return records(self.hears(*messages))

    def answers(self) -> list[Any]:
        """The acknowledgements of everything that is to be sent now."""
        return [answer for request in self.sent() for answer in _answers(self.dialect, request)]

    def accept(self) -> list[AnyRecord]:
        """Acknowledge all that is asked, until nothing is asked any more."""
        said: list[AnyRecord] = []
        while answers := self.answers():
            said += self.records(*answers)
        return said

    def outcomes(self) -> dict[str, Refusal | None]:
        settled, self.session.settled = self.session.settled, []
        return {str(feed.sub): refusal for feed, refusal in settled}

    @property
    def wall(self) -> int:
        """What the wall clock shows now, in ns."""
        return RECV + int(self.now * 1_000_000_000)

    def tick(self, seconds: float = 0.0) -> list[AnyRecord]:
        self.now += seconds
        return records(self.session.tick(self.now, self.wall))

    def wait(self, until: float) -> list[Any]:
        """Look at the clock whenever the session wants to, up to `until`; return what it sent meanwhile."""
        sent = self.sent()
        while self.now < until and self.session.ending is None:
            self.tick(min(self.session.deadline(self.now), until) - self.now)
            sent += self.sent()
        return sent


def _answers(dialect: Dialect, request: Any) -> list[Any]:
    if isinstance(request, str) or (isinstance(request, dict) and "login" in request.values()):
        return []
    if dialect is V5:
        return [{"id": request["id"], "event": request["op"], "arg": argument} for argument in request["args"]]
    if dialect is V3:
        return [{"event": request["op"], "channel": channel} for channel in request["args"]]
    asked = request if isinstance(request, list) else [request]
    return [v1({"result": True, "channel": one["channel"]}, one["event"]) for one in asked]


def records(deliveries: Iterable[Delivery]) -> list[AnyRecord]:
    return [record for delivery in deliveries for record in (*delivery.statements, *delivery.records)]


def words(said: Iterable[Any]) -> list[str]:
    """What was delivered, in short: `open malformed`, `closed malformed`, `live`, `trade`, `book update`..."""
    told = []
    for record in said:
        if isinstance(record, Gap):
            told.append(f"{record.state} {record.reason}")
        elif isinstance(record, Status):
            told.append(record.state)
        else:
            told.append(f"book {record.action}" if record.type == "book" else record.type)
    return told


def gaps(said: Iterable[Any]) -> list[Gap]:
    return [record for record in said if isinstance(record, Gap)]


class Consistent:
    """Holds what is delivered against what statements promise; call it with all deliveries in order."""

    def __init__(self) -> None:
        self.open: dict[Feed | None, Gap] = {}
        self.seen: set[str] = set()

    def __call__(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            closed = False
            for said in delivery.statements:
                encode(said)
                assert not (closed and isinstance(said, Gap) and said.state == "open"), "a record comes between"
                if isinstance(said, Gap) and said.state == "open":
                    assert delivery.feed not in self.open, "one gap at a time"
                    assert said.gap not in self.seen, "a gap has its own number"
                    self.seen.add(said.gap)
                    self.open[delivery.feed] = said
                elif isinstance(said, Gap):
                    opened = self.open.pop(delivery.feed)
                    assert (said.gap, said.reason, said.after) == (opened.gap, opened.reason, opened.after)
                    assert said.lost is None or said.lost >= 0
                    closed = True
            for record in delivery.records:
                encode(record)
            if delivery.records:
                assert delivery.feed not in self.open, "no data within a gap"

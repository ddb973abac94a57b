"""The public channels of okx-v5: what each pushes first and what later."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

from okstream.simulator.book import Level, MarketBook, Side, Trade, Window
from okstream.simulator.engine import Engine, Push, Subscription
from okstream.simulator.instruments import DAY_MS, Instrument, decimal_text

NEVER = -1


class V5Subscription(Subscription):
    """`arg` is echoed in every push as the client wrote it."""

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg["channel"], arg.get("instId", ""))
        self.arg = arg

    def payload(self, data: list[Any], **top: Any) -> dict[str, Any]:
        return {"arg": self.arg, **top, "data": data}


class BookSubscription(V5Subscription):
    """A subscription about one instrument's book."""

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        market = engine.market
        name = self.inst if self.inst in market.instruments else market.index(self.inst)
        assert name is not None, self.inst
        self.book: MarketBook = market.book(name, engine.clock.ms())
        self.version = NEVER

    def watched(self) -> Iterable[str]:
        return (self.book.instrument.inst,)

    @property
    def instrument(self) -> Instrument:
        return self.book.instrument

    def row(self, side: Side, key: int, level: Level | None) -> list[str]:
        price = self.price(key * side.sign)
        if level is None:
            return [price, "0", "0", "0"]
        return [price, self.instrument.size(level[0]), "0", str(level[1])]

    def price(self, ticks: int) -> str:
        """A price as this dialect writes it."""
        return self.instrument.price(ticks)

    def rows(self, side: Side, size: int) -> list[list[str]]:
        return [self.row(side, key, side.levels[key]) for key in side.keys[:size]]


class Books(BookSubscription):
    """
    Incremental books: a snapshot, then updates that keep exactly the best `depth` levels on the client.

    A level that leaves the window is deleted, one that moves in is sent, and a level placed and removed
    between two updates is deleted although the client never had it.
    """

    depth = 400
    rank = 3
    sequenced = incremental = True
    transients = True

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.sent: dict[int, Window] = {}
        self.seq = NEVER

    def first(self) -> Iterable[Push]:
        return self.snapshot()

    def snapshot(self) -> Iterable[Push]:
        book = self.book
        both = (book.asks, book.bids)
        self.sent = {s.sign: Window(s, self.depth) for s in both}
        sides = [[self.row(s, key, level) for key, level in self.sent[s.sign].levels.items()] for s in both]
        self.seq, self.version = book.seq, book.version
        yield "snapshot", self.message("snapshot", sides[0], sides[1], book.ts, NEVER), book.ts

    def poll(self) -> Iterable[Push]:
        book, now = self.book, self.engine.clock.now()
        if book.version != self.version:
            asks, bids = self._changes(book.asks), self._changes(book.bids)
            self.version = book.version
            if asks or bids:
                before, self.seq = self.seq, book.seq
                yield "update", self.message("update", asks, bids, book.ts, before), book.ts
                return
        if now - self.last_push >= self.engine.settings.keepalive:
            ts = self.engine.clock.ms()
            yield "keepalive", self.message("update", [], [], ts, self.seq), ts

    def _changes(self, side: Side) -> list[list[str]]:
        window = self.sent[side.sign]
        changed = window.move()
        if not self.transients:
            return [self.row(side, key, changed[key]) for key in sorted(changed)]
        for version, sign, key in reversed(self.book.removed):
            if version <= self.version:
                break
            if sign == side.sign and key < window.edge and key not in window.levels:
                changed.setdefault(key, None)
        return [self.row(side, key, changed[key]) for key in sorted(changed)]

    def message(
        self, action: str, asks: list[list[str]], bids: list[list[str]], ts: int, before: int
    ) -> dict[str, Any]:
        data: dict[str, Any] = {"asks": asks, "bids": bids, "ts": str(ts), "checksum": self.checksum()}
        data |= {"seqId": self.seq, "prevSeqId": before}
        return self.payload([data], action=action)

    def checksum(self) -> int:
        if self.engine.settings.checksum != "real":
            return 0
        return self.crc32()

    def crc32(self) -> int:
        return checksum(self.instrument, self.price, self.book.bids, self.book.asks)


def checksum(inst: Instrument, price: Callable[[int], str], bids: Side, asks: Side) -> int:
    """CRC-32, signed, of the 25 best of each side, alternating bid and ask, a missing side left out."""
    words = []
    best_bids, best_asks = bids.keys[:25], asks.keys[:25]
    for i in range(max(len(best_bids), len(best_asks))):
        if i < len(best_bids):
            words += [price(-best_bids[i]), inst.size(bids.levels[best_bids[i]][0])]
        if i < len(best_asks):
            words += [price(best_asks[i]), inst.size(asks.levels[best_asks[i]][0])]
    value = zlib.crc32(":".join(words).encode())
    return value - (1 << 32) if value >= 1 << 31 else value


class BooksTbt(Books):
    interval, rank = 0.01, 1


class Books50Tbt(Books):
    interval, rank = 0.01, 2
    depth = 50


class BooksRpi(Books):
    """Rows are price, whole quantity, quantity without retail price improvement, orders; no checksum."""

    rank = 4

    def row(self, side: Side, key: int, level: Level | None) -> list[str]:
        price = self.instrument.price(key * side.sign)
        if level is None:
            return [price, "0", "0", "0"]
        whole = level[0] + (level[0] // 8 if key % 3 == 0 else 0)
        return [price, self.instrument.size(whole), self.instrument.size(level[0]), str(level[1])]

    def message(
        self, action: str, asks: list[list[str]], bids: list[list[str]], ts: int, before: int
    ) -> dict[str, Any]:
        message = super().message(action, asks, bids, ts, before)
        del message["data"][0]["checksum"]
        return message


class Books5(BookSubscription):
    """The best levels whole whenever they changed, and again after a minute without a change."""

    depth = 5
    rank = 5

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.shown: tuple[list[list[str]], list[list[str]]] | None = None
        self.last: dict[str, Any] = {}

    def first(self) -> Iterable[Push]:
        return [("snapshot", payload, ts) for _, payload, ts in self.poll()]

    def poll(self) -> Iterable[Push]:
        book = self.book
        if book.version != self.version:
            self.version = book.version
            shown = self.rows(book.asks, self.depth), self.rows(book.bids, self.depth)
            if shown != self.shown:
                self.shown, self.last = shown, self.data(*shown)
                yield "push", self.payload([self.last]), book.ts
                return
        if self.engine.clock.now() - self.last_push >= self.engine.settings.keepalive:
            yield "keepalive", self.payload([self.last]), int(self.last["ts"])

    def data(self, asks: list[list[str]], bids: list[list[str]]) -> dict[str, Any]:
        ts, seq = str(self.book.ts), self.book.seq
        return {"asks": asks, "bids": bids, "instId": self.inst, "ts": ts, "seqId": seq}


class Bbo(Books5):
    depth = 1
    interval, rank = 0.01, 0

    def data(self, asks: list[list[str]], bids: list[list[str]]) -> dict[str, Any]:
        return {"asks": asks, "bids": bids, "ts": str(self.book.ts), "seqId": self.book.seq}


class Tickers(BookSubscription):
    """At once, then when a trade happened or the best bid or ask changed."""

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.shown: dict[str, str] = {}

    def first(self) -> Iterable[Push]:
        return [("cached", payload, ts) for _, payload, ts in self.poll()]

    def poll(self) -> Iterable[Push]:
        if self.book.version == self.version:
            return
        self.version = self.book.version
        row = ticker(self.book)
        ts = row.pop("ts")
        if row != self.shown:
            self.shown = row
            yield "push", self.payload([{**row, "ts": ts}]), int(ts)


def ticker(book: MarketBook) -> dict[str, str]:
    """One ticker row, the same on the stream and over REST."""
    inst, last = book.instrument, book.trades[-1]
    ask, bid = book.asks.keys[0], -book.bids.keys[0]
    return {
        "instType": inst.type,
        "instId": inst.inst,
        "last": inst.price(last.price),
        "lastSz": inst.size(last.lots),
        "askPx": inst.price(ask),
        "askSz": inst.size(book.asks.levels[ask][0]),
        "bidPx": inst.price(bid),
        "bidSz": inst.size(book.bids.levels[-bid][0]),
        "open24h": inst.price(book.open),
        "high24h": inst.price(book.high),
        "low24h": inst.price(book.low),
        "sodUtc0": inst.price(book.open + book.open // 200),
        "sodUtc8": inst.price(book.open - book.open // 300),
        "volCcy24h": decimal_text(book.turnover, inst.price_places + inst.size_places),
        "vol24h": inst.size(book.volume),
        "ts": str(book.ts),
    }


class Trades(BookSubscription):
    """One row for each taker order and price. The first push repeats the last trade there was."""

    interval = 0.01

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.count = self.book.trade_count

    def first(self) -> Iterable[Push]:
        for payload, ts in self.payloads(self.book.trades[-1]):
            yield "cached", payload, ts

    def poll(self) -> Iterable[Push]:
        if self.book.trade_count == self.count:
            return
        fresh = self.book.since(self.count)
        self.count = self.book.trade_count
        for trade in fresh:
            for payload, ts in self.payloads(trade):
                yield "push", payload, ts

    def payloads(self, trade: Trade) -> Iterable[tuple[dict[str, Any], int]]:
        row = trade_row(self.instrument, trade, trade.id, trade.lots) | {"instId": self.inst}
        yield self.payload([{**row, "count": str(trade.count), "source": "0", "seqId": trade.seq}]), trade.ts


class TradesAll(Trades):
    """One push for each single match."""

    def payloads(self, trade: Trade) -> Iterable[tuple[dict[str, Any], int]]:
        for i, lots in enumerate(trade.parts):
            row = trade_row(self.instrument, trade, trade.id - trade.count + 1 + i, lots)
            row["instId"] = self.inst or row["instId"]
            ts = row.pop("ts")
            yield self.payload([{**row, "source": "0", "ts": ts}]), trade.ts


class OptionTrades(TradesAll):
    """Option trades of one instrument, or of all of a family."""

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        every = engine.market.instruments.values()
        family = [i.inst for i in every if i.type == "OPTION" and i.family == arg.get("instFamily")]
        insts = [arg["instId"]] if arg.get("instId") else family
        super().__init__(engine, key, {**arg, "instId": insts[0]})
        self.arg, self.inst = arg, arg.get("instId", "")
        self.books = [engine.market.book(i, engine.clock.ms()) for i in insts]
        self.counts = [book.trade_count for book in self.books]

    def watched(self) -> Iterable[str]:
        return [book.instrument.inst for book in self.books]

    def poll(self) -> Iterable[Push]:
        for i, book in enumerate(self.books):
            fresh = book.since(self.counts[i])
            self.counts[i] = book.trade_count
            self.book = book  # whose instrument the rows are about
            for trade in fresh:
                for payload, ts in self.payloads(trade):
                    yield "push", payload, ts

    def payloads(self, trade: Trade) -> Iterable[tuple[dict[str, Any], int]]:
        inst = self.instrument
        for payload, ts in super().payloads(trade):
            row = payload["data"][0]
            del row["source"]
            row |= {"instFamily": inst.family, "optType": inst.option, "fillVol": "0.5066", "markPx": row["px"]}
            row |= {"fwdPx": f"{inst.strike}.5", "idxPx": inst.strike}
            yield payload, ts


def trade_row(inst: Instrument, trade: Trade, id: int, lots: int) -> dict[str, str]:
    return {
        "instId": inst.inst,
        "tradeId": str(id),
        "px": inst.price(trade.price),
        "sz": inst.size(lots),
        "side": trade.side,
        "ts": str(trade.ts),
    }


def day_start(ms: int, offset_hours: int = 0) -> int:
    shift = offset_hours * 3_600_000
    return (ms + shift) // DAY_MS * DAY_MS - shift

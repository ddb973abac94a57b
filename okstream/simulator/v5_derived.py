"""Public channels of okx-v5 that follow from books: prices, interest, funding, limits, and announcements."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from okstream.simulator.account import text
from okstream.simulator.book import MarketBook
from okstream.simulator.engine import Engine, Push
from okstream.simulator.instruments import Instrument, decimal_text
from okstream.simulator.market import drift
from okstream.simulator.v5_public import BookSubscription, V5Subscription

EIGHT_HOURS = 8 * 3_600_000
NO_REPEAT = float("inf")


class Quiet(V5Subscription):
    """A channel that is served, but where nothing ever happens in this simulation."""

    interval = 60.0

    def watched(self) -> Iterable[str]:
        return ()


class Derived(BookSubscription):
    """One row made of the book: at once, then when it changed, and at the latest after `repeat` seconds."""

    repeat = NO_REPEAT

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.shown: dict[str, Any] | None = None

    def first(self) -> Iterable[Push]:
        return [("cached", payload, ts) for _, payload, ts in self.poll()]

    def poll(self) -> Iterable[Push]:
        now = self.engine.clock.ms()
        row = self.state(now)
        if row != self.shown or self.engine.clock.now() - self.last_push >= self.repeat:
            self.shown = row
            yield "push", self.payload([{**row, "ts": str(now)}]), now

    def state(self, now: int) -> dict[str, Any]:
        raise NotImplementedError


class MarkPrice(Derived):
    interval, repeat = 0.2, 10.0

    def state(self, now: int) -> dict[str, Any]:
        return mark_price(self.book)


def mark_price(book: MarketBook) -> dict[str, Any]:
    inst = book.instrument
    return {"instType": inst.type, "instId": inst.inst, "markPx": inst.price(book.mid)}


class IndexTickers(Derived):
    """The index of a pair is the middle of its spot book; a USD index is that of the USDT pair."""

    repeat = 60.0

    def state(self, now: int) -> dict[str, Any]:
        book, price = self.book, self.book.instrument.price
        return {
            "instId": self.inst,
            "idxPx": price(book.mid),
            "high24h": price(book.high),
            "low24h": price(book.low),
            "open24h": price(book.open),
            "sodUtc0": price(book.open + book.open // 200),
            "sodUtc8": price(book.open - book.open // 300),
        }


class OpenInterest(Derived):
    interval = 3.0

    def state(self, now: int) -> dict[str, Any]:
        return open_interest(self.book, self.engine.settings.seed)


def open_interest(book: MarketBook, seed: int) -> dict[str, Any]:
    inst = book.instrument
    contracts = 2_000_000 + book.version * 3 + drift(seed, inst.inst, book.version // 50, 500)
    value = Decimal(inst.ct_val or "1") * contracts
    mid = Decimal(book.mid) / 10**inst.price_places
    coin, usd = (value / mid, value) if inst.settle != inst.quote else (value, value * mid)
    row = {"instType": inst.type, "instId": inst.inst, "oi": str(contracts)}
    return {**row, "oiCcy": text(round(coin, 8)), "oiUsd": text(round(usd, 8))}


class PriceLimit(Derived):
    interval = 0.2

    def state(self, now: int) -> dict[str, Any]:
        inst, mid = self.book.instrument, self.book.mid
        band = mid // 50
        row = {"instId": inst.inst, "buyLmt": inst.price(mid + band), "sellLmt": inst.price(mid - band)}
        return {"instType": inst.type, **row, "enabled": True}


class FundingRate(Derived):
    interval = repeat = 60.0

    def state(self, now: int) -> dict[str, Any]:
        return funding_rate(self.book.instrument, self.engine.settings.seed, now)


def funding_rate(inst: Instrument, seed: int, now: int) -> dict[str, Any]:
    slot = now // 60_000
    due = (now // EIGHT_HOURS + 1) * EIGHT_HOURS
    rate = decimal_text(100_000 + drift(seed, inst.inst, slot, 80_000), 9)
    settled = decimal_text(100_000 + drift(seed, inst.inst, now // EIGHT_HOURS, 80_000), 9)
    return {
        "instType": inst.type,
        "instId": inst.inst,
        "method": "current_period",
        "formulaType": "noRate",
        "fundingRate": rate,
        "nextFundingRate": "",
        "fundingTime": str(due),
        "nextFundingTime": str(due + EIGHT_HOURS),
        "minFundingRate": "-0.00375",
        "maxFundingRate": "0.00375",
        "interestRate": "",
        "impactValue": "",
        "settState": "settled",
        "settFundingRate": settled,
        "premium": decimal_text(drift(seed, inst.inst, slot + 1, 90_000), 9),
    }


class OptSummary(Derived):
    """All options of a family in each push."""

    interval = 1.0

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        every = engine.market.instruments.values()
        self.options = [i for i in every if i.type == "OPTION" and i.family == arg["instFamily"]]
        named = self.options[0].inst if self.options else "BTC-USDT"
        super().__init__(engine, key, {**arg, "instId": named})
        self.arg, self.inst = arg, ""

    def poll(self) -> Iterable[Push]:
        now = self.engine.clock.ms()
        slot = now // 5000
        if self.shown != {"slot": slot} and self.options:
            self.shown = {"slot": slot}
            yield "push", self.payload([self._greeks(i, slot, now) for i in self.options]), now

    def _greeks(self, inst: Instrument, slot: int, now: int) -> dict[str, str]:
        def number(name: str, middle: int, places: int) -> str:
            seed = self.engine.settings.seed
            return decimal_text(middle + drift(seed, inst.inst + name, slot, abs(middle) // 50 + 1), places)

        names = {"delta": 5_000, "gamma": 22_361, "vega": 10, "theta": -32, "deltaBS": 4_990, "gammaBS": 20}
        names |= {"vegaBS": 1_150, "thetaBS": -286, "lever": 84_654, "markVol": 36_755, "askVol": 38_000}
        names |= {"bidVol": 35_500, "volLv": 20_447, "fwdPx": 638_000_000}
        head = {"instType": inst.type, "instId": inst.inst, "uly": inst.family, "realVol": ""}
        return {**head, **{n: number(n, m, 4) for n, m in names.items()}, "ts": str(now)}


class Liquidations(V5Subscription):
    """Now and then somebody's position is liquidated; sampled, as on the exchange."""

    interval = 1.0

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        every = engine.market.instruments.values()
        self._insts = [i for i in every if i.type == arg["instType"]][:3]

    def watched(self) -> Iterable[str]:
        return (i.inst for i in self._insts)

    def poll(self) -> Iterable[Push]:
        engine = self.engine
        now, seed = engine.clock.ms(), engine.settings.seed
        if not self._insts or drift(seed, self.key, now // 1000, 100) > 100 * min(1, engine.settings.rate) - 40:
            return
        inst = self._insts[now // 1000 % len(self._insts)]
        book = engine.market.book(inst.inst, now)
        side = "buy" if drift(seed, inst.inst, now // 1000, 1) > 0 else "sell"
        price = book.asks.keys[0] if side == "buy" else -book.bids.keys[0]
        detail = {"bkLoss": "0", "bkPx": inst.price(price), "ccy": "", "side": side, "ts": str(now)}
        detail |= {"posSide": "short" if side == "buy" else "long", "sz": inst.size(1300)}
        row = {"details": [detail], "instFamily": inst.family, "instId": inst.inst, "instType": inst.type}
        yield "push", self.payload([{**row, "uly": inst.family}]), now


class Instruments(V5Subscription):
    """What was listed, has expired or was renamed; nothing at first."""

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any]) -> None:
        super().__init__(engine, key, arg)
        self.seen = len(engine.market.changes)

    def watched(self) -> Iterable[str]:
        return ()

    def poll(self) -> Iterable[Push]:
        market = self.engine.market
        fresh, self.seen = market.changes[self.seen :], len(market.changes)
        rows = [instrument_row(inst, market.start_ms) for inst in fresh if inst.type == self.arg["instType"]]
        if rows:
            yield "push", self.payload(rows), self.engine.clock.ms()


class Status(Quiet):
    def first(self) -> Iterable[Push]:
        row = status_row(self.engine.market.start_ms)
        yield "cached", self.payload([row]), int(row["ts"])


def status_row(start_ms: int) -> dict[str, str]:
    """The latest maintenance there was, over before this exchange was started."""
    hour = 3_600_000
    row = {"begin": str(start_ms - 2 * hour), "end": str(start_ms - hour), "href": "", "preOpenBegin": ""}
    row |= {"scheDesc": "", "serviceType": "0", "state": "completed", "system": "unified", "maintType": "1"}
    return row | {"env": "1", "title": "Simulated maintenance", "ts": str(start_ms - hour)}


def instrument_row(inst: Instrument, start_ms: int) -> dict[str, Any]:
    """One row of `public/instruments`."""
    blanks = "seriesId category auctionEndTime contTdSwTime preMktSwTime openType maxLmtAmt maxMktAmt stk".split()
    row: dict[str, Any] = dict.fromkeys(blanks, "")
    derivative = inst.derivative
    row |= {
        "instType": inst.type,
        "instId": inst.inst,
        "uly": inst.family,
        "groupId": "1",
        "instFamily": inst.family,
        "category": "1",
        "baseCcy": "" if derivative else inst.base,
        "quoteCcy": "" if derivative else inst.quote,
        "settleCcy": inst.settle,
        "ctVal": inst.ct_val,
        "ctMult": "1" if derivative else "",
        "ctValCcy": (inst.base if inst.settle == inst.quote else inst.quote) if derivative else "",
        "optType": inst.option,
        "stk": inst.strike,
        "listTime": str(inst.listed_ms or start_ms - 90 * 86_400_000),
        "expTime": str(inst.expiry_ms or ""),
        "lever": "10",
        "tickSz": decimal_text(1, inst.price_places),
        "lotSz": decimal_text(1, inst.size_places),
        "minSz": decimal_text(1, inst.size_places),
        "ctType": ("linear" if inst.settle == inst.quote else "inverse") if derivative else "",
        "alias": inst.alias,
        "state": inst.state,
        "ruleType": "normal",
        "futureSettlement": False,
        "tradeQuoteCcyList": [] if derivative else [inst.quote],
        "instIdCode": inst.code,
        "instCategory": "1",
        "upcChg": [],
    }
    sizes = ("maxLmtSz", "maxMktSz", "maxTwapSz", "maxIcebergSz", "maxTriggerSz", "maxStopSz")
    return row | dict.fromkeys(sizes, "9999999999")

"""The user channels of okx-v5, and the rows they share with REST."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from okstream.simulator.account import Order, Position, User, text
from okstream.simulator.engine import Engine, Push
from okstream.simulator.v5_public import V5Subscription

_ORDER_BLANKS = (
    "tgtCcy ccy tag pxUsd pxVol pxType fillPxVol fillPxUsd fillMarkVol fillFwdPx fillMarkPx fillIdxPx "
    "attachAlgoClOrdId tpTriggerPx tpTriggerPxType tpOrdPx slTriggerPx slTriggerPxType slOrdPx stpId source "
    "amendSource reqId amendResult quickMgnType algoClOrdId algoId rebateCcy outcome"
).split()
_POSITION_BLANKS = (
    "baseBorrowed baseInterest quoteBorrowed quoteInterest posCcy liqPx margin mgnRatio liab liabCcy optVal "
    "pendingCloseOrdLiabVal bizRefId bizRefType usdPx deltaBS deltaPA gammaBS gammaPA thetaBS thetaPA vegaBS "
    "vegaPA spotInUseAmt spotInUseCcy clSpotInUseAmt maxSpotInUseAmt hedgedPos nonSettleAvgPx settledPnl"
).split()


def order_row(order: Order) -> dict[str, Any]:
    """One row of `orders`, `orders-pending` and `orders-history`."""
    inst = order.instrument
    filled = order.fill_lots > 0
    row: dict[str, Any] = dict.fromkeys(_ORDER_BLANKS, "")
    row |= {
        "instType": inst.type,
        "instId": inst.inst,
        "ordId": str(order.id),
        "clOrdId": order.client_id,
        "px": "" if order.type == "market" else inst.price(order.price),
        "sz": inst.size(order.lots),
        "notionalUsd": text(Decimal(order.lots * order.price) / 10 ** (inst.size_places + inst.price_places)),
        "ordType": order.type,
        "side": order.side,
        "posSide": "net" if inst.derivative else "",
        "tdMode": "cross" if inst.derivative else "cash",
        "fillPx": inst.price(order.fill_price) if filled else "",
        "tradeId": str(order.trade_id) if filled else "",
        "fillSz": inst.size(order.fill_lots),
        "fillPnl": "0",
        "fillTime": str(order.fill_time) if filled else "",
        "fillFee": text(order.fill_fee) if filled else "0",
        "fillFeeCcy": order.fee_currency if filled else "",
        "execType": order.role,
        "accFillSz": inst.size(order.filled),
        "fillNotionalUsd": "",
        "avgPx": order.average() or "0",
        "state": order.state,
        "lever": "3" if inst.derivative else "0",
        "attachAlgoOrds": [],
        "linkedAlgoOrd": {"algoId": ""},
        "stpMode": "cancel_maker",
        "feeCcy": order.fee_currency,
        "fee": text(order.fee),
        "rebate": "0",
        "pnl": "0",
        "cancelSource": order.cancel_source,
        "category": "normal",
        "isTpLimit": "false",
        "uTime": str(order.updated),
        "cTime": str(order.created),
        "reduceOnly": "false",
        "lastPx": inst.price(order.fill_price or order.price),
        "code": "0",
        "msg": "",
        "tradeQuoteCcy": inst.quote,
    }
    return row


def fill_row(order: Order) -> dict[str, Any]:
    """One row of the `fills` channel."""
    inst = order.instrument
    return {
        "instId": inst.inst,
        "fillSz": inst.size(order.fill_lots),
        "fillPx": inst.price(order.fill_price),
        "side": order.side,
        "ts": str(order.fill_time),
        "ordId": str(order.id),
        "clOrdId": order.client_id if order.client_id.isdigit() else "0",
        "tradeId": str(order.trade_id),
        "execType": order.role,
        "count": str(order.matches),
    }


def balance_detail(user: User, ccy: str) -> dict[str, Any]:
    cash, frozen = user.cash.get(ccy, Decimal(0)), user.frozen(ccy)
    whole, free = text(cash), text(cash - frozen)
    zeros = "isoEq fixedBal liab upl uplLiab crossLiab isoLiab rewardBal interest twap maxLoan borrowFroz stgyEq isoUpl spotIsoBal smtSyncEq spotCopyTradingEq".split()  # fmt: skip # noqa: E501
    blanks = "mgnRatio imr mmr notionalLever spotInUseAmt clSpotInUseAmt maxSpotInUseAmt spotBal openAvgPx accAvgPx spotUpl spotUplRatio totalPnl totalPnlRatio".split()  # fmt: skip # noqa: E501
    row: dict[str, Any] = dict.fromkeys(zeros, "0") | dict.fromkeys(blanks, "")
    row |= {"ccy": ccy, "eq": whole, "cashBal": whole, "availEq": free, "availBal": free, "disEq": whole}
    row |= {"frozenBal": text(frozen), "ordFrozen": text(frozen), "eqUsd": whole, "coinUsdPrice": "1"}
    row |= {"uTime": str(user.changed.get(ccy, user.market.start_ms)), "frpType": "0", "colRes": "0"}
    row |= {"collateralEnabled": False, "collateralRestrict": False, "colBorrAutoConversion": "0"}
    row |= {"autoLendStatus": "off", "autoLendMtAmt": "0"}
    return row


def account_row(user: User, currencies: Iterable[str], now_ms: int) -> dict[str, Any]:
    """The account with the details of some currencies."""
    zeros = "isoEq ordFroz imr mmr borrowFroz notionalUsd notionalUsdForBorrow notionalUsdForSwap notionalUsdForFutures notionalUsdForOption upl delta deltaLever deltaNeutralStatus".split()  # fmt: skip # noqa: E501
    total = text(sum(user.cash.values(), Decimal(0)))
    row: dict[str, Any] = dict.fromkeys(zeros, "0")
    row |= {"uTime": str(now_ms), "totalEq": total, "adjEq": total, "availEq": total, "mgnRatio": ""}
    row["details"] = [balance_detail(user, ccy) for ccy in currencies]
    return row


def position_row(user: User, position: Position, now_ms: int) -> dict[str, Any]:
    inst = position.instrument
    book = user.market.book(inst.inst, now_ms)
    mid, last = inst.price(book.mid), inst.price(book.trades[-1].price)
    value = Decimal(inst.ct_val or "1") / 10**inst.size_places
    upl = text((Decimal(mid) - position.average) * position.lots * value)
    row: dict[str, Any] = dict.fromkeys(_POSITION_BLANKS, "")
    row |= {
        "instType": inst.type,
        "instId": inst.inst,
        "mgnMode": "cross",
        "posId": str(position.id),
        "posSide": "net",
        "pos": inst.size(position.lots),
        "availPos": inst.size(abs(position.lots)),
        "avgPx": text(position.average) if position.lots else "",
        "upl": upl,
        "uplRatio": "0",
        "uplLastPx": upl,
        "uplRatioLastPx": "0",
        "lever": "3",
        "markPx": mid,
        "imr": "0",
        "mmr": "0",
        "interest": "0",
        "tradeId": str(position.trade_id),
        "notionalUsd": text(abs(Decimal(mid) * position.lots * value)),
        "adl": "1",
        "ccy": inst.settle,
        "last": last,
        "idxPx": mid,
        "bePx": text(position.average),
        "realizedPnl": text(position.realized + position.fee),
        "pnl": text(position.realized),
        "fee": text(position.fee),
        "fundingFee": "0",
        "liqPenalty": "0",
        "closeOrderAlgo": [],
        "cTime": str(position.created),
        "uTime": str(position.updated),
        "pTime": str(now_ms),
    }
    return row


class UserSubscription(V5Subscription):
    """A user channel. Pushed frames carry the user's id in `arg`."""

    interval = 0.05

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any], user: User) -> None:
        super().__init__(engine, key, arg)
        self.user = user
        self.arg = {**arg, "uid": user.account.uid}
        self.waiting: list[Any] = []
        user.listeners.append(self.hear)
        user.watch()

    def finished(self) -> None:
        self.user.listeners.remove(self.hear)
        self.user.unwatch()

    def watched(self) -> Iterable[str]:
        return ()

    def hear(self, what: str, item: Any) -> None:
        """Called by the user's account with everything that happens to it."""

    def wanted(self, type: str, family: str, inst: str) -> bool:
        arg = self.arg
        return (
            arg.get("instType", "ANY") in ("ANY", type)
            and arg.get("instFamily", family) == family
            and arg.get("instId", inst) == inst
        )

    def drain(self) -> list[Any]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def now_ms(self) -> int:
        return self.user.now()


class Orders(UserSubscription):
    interval = 0.01

    def hear(self, what: str, item: Any) -> None:
        if what == "order":
            inst = item.instrument
            if self.wanted(inst.type, inst.family, inst.inst):
                self.waiting.append(order_row(item))

    def poll(self) -> Iterable[Push]:
        for row in self.drain():
            yield "push", self.payload([row]), int(row["uTime"])


class Fills(UserSubscription):
    interval = 0.01

    def hear(self, what: str, item: Any) -> None:
        if what == "fill" and self.wanted(item.instrument.type, item.instrument.family, item.instrument.inst):
            self.waiting.append(fill_row(item))

    def poll(self) -> Iterable[Push]:
        for row in self.drain():
            yield "push", self.payload([row]), int(row["ts"])


class _State(UserSubscription):
    """Snapshot at once, events soon, and the snapshot again every 5 s unless `updateInterval` says 0."""

    name = ""

    def __init__(self, engine: Engine, key: str, arg: dict[str, Any], user: User) -> None:
        super().__init__(engine, key, arg, user)
        self.again = 0.0 if '"0"' in str(arg.get("extraParams", "")) else 5.0
        self.due = engine.clock.now() + self.again

    def first(self) -> Iterable[Push]:
        now = self.now_ms()
        yield "snapshot", self.message("snapshot", self.rows(None, now)), now

    def message(self, event: str, rows: list[Any]) -> dict[str, Any]:
        paging = {"curPage": 1, "lastPage": True} if event == "snapshot" else {}
        return self.payload(rows, eventType=event, **paging)

    def hear(self, what: str, item: Any) -> None:
        if what == self.name:
            self.waiting += [i for i in item if i not in self.waiting]

    def poll(self) -> Iterable[Push]:
        if self.waiting:
            now = self.now_ms()
            rows = self.rows(self.drain(), now)
            if rows:
                yield "push", self.message("event_update", rows), now
        if self.again and self.engine.clock.now() >= self.due:
            self.due += self.again
            now = self.now_ms()
            yield "snapshot", self.message("snapshot", self.rows(None, now)), now

    def rows(self, only: list[str] | None, now: int) -> list[Any]:
        raise NotImplementedError


class AccountState(_State):
    name = "balance"

    def rows(self, only: list[str] | None, now: int) -> list[Any]:
        names = [ccy for ccy, amount in self.user.cash.items() if amount] if only is None else only
        names = [ccy for ccy in names if self.arg.get("ccy", ccy) == ccy]
        return [account_row(self.user, names, now)] if names or only is None else []


class PositionState(_State):
    name = "position"

    def rows(self, only: list[str] | None, now: int) -> list[Any]:
        wanted = [p for p in self.user.positions.values() if (p.lots if only is None else p.instrument.inst in only)]
        return [
            position_row(self.user, p, now)
            for p in wanted
            if self.wanted(p.instrument.type, p.instrument.family, p.instrument.inst)
        ]


class BalanceAndPosition(UserSubscription):
    """Balances and positions in one message: a snapshot, then only what fills change."""

    def first(self) -> Iterable[Push]:
        user, now = self.user, self.now_ms()
        held = [p.instrument.inst for p in user.positions.values() if p.lots]
        yield "snapshot", self.message("snapshot", list(user.cash), held, [], now), now

    def hear(self, what: str, item: Any) -> None:
        if what in ("balance", "position", "fill"):
            self.waiting.append((what, item))

    def poll(self) -> Iterable[Push]:
        waiting = self.drain()
        if not waiting:
            return
        now = self.now_ms()
        found: dict[str, dict[str, None]] = {"balance": {}, "position": {}}
        trades = []
        for what, item in waiting:
            if what == "fill":
                trades.append({"instId": item.instrument.inst, "tradeId": str(item.trade_id)})
            else:
                found[what].update(dict.fromkeys(item))
        yield "push", self.message("filled", list(found["balance"]), list(found["position"]), trades, now), now

    def message(
        self, event: str, currencies: list[str], insts: list[str], trades: list[Any], now: int
    ) -> dict[str, Any]:
        user = self.user
        balances = [
            {"ccy": c, "cashBal": text(user.cash[c]), "uTime": str(user.changed.get(c, now))} for c in currencies
        ]
        names = "posId tradeId instId instType mgnMode avgPx ccy posSide pos posCcy nonSettleAvgPx settledPnl uTime"
        rows = [position_row(user, user.positions[i], now) for i in insts]
        positions = [{name: row[name] for name in names.split()} for row in rows]
        return self.payload(
            [{"pTime": str(now), "eventType": event, "balData": balances, "posData": positions, "trades": trades}]
        )

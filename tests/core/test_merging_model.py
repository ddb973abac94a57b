"""
Two connections and one exchange that is a plain dictionary: random changes, random faults, one subscription each.

Whatever happens, a book that says it is live is the exchange's at that place, every trade and order comes once and in
order or lies inside a gap, and nothing is a gap that one connection brought whole.
"""

from collections import deque
from typing import Any

import orjson
from exchange import STATEMENTS, V3, V5, Call, Consistent, arg, checksum_of, order, push, trades
from hypothesis import example, given, settings
from hypothesis import strategies as st

from okstream.dialects import Dialect
from okstream.feed import Delivery, Feed
from okstream.records import Book, Gap, Order, Trade
from okstream.venues import V3_LIMITS, V5_LIMITS

BOOK, TRADES, ORDERS = "book:BTC-USDT", "trades:BTC-USDT", "orders:instType=ANY"
_2020 = 1_577_836_800_000
Side = dict[str, str]
Sides = tuple[Side, Side]


class Exchange:
    """What happened, and what the book was after each change; `seq` of different times are never equal."""

    def __init__(self) -> None:
        self.sides: Sides = ({"9": "1"}, {"11": "1"})
        self.sums = False
        self.number, self.resets = 10, 0
        self.clock = 0
        self.touched: list[tuple[int, str]] = []
        self.states: dict[int, Sides] = {}
        self.trades: list[int] = [100]
        self.orders: list[int] = []
        self._note()

    @property
    def seq(self) -> int:
        return self.number * 100 + self.resets

    def change(self, side: int, level: int, size: int) -> None:
        """Set a level, or remove it (size 0)."""
        price = str(9 - level) if side == 0 else str(11 + level)
        sides = (dict(self.sides[0]), dict(self.sides[1]))
        if size:
            sides[side][price] = str(size)
        else:
            sides[side].pop(price, None)
        self.sides = sides
        self.touched.append((side, price))
        self.number += 1 + level
        self._note()

    def reset(self) -> None:
        """Number anew, after a pause as maintenance takes."""
        self.number, self.resets = 5, self.resets + 1
        self.clock += 60_000
        self._note()

    def _note(self) -> None:
        self.clock += 1
        self.states[self.seq] = self.sides


def rows(sides: Sides, named: list[tuple[int, str]]) -> list[list[list[str]]]:
    """What the levels `named` are now: all that were touched, also those that came back to what they were."""
    found: list[list[list[str]]] = [[], []]
    for side, price in dict.fromkeys(named):
        size = sides[side].get(price)
        found[side].append([price, size, "0", "1"] if size else [price, "0", "0", "0"])
    return found


class Wire:
    """One connection: what the exchange pushes over it waits in `queue` until it arrives."""

    def __init__(self, exchange: Exchange, feeds: dict[str, Feed], dialect: Dialect, now: float) -> None:
        self.exchange = exchange
        limits = V5_LIMITS if dialect is V5 else V3_LIMITS
        self.call = Call(feeds=feeds, now=now, dialect=dialect, limits=limits)
        self.dialect = dialect
        self.queue: deque[tuple[float, bytes]] = deque()
        self.served: set[str] = set()
        self.seq, self.named = 0, 0
        self.gone = False

    def pushes(self, message: Any) -> None:
        self.queue.append((self.call.now, orjson.dumps(message)))

    def answer(self) -> None:
        """The exchange takes what the session asks, and does it."""
        for request in self.call.sent():
            if request == "ping":
                self.queue.append((self.call.now, b"pong"))
                continue
            for argument in request["args"]:
                self._do(request, argument)

    def _do(self, request: Any, argument: Any) -> None:
        if self.dialect is V3:
            self.pushes({"event": request["op"], "channel": argument})
            name = BOOK
        else:
            self.pushes({"id": request["id"], "event": request["op"], "arg": argument})
            (name,) = [text for text in (BOOK, TRADES, ORDERS) if arg(text) == argument]
        if request["op"] == "unsubscribe":
            self.served.discard(name)
            return
        self.served.add(name)
        if name == BOOK:
            self.seq = -1
            self.cut("snapshot")
        elif name == TRADES:
            self.pushes(trades(self.exchange.trades[-1]))

    def cut(self, action: str = "update") -> None:
        """Push what changed in the book since the last time."""
        exchange = self.exchange
        if BOOK not in self.served:
            return
        held = [(side, price) for side in (0, 1) for price in exchange.sides[side]]
        bids, asks = rows(exchange.sides, held if action == "snapshot" else exchange.touched[self.named :])
        if self.dialect is V3:
            best = sorted(exchange.sides[0], key=int, reverse=True), sorted(exchange.sides[1], key=int)
            self.pushes(v3(action, bids, asks, exchange.clock, checksum(exchange.sides, *best)))
        else:
            best = sorted(exchange.sides[0], key=int, reverse=True), sorted(exchange.sides[1], key=int)
            crc = checksum(exchange.sides, *best) if exchange.sums else 0
            row = {"asks": asks, "bids": bids, "ts": str(exchange.clock), "checksum": crc}
            self.pushes(push(BOOK, {**row, "prevSeqId": self.seq, "seqId": exchange.seq}, action=action))
        self.seq, self.named = exchange.seq, len(exchange.touched)

    def happened(self, name: str, message: Any) -> None:
        if name in self.served:
            self.pushes(message)


def v3(action: str, bids: Any, asks: Any, clock: int, crc: int) -> dict[str, Any]:
    stamp = f"2020-01-01T00:00:{clock // 1000:02d}.{clock % 1000:03d}Z"
    row = {"instrument_id": "BTC-USDT", "asks": asks, "bids": bids, "timestamp": stamp, "checksum": crc}
    return {"table": "spot/depth", "action": action.replace("snapshot", "partial"), "data": [row]}


def checksum(sides: Sides, bids: list[str], asks: list[str]) -> int:
    texts = [[(price, side[price]) for price in best] for side, best in zip(sides, (bids, asks), strict=True)]
    return checksum_of(*texts)


class World:
    """
    One exchange, two connections, and a consumer who believes what he is told.

    Args:
        faithful: whether the first connection has no faults and is never late, so that nothing can be missing.
        sums: whether numbered books have checksums, too.
    """

    def __init__(self, dialect: Dialect = V5, faithful: bool = False, sums: bool = False) -> None:
        subs = (BOOK,) if dialect is V3 else (BOOK, TRADES, ORDERS)
        self.dialect, self.faithful = dialect, faithful
        self.exchange = Exchange()
        self.exchange.sums = sums
        started = Call(subs, dialect=dialect)
        self.feeds = {key: Feed(one.sub, "okx", dialect, STATEMENTS, keeps=True) for key, one in started.feeds.items()}
        self.now = 0.0
        self.late = 0.0
        self.wires = [Wire(self.exchange, self.feeds, dialect, 0.0) for _ in range(2)]
        self.check = Consistent()
        self.said: list[Gap] = []
        self.book: Sides | None = None
        self.at: int | None = None
        self.trades: list[int | Gap] = []
        self.orders: list[int | Gap] = []
        for wire in self.wires:
            self.let_in(wire)

    # -- what happens

    def let_in(self, wire: Wire) -> None:
        wire.answer()
        if wire is self.wires[0] and self.faithful:
            self.arrive(wire, len(wire.queue))

    def change(self, side: int, level: int, size: int, cut: tuple[bool, bool] = (False, False)) -> None:
        self.exchange.change(side, level, size)
        self.cut(*cut)

    def reset(self) -> None:
        """Everything before it is pushed before it."""
        self.cut(True, True)
        self.exchange.reset()
        self.cut(True, True)

    def cut(self, *which: bool) -> None:
        for wire, chosen in zip(self.wires, which, strict=True):
            if chosen:
                wire.cut()

    def trade(self) -> None:
        self.exchange.trades.append(self.exchange.trades[-1] + 1)
        for wire in self.wires:
            wire.happened(TRADES, trades(self.exchange.trades[-1]))

    def order(self) -> None:
        self.exchange.orders.append(len(self.exchange.orders))
        number = self.exchange.orders[-1]
        for wire in self.wires:
            wire.happened(ORDERS, order(ordId=str(number), uTime=str(1000 + number)))

    def arrive(self, wire: Wire, count: int) -> None:
        for _ in range(min(count, len(wire.queue))):
            _, frame = wire.queue.popleft()
            self.takes(wire.call.session.receive(frame, False, self.now, wire.call.wall))
            wire.answer()

    def passes(self, seconds: float) -> None:
        self.late += seconds
        if self.faithful and self.late > 0.5:
            self.cut(True, False)
            self.arrive(self.wires[0], len(self.wires[0].queue))
            self.late = 0.0
        self.now += seconds
        for wire in self.wires:
            wire.call.now = self.now
            if wire.gone:
                continue
            self.takes(wire.call.session.tick(self.now, wire.call.wall))
            wire.answer()

    def fault(self, kind: str, which: int, place: int) -> None:
        """Something goes wrong with a connection, or with one message on its way."""
        wire = self.wires[which]
        if which == 0 and self.faithful:
            return
        if kind == "lose":
            self.reconnect(wire)
        elif kind == "leave" and not wire.gone:
            self.takes(wire.call.session.closed(wire.call.wall))
            wire.queue.clear()
            wire.served.clear()
            wire.gone = True
        elif wire.queue:
            place %= len(wire.queue)
            at, frame = wire.queue[place]
            book = b'"channel":"books"' in frame or b"spot/depth" in frame
            tells = b'"data"' in frame and (book or b'"channel":"trades"' in frame)
            if kind == "garble":
                wire.queue[place] = (at, b"{")
            elif kind == "drop" and tells:
                del wire.queue[place]
            elif kind == "double" and tells:
                wire.queue.insert(place, (at, frame))

    def reconnect(self, wire: Wire) -> None:
        self.takes(wire.call.session.closed(wire.call.wall))
        which = self.wires.index(wire)
        self.wires[which] = Wire(self.exchange, self.feeds, self.dialect, self.now)
        self.let_in(self.wires[which])

    def settle(self) -> None:
        """The faults have ended: in the end all is as at the exchange."""
        for number in range(250):
            self.change(0, number % 3, 1 + number % 5)
            self.cut(True, True)
            if self.dialect is V5:
                self.trade()
                self.order()
            for wire in list(self.wires):
                self.arrive(wire, 1000)
                if wire.gone or wire.call.session.ending or wire.call.session.leaving:
                    self.reconnect(wire)
            self.passes(0.9)
            if self.settled:
                return
        raise AssertionError({str(feed.sub): (feed.state, feed.gap) for feed in self.feeds.values()})

    @property
    def settled(self) -> bool:
        if any(feed.state != "live" or feed.gap is not None for feed in self.feeds.values()):
            return False
        if self.dialect is V3:
            return self.at == _2020 + self.exchange.clock
        last = (self.trades[-1:], self.orders[-1:])
        return self.at == self.exchange.seq and last == (self.exchange.trades[-1:], self.exchange.orders[-1:])

    # -- what the consumer sees

    def takes(self, deliveries: list[Delivery]) -> None:
        self.check(deliveries)
        for delivery in deliveries:
            for said in delivery.statements:
                if isinstance(said, Gap):
                    self.gap(said)
            for record in delivery.records:
                if isinstance(record, Book):
                    self.apply(record)
                elif isinstance(record, Trade):
                    self.trades.append(int(record.id))
                elif isinstance(record, Order):
                    self.orders.append(int(record.id))
        self.look()

    def gap(self, said: Gap) -> None:
        assert not self.faithful, "one connection brought everything"
        self.said.append(said)
        if said.channel == "book":
            self.book = None
        elif said.state == "closed":
            (self.trades if said.channel == "trades" else self.orders).append(said)

    def apply(self, record: Book) -> None:
        if record.action == "snapshot":
            self.book = ({}, {})
        else:
            assert self.book is not None, "a change of no book"
            assert record.prev == (None if self.dialect is V3 else self.at), "a change of another book"
        for side, changes in zip(self.book, (record.bids, record.asks), strict=True):
            for price, size, *_ in changes:
                side.pop(price, None)
                if size != "0":
                    side[price] = size
        self.at = record.seq if self.dialect is V5 else record.ts
        if self.dialect is V5:
            assert self.book == self.exchange.states[record.seq or 0]
        else:
            crc = checksum(self.book, sorted(self.book[0], key=int, reverse=True), sorted(self.book[1], key=int))
            assert record.checksum == crc

    def look(self) -> None:
        """A live book is what was delivered."""
        (feed,) = [feed for feed in self.feeds.values() if feed.sub.channel == "book"]
        if feed.state != "live" or feed.gap is not None:
            assert feed.levels is None
        elif self.book is not None:
            levels = feed.levels
            if levels is None:
                assert self.dialect is V3, "only these are the leader's own, who may have to catch up"
                assert feed.leader is None or feed.leader.joining
                return
            bids, asks = levels.top()
            assert ({row[0]: row[1] for row in bids}, {row[0]: row[1] for row in asks}) == self.book

    def whole(self) -> None:
        """Every trade and order came once and in order, or lies inside a gap."""
        numbers = [one for one in self.trades if isinstance(one, int)]
        assert numbers == sorted(set(numbers))
        for before, one, after in zip(self.trades, self.trades[1:], self.trades[2:], strict=False):
            if isinstance(one, Gap) and isinstance(before, int) and isinstance(after, int):
                # What is repeated after a loss may show that nothing was lost.
                until = after if one.until == str(after) else before
                assert (one.after, one.until) == (str(before), str(until))
                assert one.lost in (None, max(0, until - before - 1))
                assert until == after or after == before + 1
            elif isinstance(before, int) and isinstance(one, int):
                assert one == before + 1
        seen = [one for one in self.orders if isinstance(one, int)]
        assert len(seen) == len(set(seen))
        if self.faithful and self.dialect is V5:
            assert seen == self.exchange.orders
            assert numbers == self.exchange.trades


EITHER = st.integers(0, 1)
CUT = st.sampled_from([(True, True), (True, False), (False, True), (False, False)])
CHANGE = st.tuples(st.just("change"), EITHER, st.integers(0, 3), st.integers(0, 3), CUT)
HAPPENS = st.sampled_from([("trade",), ("order",), ("trade",), ("cut", True, True), ("reset",)])
ARRIVE = st.tuples(st.just("arrive"), EITHER, st.integers(1, 6))
PASSES = st.tuples(st.just("passes"), st.sampled_from([0.1, 0.6, 1.1, 3.1]))
LOSE = st.tuples(st.just("fault"), st.just("lose"), EITHER, st.just(0))
LEAVE = st.tuples(st.just("fault"), st.just("leave"), EITHER, st.just(0))
FAULT = st.tuples(st.just("fault"), st.sampled_from(["garble", "drop", "double"]), EITHER, st.integers(0, 9))
STEPS = st.lists(
    st.one_of(CHANGE, CHANGE, CHANGE, HAPPENS, HAPPENS, ARRIVE, ARRIVE, ARRIVE, PASSES, LOSE, LEAVE, FAULT),
    min_size=25,
    max_size=60,
)
TOGETHER = [("arrive", 0, 9), ("arrive", 1, 9), ("passes", 3.1), ("passes", 3.1)]
"""Both connections bring everything, and have for a while."""


def lived(world: World, steps: list[Any], together: bool) -> World:
    for name, *values in [*TOGETHER, *steps] if together else steps:
        if name == "arrive":
            world.arrive(world.wires[values[0]], values[1])
        elif name in ("trade", "order") and world.dialect is V3:
            continue
        elif name != "reset" or world.dialect is V5:
            getattr(world, name)(*values)
    world.settle()
    world.whole()
    return world


@settings(max_examples=200)
@given(steps=STEPS, together=st.booleans())
def test_numbered_books_trades_and_orders_of_two_connections_with_faults(steps: list[Any], together: bool) -> None:
    lived(World(V5), steps, together)


@settings(max_examples=200)
@given(steps=STEPS, together=st.booleans())
def test_numbered_books_with_checksums_of_two_connections_with_faults(steps: list[Any], together: bool) -> None:
    lived(World(V5, sums=True), steps, together)


@settings(max_examples=200)
@given(steps=STEPS, together=st.booleans())
def test_nothing_is_a_gap_while_one_connection_brings_everything(steps: list[Any], together: bool) -> None:
    lived(World(V5, faithful=True), steps, together)


RETURN = [("arrive", 1, 2), ("change", 0, 0, 0), ("cut", True, True), ("arrive", 0, 3), ("passes", 1.1)]
"""The second leads, the first brings a change sooner and leads."""


@settings(max_examples=200)
@example(steps=[*RETURN, ("fault", "lose", 0, 0)], together=False)
@given(steps=STEPS, together=st.booleans())
def test_books_with_checksums_of_two_connections_with_faults(steps: list[Any], together: bool) -> None:
    lived(World(V3), steps, together)

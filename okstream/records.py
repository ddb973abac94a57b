"""
What is delivered: one record for one thing that happened.

docs/records.md is the schema, with units, nulls and source keys; a test holds it against this file.
Prices and sizes are the exchange's own text, `ts` is its clock in ms, `recv` ours in ns (both since the epoch,
UTC). Records are immutable by contract: several lanes share one.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_args

import orjson

SCHEMA = 1
"""Number of the schema in docs/records.md; grows when a key is added."""

Row = list[str]
"""One book level: price, size, then whatever else the venue put there."""


@dataclass(slots=True)
class Record:
    """The head that every record of a public channel begins with."""

    type: str = field(default="", init=False)
    venue: str
    channel: str
    inst: str | None
    ts: int | None
    recv: int


@dataclass(slots=True)
class UserRecord:
    """The same head for user channels: `account` is the configured name, never a key."""

    type: str = field(default="", init=False)
    venue: str
    channel: str
    inst: str | None
    account: str
    ts: int | None
    recv: int


@dataclass(slots=True)
class Ticker(Record):
    """Last trade, best bid and ask, and the last 24 hours."""

    type: str = field(default="ticker", init=False)
    last: str | None
    last_size: str | None
    bid: str | None
    bid_size: str | None
    ask: str | None
    ask_size: str | None
    open: str | None
    high: str | None
    low: str | None
    volume: str | None
    turnover: str | None
    open_utc0: str | None
    open_utc8: str | None
    origin: str | None = None


@dataclass(slots=True)
class Trade(Record):
    """One taker order's matches at one price; `id` is the last match's, `count` how many they are."""

    type: str = field(default="trade", init=False)
    id: str
    price: str
    size: str
    side: str | None
    count: int | None
    source: str | None = None
    seq: int | None = None
    origin: str | None = None


# Bids and asks may be JSON in `sides` until somebody looks at them, which few who pass a book on do.
class _Sided(Record):
    __slots__ = ("sides",)


@dataclass(slots=True)
class Book(_Sided):
    """`action` is `snapshot` (replaces) or `update` (rows replace levels; size 0 removes one)."""

    type: str = field(default="book", init=False)
    action: str
    bids: list[Row]
    asks: list[Row]
    seq: int | None
    prev: int | None
    checksum: int | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        self.sides: Any = None


def _late(slot: Any, side: int) -> property:
    def rows(book: Book) -> Any:
        try:
            return slot.__get__(book)
        except AttributeError:
            slot.__set__(book, orjson.loads(book.sides[side]))
            return slot.__get__(book)

    return property(rows, slot.__set__)


for _side, _name in enumerate(("bids", "asks")):
    setattr(Book, _name, _late(getattr(Book, _name), _side))


@dataclass(slots=True)
class Candle(Record):
    """One bar, as it stands; `ts` is the time it opens."""

    type: str = field(default="candle", init=False)
    open: str | None
    high: str | None
    low: str | None
    close: str | None
    volume: str | None
    turnover: str | None
    turnover_quote: str | None
    closed: bool | None
    origin: str | None = None


@dataclass(slots=True)
class Funding(Record):
    """The funding rate of a perpetual."""

    type: str = field(default="funding", init=False)
    rate: str | None
    funding_ts: int | None
    next_rate: str | None
    next_ts: int | None
    rate_min: str | None
    rate_max: str | None
    premium: str | None
    interest: str | None
    settled_rate: str | None
    settlement: str | None
    origin: str | None = None


@dataclass(slots=True)
class MarkPrice(Record):
    """The price that margins are computed with."""

    type: str = field(default="mark_price", init=False)
    price: str | None
    origin: str | None = None


@dataclass(slots=True)
class IndexPrice(Record):
    """An index, and its last 24 hours."""

    type: str = field(default="index_price", init=False)
    price: str | None
    open: str | None
    high: str | None
    low: str | None
    origin: str | None = None


@dataclass(slots=True)
class OpenInterest(Record):
    """What is held in contracts: as a count, in the base currency, in USD."""

    type: str = field(default="open_interest", init=False)
    contracts: str | None
    base: str | None
    usd: str | None
    origin: str | None = None


@dataclass(slots=True)
class Liquidation(Record):
    """One liquidation order; the exchange sends a sample of them, in no order of time."""

    type: str = field(default="liquidation", init=False)
    side: str | None
    position_side: str | None
    price: str | None
    size: str | None
    loss: str | None
    currency: str | None
    origin: str | None = None


@dataclass(slots=True)
class Instrument(Record):
    """What is traded, and what its sizes mean."""

    type: str = field(default="instrument", init=False)
    kind: str | None
    state: str | None
    base: str | None
    quote: str | None
    settle: str | None
    family: str | None
    contract_value: str | None
    contract_currency: str | None
    contract_type: str | None
    option_type: str | None
    strike: str | None
    tick_size: str | None
    lot_size: str | None
    min_size: str | None
    listed_ts: int | None
    expires_ts: int | None
    code: int | None
    origin: str | None = None


@dataclass(slots=True)
class Order(UserRecord):
    """One state of one order of ours."""

    type: str = field(default="order", init=False)
    id: str
    client_id: str | None
    side: str | None
    position_side: str | None
    kind: str | None
    price: str | None
    size: str | None
    state: str | None
    filled: str | None
    average: str | None
    trade_id: str | None
    fill_price: str | None
    fill_size: str | None
    fill_ts: int | None
    fee: str | None
    fee_currency: str | None
    created_ts: int | None
    extra: dict[str, Any]
    origin: str | None = None


@dataclass(slots=True)
class Fill(UserRecord):
    """One fill of one order of ours."""

    type: str = field(default="fill", init=False)
    id: str
    order_id: str
    client_id: str | None
    side: str | None
    price: str | None
    size: str | None
    liquidity: str | None
    count: int | None
    extra: dict[str, Any]
    origin: str | None = None


@dataclass(slots=True)
class Balance(UserRecord):
    """One currency of one account; `currency` null is the account as a whole."""

    type: str = field(default="balance", init=False)
    currency: str | None
    equity: str | None
    cash: str | None
    available: str | None
    frozen: str | None
    action: str | None
    page: int | None
    last_page: bool | None
    extra: dict[str, Any]
    origin: str | None = None


@dataclass(slots=True)
class Position(UserRecord):
    """One position of one account; size 0 is one that was closed."""

    type: str = field(default="position", init=False)
    id: str | None
    side: str | None
    size: str | None
    available: str | None
    average: str | None
    mark: str | None
    unrealized: str | None
    leverage: str | None
    margin_mode: str | None
    liquidation: str | None
    currency: str | None
    action: str | None
    page: int | None
    last_page: bool | None
    extra: dict[str, Any]
    origin: str | None = None


@dataclass(slots=True)
class Native:
    """A message of a channel that has no normalised form: whole, in `data`."""

    type: str = field(default="native", init=False)
    venue: str
    channel: str
    inst: str | None
    account: str | None
    ts: int | None
    recv: int
    data: Any
    origin: str | None = None


@dataclass(slots=True)
class Gap:
    """
    A statement of this process: between `after` and `until` (both delivered) something may be missing.

    Written as `open` the moment loss is possible and as `closed`, with the same `gap`, directly before
    delivery goes on. `after` and `until` are ids of trades or fills or sequence numbers of books, null where there
    is none: an order's id tells no position.
    """

    type: str = field(default="gap", init=False)
    venue: str
    channel: str
    inst: str | None
    account: str | None
    ts: int | None
    recv: int
    gap: str
    state: str
    reason: str
    after: str | int | None
    after_ts: int | None
    until: str | int | None
    until_ts: int | None
    lost: int | None


@dataclass(slots=True)
class Status:
    """A statement of this process: what has become of a subscription, a link, or the stream."""

    type: str = field(default="status", init=False)
    venue: str
    channel: str | None
    inst: str | None
    account: str | None
    ts: int | None
    recv: int
    state: str
    detail: Any

    STATES: ClassVar[tuple[str, ...]] = (
        "started", "connecting", "live", "void", "stale", "rotating", "disconnected", "refused", "failed", "ended",
    )  # fmt: skip


GAP_REASONS = ("start", "disconnected", "sequence", "checksum", "malformed", "stale", "refused", "overflow", "sink")
DataRecord = (
    Ticker | Trade | Book | Candle | Funding | MarkPrice | IndexPrice | OpenInterest | Liquidation | Instrument
    | Order | Fill | Balance | Position | Native
)  # fmt: skip
Statement = Gap | Status
AnyRecord = DataRecord | Statement
TYPES: dict[str, type[AnyRecord]] = {str(fields(kind)[0].default): kind for kind in get_args(AnyRecord)}

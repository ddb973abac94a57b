"""
What is traded on the simulated exchange.

Prices and sizes are integers inside: prices count ticks, sizes count lots, a tick being 10^-price_places
and a lot 10^-size_places. Text is made at the edge and carries no trailing zeros, as the exchange's does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

DAY_MS = 86_400_000


@lru_cache(65536)
def decimal_text(value: int, places: int) -> str:
    """`value` times 10^-places, without trailing zeros. decimal_text(1780, 3) is "1.78"."""
    sign = "-" if value < 0 else ""
    digits = str(abs(value))
    if places == 0:
        return sign + digits
    digits = digits.rjust(places + 1, "0")
    fraction = digits[-places:].rstrip("0")
    whole = digits[:-places]
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


@dataclass(frozen=True, slots=True)
class Instrument:
    """
    One instrument. `start` is its first mid price in ticks, `activity` changes of the book a second,
    `trading` the share of those that trade, `depth` how many levels a side holds, `code` the exchange's
    numeric id. `ct_val` is what one contract is worth in `base` ("" for spot).
    """

    inst: str
    type: str
    base: str
    quote: str
    family: str
    price_places: int
    size_places: int
    start: int
    activity: float
    trading: float
    depth: int
    code: int
    settle: str = ""
    ct_val: str = ""
    expiry_ms: int = 0
    alias: str = ""
    strike: str = ""
    option: str = ""
    state: str = "live"
    listed_ms: int = 0  # 0: long ago

    def price(self, ticks: int) -> str:
        return decimal_text(ticks, self.price_places)

    def size(self, lots: int) -> str:
        return decimal_text(lots, self.size_places)

    @property
    def derivative(self) -> bool:
        return self.type != "SPOT"


# base, quote, price places, size places, first price in ticks, activity, depth
_SPOT = [
    ("BTC", "USDT", 1, 8, 637_073, 30.0, 520),
    ("ETH", "USDT", 2, 6, 312_044, 25.0, 520),
    ("ETH", "BTC", 5, 6, 4_898, 6.0, 430),
    ("SOL", "USDT", 2, 6, 14_525, 15.0, 480),
    ("XRP", "USDT", 4, 6, 20_310, 8.0, 460),
    ("DOGE", "USDT", 5, 4, 15_212, 8.0, 460),
    ("OKB", "USDT", 2, 6, 9_920, 4.0, 300),
    ("LTC", "USDT", 2, 6, 10_233, 4.0, 420),
    ("USDC", "USDT", 4, 6, 9_998, 1.0, 60),
]
# base, quote, settle, contract value, price places, first price, activity, depth
_SWAP = [
    ("BTC", "USDT", "USDT", "0.01", 1, 637_101, 30.0, 520),
    ("ETH", "USDT", "USDT", "0.1", 2, 312_062, 25.0, 520),
    ("SOL", "USDT", "USDT", "1", 2, 14_529, 15.0, 480),
    ("XRP", "USDT", "USDT", "100", 4, 20_316, 8.0, 460),
    ("DOGE", "USDT", "USDT", "1000", 5, 15_220, 8.0, 460),
    ("BTC", "USD", "BTC", "100", 1, 637_090, 12.0, 500),
    ("ETH", "USD", "ETH", "10", 2, 312_055, 10.0, 500),
]


def _fridays(start_ms: int) -> list[tuple[str, datetime]]:
    """The dated futures that exist at `start_ms`: this week's, next week's and the quarter's, at 08:00 UTC."""
    now = datetime.fromtimestamp(start_ms / 1000, UTC)
    friday = (now + timedelta(days=(4 - now.weekday()) % 7)).replace(hour=8, minute=0, second=0, microsecond=0)
    if friday <= now:
        friday += timedelta(days=7)
    quarter = friday + timedelta(days=14)
    while (quarter + timedelta(days=7)).month == quarter.month or quarter.month % 3:
        quarter += timedelta(days=7)
    return [("this_week", friday), ("next_week", friday + timedelta(days=7)), ("quarter", quarter)]


def _spot(generated: int) -> list[Instrument]:
    rows = [
        Instrument(f"{b}-{q}", "SPOT", b, q, "", pp, sp, start, act, 0.2, depth, 1000 + i)
        for i, (b, q, pp, sp, start, act, depth) in enumerate(_SPOT)
    ]
    for i in range(generated):
        base = f"SIM{i:03d}"
        start = 10_000 + i * 37
        rows.append(Instrument(f"{base}-USDT", "SPOT", base, "USDT", "", 3, 4, start, 2.0, 0.2, 120, 20_000 + i))
    return rows


def _swaps(generated: int) -> list[Instrument]:
    rows = [
        Instrument(f"{b}-{q}-SWAP", "SWAP", b, q, f"{b}-{q}", pp, 2 if q == "USDT" else 0, start, act, 0.2,
                   depth, 2000 + i, settle, ct)
        for i, (b, q, settle, ct, pp, start, act, depth) in enumerate(_SWAP)
    ]  # fmt: skip
    for i in range(generated):
        base = f"SIM{i:03d}"
        rows.append(
            Instrument(f"{base}-USDT-SWAP", "SWAP", base, "USDT", f"{base}-USDT", 3, 0, 10_010 + i * 37, 2.0,
                       0.2, 120, 30_000 + i, "USDT", "1")
        )  # fmt: skip
    return rows


def _dated(start_ms: int) -> list[Instrument]:
    rows: list[Instrument] = []
    dates = _fridays(start_ms)
    for base, quote, settle, ct, places, start in [
        ("BTC", "USD", "BTC", "100", 1, 638_000),
        ("BTC", "USDT", "USDT", "0.01", 1, 638_100),
        ("ETH", "USD", "ETH", "10", 2, 312_900),
    ]:
        for i, (alias, day) in enumerate(dates):
            name = f"{base}-{quote}-{day:%y%m%d}"
            rows.append(
                Instrument(name, "FUTURES", base, quote, f"{base}-{quote}", places, 0, start + 50 * i, 5.0, 0.15,
                           140, 4000 + len(rows), settle, ct, int(day.timestamp() * 1000), alias)
            )  # fmt: skip
    day = dates[1][1]
    for i, strike in enumerate(range(60_000, 68_001, 2_000)):
        for kind in "CP":
            start = 700 - 100 * i if kind == "C" else 300 + 100 * i
            rows.append(
                Instrument(f"BTC-USD-{day:%y%m%d}-{strike}-{kind}", "OPTION", "BTC", "USD", "BTC-USD", 4, 0, start,
                           0.7, 0.2, 12, 5000 + len(rows), "BTC", "1", int(day.timestamp() * 1000), "",
                           str(strike), kind)
            )  # fmt: skip
    return rows


def listed(inst: str, code: int, now_ms: int) -> Instrument | None:
    """A new instrument made of its name alone: a pair, a swap or a dated future; None for any other name."""
    base, _, rest = inst.partition("-")
    quote, dash, kind = rest.partition("-")
    if not base.isalnum() or not quote.isalnum():
        return None
    if not dash:
        return Instrument(inst, "SPOT", base, quote, "", 3, 4, 10_000, 2.0, 0.2, 120, code, listed_ms=now_ms)
    try:
        expiry = datetime.strptime(kind, "%y%m%d").replace(hour=8, tzinfo=UTC) if kind != "SWAP" else None
    except ValueError:
        return None
    settle = base if quote == "USD" else quote
    return Instrument(
        inst, "FUTURES" if expiry else "SWAP", base, quote, f"{base}-{quote}", 3, 0, 10_000, 2.0, 0.2, 120, code,
        settle, "1", int(expiry.timestamp() * 1000) if expiry else 0, listed_ms=now_ms,
    )  # fmt: skip


def all_instruments(start_ms: int, generated: int) -> dict[str, Instrument]:
    """Every instrument by name. `generated` is how many SIMnnn spot pairs, and as many swaps, there are."""
    return {i.inst: i for i in [*_spot(generated), *_swaps(generated), *_dated(start_ms)]}

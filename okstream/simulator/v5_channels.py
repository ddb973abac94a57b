"""Which channels okx-v5 has: on which path, with which arguments, for whom, and which class serves them."""

from __future__ import annotations

from dataclasses import dataclass

from okstream.simulator import v5_account, v5_public
from okstream.simulator.candles import BARS, Candles, PriceCandles
from okstream.simulator.v5_public import V5Subscription


@dataclass(frozen=True, slots=True)
class Channel:
    """
    `paths` are "public", "private", "business"; `required` must not be empty; `target` says what instId
    names ("instrument", "index" or "" for anything); `tier` is the VIP level needed.
    """

    paths: tuple[str, ...]
    required: tuple[str, ...]
    serves: type[V5Subscription]
    login: bool = False
    tier: int = 0
    target: str = "instrument"
    limited: bool = False
    types: tuple[str, ...] = ()


_PUBLIC, _BUSINESS, _PRIVATE = ("public",), ("business",), ("private",)
_INST = ("instId",)

CHANNELS: dict[str, Channel] = {
    "tickers": Channel(_PUBLIC, _INST, v5_public.Tickers),
    "trades": Channel(_PUBLIC, _INST, v5_public.Trades),
    "books": Channel(_PUBLIC, _INST, v5_public.Books),
    "books5": Channel(_PUBLIC, _INST, v5_public.Books5),
    "bbo-tbt": Channel(_PUBLIC, _INST, v5_public.Bbo),
    "books-l2-tbt": Channel(_PUBLIC, _INST, v5_public.BooksTbt, login=True, tier=4),
    "books50-l2-tbt": Channel(_PUBLIC, _INST, v5_public.Books50Tbt, login=True, tier=4),
    "books-rpi": Channel(_PUBLIC, _INST, v5_public.BooksRpi),
    "trades-all": Channel(_BUSINESS, _INST, v5_public.TradesAll),
    "orders": Channel(_PRIVATE, ("instType",), v5_account.Orders, login=True, limited=True),
    "fills": Channel(_PRIVATE, (), v5_account.Fills, login=True, tier=4),
    "account": Channel(_PRIVATE, (), v5_account.AccountState, login=True, limited=True),
    "positions": Channel(_PRIVATE, ("instType",), v5_account.PositionState, login=True, limited=True),
    "balance_and_position": Channel(_PRIVATE, (), v5_account.BalanceAndPosition, login=True, limited=True),
}
for _bar in BARS:
    CHANNELS[f"candle{_bar}"] = Channel(_BUSINESS, _INST, Candles)
    if _bar != "1s":
        CHANNELS[f"mark-price-candle{_bar}"] = Channel(_BUSINESS, _INST, PriceCandles)
        CHANNELS[f"index-candle{_bar}"] = Channel(_BUSINESS, _INST, PriceCandles, target="index")

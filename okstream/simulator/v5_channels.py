"""Which channels okx-v5 has: on which path, with which arguments, for whom, and which class serves them."""

from __future__ import annotations

from dataclasses import dataclass

from okstream.simulator import v5_account, v5_derived, v5_public
from okstream.simulator.candles import BARS, Candles, PriceCandles
from okstream.simulator.v5_public import V5Subscription


@dataclass(frozen=True, slots=True)
class Channel:
    """
    `paths` are "public", "private", "business"; `required` must not be empty; `target` says what instId
    names ("instrument", "index" or "" for anything); `tier` is the VIP level needed.
    `limited` channels count the connections that carry them. `types` are the instType arguments there are,
    `only` the types of instrument that have this channel; `either`: instId or instFamily is needed.
    """

    paths: tuple[str, ...]
    required: tuple[str, ...]
    serves: type[V5Subscription]
    login: bool = False
    tier: int = 0
    target: str = "instrument"
    limited: bool = False
    types: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    either: bool = False


_PUBLIC, _BUSINESS, _PRIVATE = ("public",), ("business",), ("private",)
_INST: tuple[str, ...] = ("instId",)
_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "EVENTS", "ANY")

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
    "orders": Channel(_PRIVATE, ("instType",), v5_account.Orders, login=True, limited=True, types=_TYPES),
    "fills": Channel(_PRIVATE, (), v5_account.Fills, login=True, tier=4),
    "account": Channel(_PRIVATE, (), v5_account.AccountState, login=True, limited=True),
    "positions": Channel(_PRIVATE, ("instType",), v5_account.PositionState, login=True, limited=True, types=_TYPES),
    "balance_and_position": Channel(_PRIVATE, (), v5_account.BalanceAndPosition, login=True, limited=True),
}
_CONTRACTS = ("SWAP", "FUTURES", "OPTION", "MARGIN")
CHANNELS |= {
    "mark-price": Channel(_PUBLIC, _INST, v5_derived.MarkPrice),
    "index-tickers": Channel(_PUBLIC, _INST, v5_derived.IndexTickers, target="index"),
    "open-interest": Channel(_PUBLIC, _INST, v5_derived.OpenInterest, only=_CONTRACTS),
    "funding-rate": Channel(_PUBLIC, _INST, v5_derived.FundingRate, only=("SWAP",)),
    "price-limit": Channel(_PUBLIC, _INST, v5_derived.PriceLimit),
    "opt-summary": Channel(_PUBLIC, ("instFamily",), v5_derived.OptSummary),
    "option-trades": Channel(
        _PUBLIC, ("instType",), v5_public.OptionTrades, types=("OPTION",), only=("OPTION",), either=True
    ),
    "liquidation-orders": Channel(_PUBLIC, ("instType",), v5_derived.Liquidations, types=_CONTRACTS),
    "instruments": Channel(
        _PUBLIC, ("instType",), v5_derived.Instruments, types=("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "EVENTS")
    ),
    "status": Channel(_PUBLIC, (), v5_derived.Status),
}
# Served, so that a client can subscribe to them, but nothing happens there.
_quiet: dict[str, tuple[str, ...]] = {
    "estimated-price": ("instType",),
    "adl-warning": ("instType",),
    "call-auction-details": _INST,
    "event-contract-markets": ("instType",),
}
for _name, _required in _quiet.items():
    CHANNELS[_name] = Channel(_PUBLIC, _required, v5_derived.Quiet, target="")
for _name in ("block-tickers", "public-block-trades"):
    CHANNELS[_name] = Channel(_BUSINESS, _INST, v5_derived.Quiet)
CHANNELS["public-struc-block-trades"] = Channel(_BUSINESS, (), v5_derived.Quiet)
_quiet = {
    "orders-algo": ("instType",),
    "algo-advance": ("instType",),
    "grid-orders-spot": ("instType",),
    "grid-orders-contract": ("instType",),
    "grid-positions": ("algoId",),
    "grid-sub-orders": ("algoId",),
    "algo-recurring-buy": ("instType",),
    "deposit-info": (),
    "withdrawal-info": (),
    "economic-calendar": (),
    "rfqs": (),
    "quotes": (),
    "struc-block-trades": (),
    "sprd-orders": (),
    "sprd-trades": (),
}
for _name, _required in _quiet.items():
    CHANNELS[_name] = Channel(_BUSINESS, _required, v5_derived.Quiet, login=True, target="")
CHANNELS["liquidation-warning"] = Channel(_PRIVATE, ("instType",), v5_derived.Quiet, login=True, limited=True)
CHANNELS["account-greeks"] = Channel(_PRIVATE, (), v5_derived.Quiet, login=True, limited=True)
for _bar in BARS:
    CHANNELS[f"candle{_bar}"] = Channel(_BUSINESS, _INST, Candles)
    if _bar != "1s":
        CHANNELS[f"mark-price-candle{_bar}"] = Channel(_BUSINESS, _INST, PriceCandles)
        CHANNELS[f"index-candle{_bar}"] = Channel(_BUSINESS, _INST, PriceCandles, target="index")

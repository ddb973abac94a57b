"""A call with some subscriptions on air, for the tests of a session."""

from typing import Any

from exchange import (
    Call,
    book,
    ticker,
    trades,
)

TRADES, BOOK, TICKER = "trades:BTC-USDT", "book:BTC-USDT", "ticker:BTC-USDT"
ORDERS, LIQUIDATIONS = "orders:instType=ANY", "liquidations:instType=SWAP"
HUNDRED = [f"ticker:C{number}-USDT" for number in range(100)]
BAD = HUNDRED[49]
BREAK = book("update", 8, 9)
"""It does not follow on the snapshot that every book on air has got."""


def on_air(*subs: str, **options: Any) -> Call:
    """A call with `subs` subscribed to and acknowledged, books and trades with their first push."""
    call = Call(subs, **options)
    call.accept()
    first = {TRADES: trades(7), BOOK: book("snapshot", -1, 5), TICKER: ticker(1)}
    call.hears(*(first[text] for text in subs if text in first))
    call.session.settled.clear()
    return call

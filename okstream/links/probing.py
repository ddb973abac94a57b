"""What REST says about a silence: whether the exchange has something that the stream did not bring."""

import logging
from typing import Any

from ..errors import RestError, RestRefusedError
from ..feed.source import Source
from ..records import Book, Candle, DataRecord, Ticker, Trade
from ..rest import Rest

log = logging.getLogger("okstream.rest")

_DEPTH = 5
_TRADES = frozenset({"trades", "trades-all"})


async def shows_newer(rest: Rest, source: Source) -> bool:
    """Return whether something newer exists than `source` brought; False where nobody can tell. Never raises."""
    feed = source.feed
    latest, inst = source.latest, feed.sub.inst
    last = latest or feed.last
    if last is None or inst is None:
        return False
    try:
        newer = await _newer(rest, source, last, inst)
        return newer and source.latest is latest  # else it has brought something while REST was asked
    except (RestError, RestRefusedError) as error:
        log.info("%s: cannot ask about the silence of %s: %s", feed.venue, feed.sub, error)
    except (LookupError, TypeError, ValueError) as error:
        log.warning("%s: an answer about %s is not understood: %s", feed.venue, feed.sub, error)
    return False


async def _newer(rest: Rest, source: Source, last: DataRecord, inst: str) -> bool:
    feed = source.feed
    if isinstance(last, Ticker):
        return _ticker(await rest.ticker(inst), last)
    if feed.sub.channel in _TRADES:
        rows = await rest.trades(inst)
        return bool(rows) and _trade(rows[0], last)
    if isinstance(last, Candle):
        bar = feed.sub.channel.removeprefix("candle-")
        return _candle(await rest.candle(inst, bar), last)
    if isinstance(last, Book):
        depth = max(1, min(_DEPTH, len(last.bids), len(last.asks))) if feed.sub.channel != "book" else _DEPTH
        row = await rest.book(inst, depth)
        levels = feed.levels if feed.leader is source else source.levels
        bids, asks = levels.top(depth) if levels is not None else (last.bids, last.asks)
        return _book(row, last, feed.traits.sequenced and levels is None, (bids[:depth], asks[:depth]))
    return False


def _ticker(row: dict[str, Any], last: Ticker) -> bool:
    shown = (row["last"], row["bidPx"], row["askPx"], row["bidSz"], row["askSz"])
    known = (last.last, last.bid, last.ask, last.bid_size, last.ask_size)
    return int(row["ts"]) > (last.ts or 0) and shown != known


def _candle(row: list[Any], last: Candle) -> bool:
    ts, volume = int(row[0]), float(row[5])
    return ts > (last.ts or 0) or (ts == last.ts and volume > float(last.volume or 0))


def _trade(row: dict[str, Any], last: DataRecord) -> bool:
    return isinstance(last, Trade) and int(row["tradeId"]) > int(last.id)


def _book(row: dict[str, Any], last: Book, only_numbers: bool, known: tuple[Any, Any]) -> bool:
    """Changes beyond the levels of a subscription may be numbered, too: what is seen has to differ as well."""
    if last.seq is not None and int(row["seqId"]) <= last.seq:
        return False
    return only_numbers or any(
        [level[:2] for level in shown] != [level[:2] for level in side]
        for shown, side in zip((row["bids"], row["asks"]), known, strict=True)
    )

"""The two generations as they stand on the wire, shaped like the messages that were recorded."""

import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

import orjson

_TEXT, _BINARY = 0x81, 0x82
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Wire(Protocol):
    """One generation: how messages are written, and how subscriptions are asked for and acknowledged."""

    venue: str
    path: str
    checksums: bool
    deflated: bool

    def book(
        self, inst: str, action: str, bids: str, asks: str, ts: int, seq: int, prev: int, checksum: int
    ) -> bytes: ...

    def trade(self, inst: str, trade: str, price: str, size: str, side: str, ts: int) -> bytes: ...

    def ticker(self, inst: str, best: Sequence[str], size: str, high: str, low: str, ts: int) -> bytes:
        """Write a ticker; `best` is last, bid and ask."""
        ...

    def subscribe(self, instruments: Sequence[str]) -> str:
        """Return the request for tickers, trades and books of `instruments`."""
        ...

    def acks(self, request: Mapping[str, Any]) -> list[bytes]:
        """Return the frames that acknowledge `request`."""
        ...

    def frame(self, text: bytes) -> bytes:
        """Return `text` as one WebSocket frame."""
        ...


class V5:
    """OKX v5: text frames. The checksums of its books are 0, as they are since June 2026."""

    venue = "okx"
    path = "/ws/v5/public"
    checksums = False
    deflated = False

    def book(self, inst: str, action: str, bids: str, asks: str, ts: int, seq: int, prev: int, checksum: int) -> bytes:
        return (
            f'{{"arg":{{"channel":"books","instId":"{inst}"}},"action":"{action}","data":[{{"asks":[{asks}],'
            f'"bids":[{bids}],"ts":"{ts}","checksum":{checksum},"seqId":{seq},"prevSeqId":{prev}}}]}}'
        ).encode()

    def trade(self, inst: str, trade: str, price: str, size: str, side: str, ts: int) -> bytes:
        return (
            f'{{"arg":{{"channel":"trades","instId":"{inst}"}},"data":[{{"instId":"{inst}","tradeId":"{trade}",'
            f'"px":"{price}","sz":"{size}","side":"{side}","ts":"{ts}","count":"1","source":"0","seqId":{ts}}}]}}'
        ).encode()

    def ticker(self, inst: str, best: Sequence[str], size: str, high: str, low: str, ts: int) -> bytes:
        last, bid, ask = best
        return (
            f'{{"arg":{{"channel":"tickers","instId":"{inst}"}},"data":[{{"instType":"SPOT","instId":"{inst}",'
            f'"last":"{last}","lastSz":"{size}","askPx":"{ask}","askSz":"{size}","bidPx":"{bid}","bidSz":"{size}",'
            f'"open24h":"{low}","high24h":"{high}","low24h":"{low}","sodUtc0":"{low}","sodUtc8":"{high}",'
            f'"volCcy24h":"231000456.1","vol24h":"3260.01","ts":"{ts}"}}]}}'
        ).encode()

    def subscribe(self, instruments: Sequence[str]) -> str:
        channels = ("tickers", "trades", "books")
        args = [{"channel": channel, "instId": inst} for channel in channels for inst in instruments]
        return orjson.dumps({"op": "subscribe", "args": args}).decode()

    def acks(self, request: Mapping[str, Any]) -> list[bytes]:
        echoed = {"id": request["id"]} if "id" in request else {}
        answers = ({**echoed, "event": "subscribe", "arg": arg, "connId": "accb8e21"} for arg in request["args"])
        return [self.frame(orjson.dumps(answer)) for answer in answers]

    def frame(self, text: bytes) -> bytes:
        return _head(_TEXT, len(text)) + text


class SummedV5(V5):
    """OKX v5 as it was until then: the checksums are those of the books, so their levels have to be kept."""

    checksums = True


class V3:
    """OKEx v3: each message one raw-Deflate stream, level 1, in a binary frame."""

    venue = "okex-v3"
    path = "/ws/v3"
    checksums = True
    deflated = True

    def book(self, inst: str, action: str, bids: str, asks: str, ts: int, seq: int, prev: int, checksum: int) -> bytes:
        action = "partial" if action == "snapshot" else action
        return (
            f'{{"table":"spot/depth","action":"{action}","data":[{{"instrument_id":"{inst}","asks":[{asks}],'
            f'"bids":[{bids}],"timestamp":"{_instant(ts)}","checksum":{checksum}}}]}}'
        ).encode()

    def trade(self, inst: str, trade: str, price: str, size: str, side: str, ts: int) -> bytes:
        return (
            f'{{"table":"spot/trade","data":[{{"side":"{side}","trade_id":"{trade}","price":"{price}",'
            f'"size":"{size}","instrument_id":"{inst}","timestamp":"{_instant(ts)}"}}]}}'
        ).encode()

    def ticker(self, inst: str, best: Sequence[str], size: str, high: str, low: str, ts: int) -> bytes:
        last, bid, ask = best
        return (
            f'{{"table":"spot/ticker","data":[{{"last":"{last}","open_24h":"{low}","best_bid":"{bid}",'
            f'"high_24h":"{high}","low_24h":"{low}","open_utc0":"{low}","open_utc8":"{high}",'
            f'"base_volume_24h":"21074770.45","quote_volume_24h":"332385.19","best_ask":"{ask}",'
            f'"instrument_id":"{inst}","timestamp":"{_instant(ts)}","best_bid_size":"{size}",'
            f'"best_ask_size":"{size}","last_qty":"{size}"}}]}}'
        ).encode()

    def subscribe(self, instruments: Sequence[str]) -> str:
        tables = ("spot/ticker", "spot/trade", "spot/depth")
        args = [f"{table}:{inst}" for table in tables for inst in instruments]
        return orjson.dumps({"op": "subscribe", "args": args}).decode()

    def acks(self, request: Mapping[str, Any]) -> list[bytes]:
        return [self.frame(orjson.dumps({"event": "subscribe", "channel": arg})) for arg in request["args"]]

    def frame(self, text: bytes) -> bytes:
        deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = deflate.compress(text) + deflate.flush()
        return _head(_BINARY, len(data)) + data


WIRES: Mapping[str, Wire] = MappingProxyType({"v5": V5(), "v5-summed": SummedV5(), "v3": V3()})


def _head(kind: int, length: int) -> bytes:
    if length < 126:
        return bytes((kind, length))
    if length < 1 << 16:
        return bytes((kind, 126)) + length.to_bytes(2)
    return bytes((kind, 127)) + length.to_bytes(8)


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def _instant(ts: int) -> str:
    return f"{_second(ts // 1000)}.{ts % 1000:03d}Z"

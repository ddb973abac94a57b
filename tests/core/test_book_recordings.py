"""Recorded books of the exchange: all of them are right, and one wrong digit in any of them is found."""

import base64
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from both import LEVELS
from exchange import RECV, V3, V5, Call, words
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream.dialects import Dialect
from okstream.feed import chain
from okstream.records import Book
from okstream.venues import V3_LIMITS, V5_LIMITS, Limits

FILES = {
    "okx-v5/2022-05-public.jsonl": (V5, V5_LIMITS, 290),
    "okex-v3/2021-04-public.jsonl": (V3, V3_LIMITS, None),
    "okcoin-v3/2021-04-public.jsonl": (V3, V3_LIMITS, None),
}
SIDES = ("bids", "asks")


@pytest.fixture(scope="module", autouse=True, params=LEVELS)
def _of_each_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "Levels", request.param)
        yield


@cache
def received(path: Path) -> list[dict[str, Any]]:
    events = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [event for event in events if event["dir"] == "recv"]


def book_of(message: Any) -> str | None:
    """The subscription whose book `message` is."""
    if message.get("arg", {}).get("channel") == "books" and "data" in message:
        return f"book:{message['arg']['instId']}"
    if message.get("table", "").endswith("/depth_l2_tbt"):
        (row,) = message["data"]
        return f"book-l2-tbt:{row['instrument_id']}"
    return None


@cache
def books(path: Path) -> dict[str, list[Any]]:
    """All messages of each book, in order."""
    found: dict[str, list[Any]] = defaultdict(list)
    for event in received(path):
        message = orjson.loads(event["text"])
        if (sub := book_of(message)) is not None:
            found[sub].append(message)
    return found


def call(dialect: Dialect, limits: Limits, subs: Any) -> Call:
    one = Call(subs, dialect=dialect, limits=limits)
    one.accept()
    return one


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_book_is_delivered_and_none_is_void(recordings: Path, name: str) -> None:
    dialect, limits, count = FILES[name]
    sent = books(recordings / name)
    assert count is None or sum(map(len, sent.values())) == count
    one = call(dialect, limits, sent)
    got: dict[str | None, list[Any]] = defaultdict(list)
    for event in received(recordings / name):
        binary = "b64" in event
        data = base64.b64decode(event["b64"]) if binary else event["text"].encode()
        for delivery in one.session.receive(data, binary, 0.0, RECV):
            assert words(delivery.statements) in ([], ["live"])
            for record in delivery.records:
                assert isinstance(record, Book)
                got[f"{record.channel}:{record.inst}"].append((record.action, record.bids, record.asks))
    for sub, messages in sent.items():
        rows = [(message["action"].replace("partial", "snapshot"), message["data"][0]) for message in messages]
        assert got[sub] == [(action, row["bids"], row["asks"]) for action, row in rows]
    assert {feed.state for feed in one.feeds.values()} == {"live"}
    assert not set(one.session.counters) & {"sequence", "checksum", "malformed"}


@cache
def telling(path: Path, sub: str) -> list[tuple[int, str, int]]:
    """Where a row stands (message, side, row) that sets or changes one of the best 25 levels of its side."""
    held: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
    found = []
    for number, message in enumerate(books(path)[sub]):
        if number and message["action"] != "update":
            held = {"bids": {}, "asks": {}}
        for side in SIDES:
            before = dict(held[side])
            for price, size, *_ in message["data"][0][side]:
                held[side][price] = size
                if float(size) == 0.0:
                    del held[side][price]
            best = set(sorted(held[side], key=Decimal, reverse=side == "bids")[:25])
            for index, (price, size, *_) in enumerate(message["data"][0][side]):
                if price in best and before.get(price) != size:
                    found.append((number, side, index))
    return found


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40)
@given(data=st.data())
def test_one_wrong_digit_of_the_best_levels_is_found(recordings: Path, name: str, data: st.DataObject) -> None:
    dialect, limits, _ = FILES[name]
    path = recordings / name
    sub = data.draw(st.sampled_from([sub for sub in sorted(books(path)) if telling(path, sub)]))
    number, side, index = data.draw(st.sampled_from(telling(path, sub)))
    # From the beginning of this book, to find it takes all that came before.
    one = call(dialect, limits, [sub])
    for message in books(path)[sub][:number]:
        one.hears(message)
    wrong = orjson.loads(orjson.dumps(books(path)[sub][number]))
    row = wrong["data"][0][side][index]
    column = data.draw(st.sampled_from([0, 1]))
    digits = [place for place, digit in enumerate(row[column]) if digit.isdigit()]
    place = data.draw(st.sampled_from(digits))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != row[column][place]]))
    row[column] = row[column][:place] + digit + row[column][place + 1 :]
    said = words(one.records(wrong))
    assert said == ["open checksum", "void"]
    assert [request["op"] for request in one.sent()] == ["unsubscribe"]
    assert one.records(*books(path)[sub][number + 1 : number + 5]) == []

"""What a spool remembers of what went through it."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okstream.encoding import encode
from okstream.entries import Entry, Head, raw
from okstream.records import Book, Gap, Native, Status, Trade
from okstream.sinks import Proven
from okstream.spool.proofs import mark, proven

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def packed(record):
    return Entry(encode(record), record).pack()


def trade(number, inst="BTC-USDT", channel="trades"):
    return Trade("okx", channel, inst, 1000 + int(number), 5, number, "1", "2", "buy", 1)


def after(*payloads):
    marks = dict(found for found in map(mark, payloads) if found is not None)
    return set(proven(marks))


def book(seq, action="update"):
    return Book("okx", "book", "BTC-USDT", 9, 5, action, [], [], seq, None if seq is None else seq - 1, None)


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (trade("77"), ("trades", "77", 1077)),
        (trade("8", channel="trades-all"), ("trades-all", "8", 1008)),
        (book(12), ("book", 12, 9)),
        (book(12, "snapshot"), ("book", 12, 9)),
        (book(None), ("book", None, 9)),
        (Native("okx", "anything", "BTC-USDT", None, None, 5, {"a": '","'}), ("anything", None, None)),
    ],
)
def test_the_last_of_a_subscription_is_known_by_where_it_stands(record, place):
    channel, number, ts = place
    (one,) = after(packed(record))
    assert one == Proven("okx", channel, "BTC-USDT", None, number, ts)


def test_each_subscription_has_its_own_and_the_last_one_counts():
    found = after(
        packed(trade("1")), packed(trade("5", "ETH-USDT")), packed(trade("2")), packed(trade("3", channel="x"))
    )
    assert {(one.channel, one.inst, one.after) for one in found} == {
        ("trades", "BTC-USDT", "2"), ("trades", "ETH-USDT", "5"), ("x", "BTC-USDT", "3"),
    }  # fmt: skip


def test_a_channel_of_two_types_is_one_subscription():
    heads = [Head("x", kind, "okx", "account", None, "main", ts, 7) for ts, kind in ((5, "balance"), (6, "position"))]
    assert after(*(Entry(b"\n", head).pack() for head in heads)) == {Proven("okx", "account", None, "main", None, 6)}


def test_statements_prove_nothing_and_raw_text_only_that_there_was_some():
    gap = Gap("okx", "trades", "BTC-USDT", None, None, 5, "a-1", "open", "start", "7", 7, None, None, None)
    status = Status("okx", "trades", "BTC-USDT", None, None, 5, "live", None)
    assert after(packed(gap), packed(status)) == set()
    text = raw(b'{"arg":{"channel":"tickers"}}\n', "okx", "ticker", "BTC-USDT", None, 5)
    assert after(text.pack()) == {Proven("okx", "ticker", "BTC-USDT", None, None, None)}


@given(texts=st.lists(TEXTS, min_size=5, max_size=5), ts=st.none() | st.integers(0, 2**53), inst=st.none() | TEXTS)
def test_whatever_its_words_are_a_head_is_told_from_another_by_its_subscription_alone(texts, ts, inst):
    identity, other, venue, channel, account = texts
    heads = [Head(one, "ticker", venue, channel, inst, account, ts, 7) for one in (identity, other)]
    marks = [mark(Entry(b"line\n", head).pack()) for head in heads]
    assert all(one is not None for one in marks)
    assert marks[0][0] == marks[1][0]
    assert orjson.loads(marks[0][1])[0] == identity
    elsewhere = Head(identity, "ticker", venue, channel + "x", inst, account, ts, 7)
    assert mark(Entry(b"line\n", elsewhere).pack())[0] != marks[0][0]
    assert [(one.venue, one.channel, one.inst, one.account) for one in proven(dict(marks))] == [
        (venue, channel, inst, account)
    ]

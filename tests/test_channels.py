"""Subscriptions in their text form, and errors that help."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okstream.channels import BARS, BOOKS, PUBLIC, USER, Subscription, parse, subscriptions, unknown
from okstream.errors import ConfigError

WORD = st.text("ABCXYZabcxyz0189-_/.", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ticker:BTC-USDT", [Subscription("ticker", "BTC-USDT")]),
        ("book:BTC-USDT,ETH-USDT", [Subscription("book", "BTC-USDT"), Subscription("book", "ETH-USDT")]),
        ("book:BTC-USDT,BTC-USDT", [Subscription("book", "BTC-USDT")]),
        ("orders", [Subscription("orders")]),
        (
            "orders:instType=SWAP,instFamily=BTC-USD",
            [Subscription("orders", None, (("instFamily", "BTC-USD"), ("instType", "SWAP")))],
        ),
        ("trades:instId=BTC-USDT", [Subscription("trades", "BTC-USDT")]),
        ("x:A,k=v,B", [Subscription("x", "A", (("k", "v"),)), Subscription("x", "B", (("k", "v"),))]),
        ("x:k=v,k=v", [Subscription("x", None, (("k", "v"),))]),
        (
            'account:extraParams={"updateInterval":"0"}',
            [Subscription("account", None, (("extraParams", '{"updateInterval":"0"}'),))],
        ),
        ("x:k=a=b", [Subscription("x", None, (("k", "a=b"),))]),
        ("futures/estimated_price:BTC-USD-191227", [Subscription("futures/estimated_price", "BTC-USD-191227")]),
    ],
)
def test_the_text_form_is_channel_and_items(text, expected):
    assert parse(text) == expected


def test_the_account_is_handed_through():
    assert parse("orders", "main") == [Subscription("orders", account="main")]


def test_the_order_of_arguments_makes_no_difference():
    assert parse("orders:b=2,a=1") == parse("orders:a=1,b=2")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no channel.*ticker:BTC-USDT"),
        (":BTC-USDT", "names no channel"),
        (" ticker:BTC-USDT", "names no channel"),
        ("ticker :BTC-USDT", "names no channel"),
        ("ticker:", "empty.*ticker:BTC-USDT"),
        ("ticker:BTC-USDT,", "empty"),
        ("ticker:BTC-USDT, ETH-USDT", "a space"),
        ("orders:=SWAP", "not key=value"),
        ("orders:instType=", "not key=value"),
        ("orders:instType=SWAP,instType=SPOT", "'instType' is given twice"),
        ("ticker:channel=books,instId=BTC-USDT", "named before the colon"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(text, says):
    with pytest.raises(ConfigError, match=says):
        parse(text)


@pytest.mark.parametrize(("channel", "items"), [("", ["BTC-USDT"]), ("trades", [""]), ("trades", ["BTC-USDT", " "])])
def test_the_parts_are_checked_like_the_text(channel, items):
    with pytest.raises(ConfigError):
        subscriptions(channel, items)


@given(WORD, st.none() | WORD, st.dictionaries(WORD, WORD, max_size=3))
def test_a_subscription_reads_back_from_its_own_text(channel, inst, args):
    args = {key: value for key, value in args.items() if key not in {"instId", "channel"}}
    sub = Subscription(channel, inst, tuple(sorted(args.items())))
    assert parse(str(sub)) == [sub]


def test_a_star_makes_a_pattern_where_patterns_may_be():
    subs = parse("ticker:BTC-USD-*,BTC-USDT,instId=*-USDT,instFamily=*")
    assert [(sub.inst, sub.is_pattern) for sub in subs] == [("BTC-USD-*", True), ("BTC-USDT", False), ("*-USDT", True)]
    assert subs == subscriptions("ticker", ["BTC-USD-*", "BTC-USDT", "*-USDT", "instFamily=*"])
    assert parse(str(subs[0])) == [subs[0]]


def test_nothing_but_an_instrument_is_a_pattern():
    assert not any(sub.is_pattern for sub in parse("orders:instFamily=*") + parse("account"))


@given(st.text(max_size=40))
def test_any_text_is_subscriptions_or_a_config_error(text):
    try:
        subs = parse(text)
    except ConfigError:
        return
    assert subs
    assert len(set(subs)) == len(subs)


def test_an_unknown_name_is_answered_with_what_exists_and_what_was_meant():
    text = str(unknown("channel", "tiker", ["trades", "ticker"]))
    assert text == "there is no channel 'tiker'. Did you mean 'ticker'? There are: ticker, trades"


def test_nothing_is_suggested_where_nothing_is_near():
    assert "mean" not in str(unknown("channel", "zzz", ["trades", "ticker"]))


def test_the_names_are_distinct_and_described():
    assert not PUBLIC.keys() & USER.keys()
    assert PUBLIC.keys() >= BOOKS
    assert all({**PUBLIC, **USER}.values())
    assert len(set(BARS)) == len(BARS)

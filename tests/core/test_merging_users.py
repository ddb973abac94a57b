"""What two connections bring of an account: each says of its own when it pushed, and repeats the whole at times."""

from typing import Any

import pytest
from exchange import V3, gaps, push, ticker, words
from test_merging import Pair

ACCOUNT, POSITIONS = "account", "positions"
NATIVE = "balance_and_position"


def position(inst: str, updated: int, pushed: int, size: str = "1") -> dict[str, Any]:
    names = "posSide availPos avgPx upl lever liqPx markPx mgnMode ccy".split()
    row = {"instId": inst, "posId": inst, "pos": size, **dict.fromkeys(names, "1")}
    return {**row, "uTime": str(updated), "pTime": str(pushed)}


def whole(*rows: dict[str, Any], page: int = 1, last: bool = True) -> dict[str, Any]:
    return push(POSITIONS, *rows, eventType="snapshot", curPage=page, lastPage=last)


def event(*rows: dict[str, Any]) -> dict[str, Any]:
    return push(POSITIONS, *rows, eventType="event_update")


def balance(pushed: int, equity: str, kind: str = "event_update") -> dict[str, Any]:
    detail = {"ccy": "BTC", "eq": equity, "uTime": "1"}
    return push(ACCOUNT, {"uTime": str(pushed), "totalEq": equity, "details": [detail]}, eventType=kind)


def both(pushed: int, cash: str) -> dict[str, Any]:
    return push(NATIVE, {"pTime": str(pushed), "balData": [{"ccy": "BTC", "cashBal": cash}]})


def test_positions_are_known_again_after_an_interruption_though_what_is_left_changed_before_what_was_closed():
    pair = Pair(POSITIONS)
    rows = position("BTC", 50, 1000), position("ETH", 30, 1000)
    pair.gets(pair.a, whole(*rows))
    pair.gets(pair.a, event(position("BTC", 2000, 2000, "0")))
    pair.loses(pair.b)
    pair.recv += 10_000_000_000
    assert words(pair.loses(pair.a)) == ["open disconnected", "disconnected"]
    other = pair.begins()
    assert words(pair.gets(other, whole(position("ETH", 30, 9000)))) == ["closed disconnected", "live", "position"]
    assert words(pair.gets(other, whole(position("ETH", 30, 14000)))) == ["position"]


def test_the_other_goes_on_with_positions_that_have_not_changed_for_long():
    pair = Pair(POSITIONS)
    pair.gets(pair.a, event(position("BTC", 2000, 2000, "0")))
    pair.gets(pair.b, event(position("BTC", 2000, 2005, "0")))
    pair.recv += 3_000_000_000
    assert pair.loses(pair.a) == []
    assert words(pair.gets(pair.b, whole(position("ETH", 30, 5000)))) == ["position"]


def test_positions_of_the_other_are_never_delivered_behind_later_ones():
    pair = Pair(POSITIONS)
    pair.gets(pair.b, event(position("BTC", 1000, 1000)))
    pair.gets(pair.a, event(position("BTC", 1000, 1005)))
    pair.recv += 5_000_000_000
    pair.gets(pair.b, event(position("BTC", 2000, 2000)), event(position("BTC", 3000, 3000)))
    assert pair.loses(pair.b) == []
    assert pair.gets(pair.a, event(position("BTC", 2000, 2005))) == []
    assert words(pair.gets(pair.a, event(position("BTC", 4000, 4000)))) == ["position"]


@pytest.mark.parametrize(("sub", "message"), [(ACCOUNT, balance), (NATIVE, both)])
def test_what_both_bring_with_times_of_their_own_is_delivered_once(sub, message):
    pair = Pair(sub)
    for at, state in (1000, "1"), (2000, "2"), (3000, "1"):
        pair.recv += 1_000_000_000
        assert "live" not in words(pair.gets(pair.a, message(at, state)))[1:]
        assert pair.gets(pair.b, message(at + 20, state)) == pair.passes(60) == []
    pair.loses(pair.a)
    assert words(pair.gets(pair.b, message(4020, "1")))[-1] in ("balance", "native")


@pytest.mark.parametrize(("sub", "message"), [(ACCOUNT, balance), (NATIVE, both)])
def test_what_the_other_puts_together_otherwise_waits_until_the_leader_speaks_again_or_is_lost(sub, message):
    pair = Pair(sub)
    pair.gets(pair.a, message(1000, "1"))
    pair.recv += 1_000_000_000
    pair.gets(pair.a, message(2000, "2"), message(2010, "3"))
    assert pair.gets(pair.b, message(2020, "23")) == pair.passes(60) == []
    pair.gets(pair.a, message(62000, "4"))
    assert pair.passes(1) == []
    assert not pair.b.tail


@pytest.mark.parametrize(("sub", "message"), [(ACCOUNT, balance), (NATIVE, both)])
def test_what_the_leader_did_not_bring_is_delivered_though_each_has_times_of_its_own(sub, message):
    pair = Pair(sub)
    pair.gets(pair.a, message(1000, "1"))
    pair.gets(pair.b, message(1020, "1"))
    pair.recv += 5_000_000_000
    long = 10.1 if sub == ACCOUNT else 1.0
    assert pair.gets(pair.b, message(6020, "2")) == pair.passes(long) == []
    assert words(pair.passes(0.1))[-1] in ("balance", "native")
    assert pair.feed.leader is pair.b


def test_what_the_other_brought_last_is_not_lost_with_the_leader():
    pair = Pair(NATIVE)
    pair.gets(pair.a, both(1000, "1"))
    pair.gets(pair.b, both(1020, "1"))
    pair.recv += 5_000_000_000
    pair.gets(pair.a, both(2000, "2"))
    assert pair.gets(pair.b, both(2020, "2"), both(2100, "3")) == []
    assert words(pair.loses(pair.a)) == ["native"]


def test_the_pages_of_a_first_whole_show_no_loss():
    pair = Pair(POSITIONS)
    pair.gets(pair.a, whole(position("BTC", 50, 1000)), event(position("BTC", 60, 1001)))
    pair.loses(pair.b)
    pair.recv += 60_000_000_000
    other = pair.begins()
    first, second = whole(position("BTC", 60, 61000), last=False), whole(position("ETH", 1, 61000), page=2)
    assert pair.gets(other, first, second) == pair.passes(60) == []
    assert not other.speaks
    assert pair.gets(other, event(position("BTC", 70, 70000))) == []
    assert [gap.reason for gap in gaps(pair.passes(60))] == ["stale"] * 2


@pytest.mark.parametrize("seconds", [1, 10])
def test_what_comes_first_long_after_a_subscription_is_no_answer_to_it(seconds):
    """It happened then, so one that is silent meanwhile is mute."""
    pair = Pair(NATIVE)
    pair.gets(pair.a, both(1000, "1"))
    pair.loses(pair.b)
    pair.recv += 60_000_000_000
    other = pair.begins()
    pair.recv += seconds * 1_000_000_000
    assert pair.gets(other, both(70000, "2")) == []
    assert other.speaks is (seconds == 10)
    assert [gap.reason for gap in gaps(pair.passes(1.5))] == (["stale"] * 2 if seconds == 10 else [])


def test_a_state_that_the_exchange_repeats_late_after_a_subscription_is_no_news():
    pair = Pair("ticker:BTC-USDT")
    pair.gets(pair.a, ticker(1))
    pair.loses(pair.b)
    other = pair.begins()
    pair.recv += 10_000_000_000
    assert pair.gets(other, ticker(1)) == []
    assert not other.speaks
    pair.gets(other, ticker(2))
    assert other.speaks


def test_positions_without_a_time_of_their_push_are_told_by_what_they_hold():
    sub = "positions:BTC-USD-SWAP"

    def held(*sides: tuple[str, int, str]) -> dict[str, Any]:
        rows = [
            {"side": side, "position": size, "timestamp": f"2020-01-01T00:00:{second:02d}.000Z"}
            for side, second, size in sides
        ]
        return {"table": "swap/position", "data": [{"instrument_id": "BTC-USD-SWAP", "holding": rows}]}

    pair = Pair(sub, V3)
    first, second = held(("short", 9, "1"), ("long", 5, "1")), held(("long", 5, "1"))
    for message in first, second:
        assert words(pair.gets(pair.a, message))[-1] == "position"
        assert pair.gets(pair.b, message) == []
    pair.loses(pair.b)
    pair.recv += 10_000_000_000
    pair.loses(pair.a)
    other = pair.begins()
    assert words(pair.gets(other, held(("long", 5, "2"))))[-1] == "position"

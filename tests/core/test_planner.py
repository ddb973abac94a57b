"""Where subscriptions ride: within the limits, on as few connections as that takes, and they stay there."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from okstream.channels import Subscription
from okstream.dialects import Traits, load
from okstream.errors import ConfigError
from okstream.planner import Planner
from okstream.session.budget import Budget
from okstream.session.ledger import Ledger
from okstream.venues import V5_LIMITS

V5 = load("okx-v5")
FEW = replace(V5_LIMITS, deep_books=3, channel_connections=None)


def traits(text: str) -> Traits:
    channel, inst = text.split(":")
    return V5.traits(Subscription(channel, inst))


def placed(planner: Planner, *texts: str) -> list[int]:
    return [planner.place(one.key, one) for one in map(traits, texts)]


def test_everything_rides_on_one_connection_until_that_is_full():
    planner = Planner(FEW)
    assert placed(planner, "book:A-B", "ticker:A-B", "book:C-D", "book-rpi:A-B", "trades:A-B") == [0, 0, 0, 0, 0]
    assert placed(planner, "book:E-F", "ticker:E-F", "book5:E-F") == [1, 0, 0]
    assert planner.connections() == [0, 1]


def test_nothing_has_two_places():
    planner = Planner(FEW)
    assert placed(planner, *["book:A-B"] * 9) == [0] * 9
    assert planner.leave("books:A-B") == 0
    assert planner.leave("books:A-B") is None
    assert planner.connections() == []


def test_a_freed_place_is_used_again_and_nothing_moves():
    planner = Planner(FEW)
    texts = [f"book:{letter}-USDT" for letter in "ABCDEFG"]
    places = placed(planner, *texts)
    assert places == [0, 0, 0, 1, 1, 1, 2]
    assert planner.leave("books:B-USDT") == 0
    assert planner.leave("books:G-USDT") == 2
    assert planner.connections() == [0, 1]
    assert placed(planner, "book:H-USDT", "book:I-USDT") == [0, 2]
    assert placed(planner, *texts[2:6]) == places[2:6]
    assert planner.riders(0) == ("books:A-USDT", "books:C-USDT", "books:H-USDT")
    assert planner.riders(7) == ()


@pytest.mark.parametrize("other", ["book:A-B", "book50-l2-tbt:A-B"])
@pytest.mark.parametrize("reverse", [False, True])
def test_books_that_exclude_each_other_ride_apart_whichever_comes_first(other: str, reverse: bool):
    pair = [other, "book-l2-tbt:A-B"]
    planner = Planner(V5_LIMITS)
    assert placed(planner, *(pair[::-1] if reverse else pair), "book-l2-tbt:C-D", "book:E-F") == [0, 1, 0, 0]


def test_a_connection_is_no_longer_barred_once_what_barred_it_has_left():
    planner = Planner(V5_LIMITS)
    assert placed(planner, "book:A-B", "book50-l2-tbt:A-B", "book-l2-tbt:A-B") == [0, 0, 1]
    planner.leave("books:A-B")
    planner.leave("books-l2-tbt:A-B")
    assert placed(planner, "book-l2-tbt:A-B") == [1]
    planner.leave("books-l2-tbt:A-B")
    planner.leave("books50-l2-tbt:A-B")
    assert placed(planner, "book-l2-tbt:A-B") == [0]


def test_an_account_takes_no_more_connections_than_it_may_have():
    planner = Planner(replace(V5_LIMITS, deep_books=1, channel_connections=2))
    assert placed(planner, "book-l2-tbt:A-B", "book-l2-tbt:C-D") == [0, 1]
    with pytest.raises(ConfigError, match="connection 3 of an account that may have 2"):
        placed(planner, "book-l2-tbt:E-F")
    assert planner.leave("books-l2-tbt:E-F") is None
    planner.leave("books-l2-tbt:A-B")
    assert placed(planner, "book-l2-tbt:E-F") == [0]


def test_what_needs_no_account_takes_as_many_connections_as_it_needs():
    planner = Planner(replace(V5_LIMITS, deep_books=1, channel_connections=2))
    assert placed(planner, *(f"book:{n}-USDT" for n in range(5))) == [0, 1, 2, 3, 4]


def test_a_thousand_subscriptions_take_few_requests_on_each_connection():
    subs = [Subscription("book", f"COIN{n:04}-USDT-SWAP") for n in range(300)]
    subs += [Subscription("ticker", f"COIN{n:04}-USDT-SWAP") for n in range(700)]
    planner = Planner(V5_LIMITS)
    ledgers: dict[int, Ledger] = {}
    for sub in subs:
        one = V5.traits(sub)
        number = planner.place(one.key, one)
        if number not in ledgers:
            ledgers[number] = Ledger(V5_LIMITS.request_bytes, V5_LIMITS.ack_within, Budget(V5_LIMITS.requests))
        ledgers[number].want(one.key, V5.size(sub))
    by_key = {V5.traits(sub).key: sub for sub in subs}
    assert planner.connections() == list(ledgers) == list(range(10))
    for number, ledger in ledgers.items():
        requests = list(ledger.requests(0.0))
        assert len(requests) == 1 <= V5_LIMITS.requests
        sent = [V5.request(op, [by_key[key] for key in keys], request) for op, keys, request in requests]
        assert all(len(request) < 64 * 1024 for request in sent)
        assert [key for _, keys, _ in requests for key in keys] == list(planner.riders(number))


TEXTS = [f"{channel}:{inst}-USDT" for inst in "ABCD"
         for channel in ("book", "book-l2-tbt", "book50-l2-tbt", "book-rpi", "ticker")]  # fmt: skip


class Coming(RuleBasedStateMachine):
    """Subscriptions come and go at random, beside a plain account of where each one is."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = Planner(FEW)
        self.riding: dict[str, tuple[int, Traits]] = {}

    def on(self, number: int) -> list[Traits]:
        return [one for place, one in self.riding.values() if place == number]

    def fits(self, number: int, one: Traits) -> bool:
        others = self.on(number)
        apart = any(one.key in other.excludes or other.key in one.excludes for other in others)
        return not apart and sum(other.deep for other in others) + one.deep <= FEW.deep_books

    @rule(text=st.sampled_from(TEXTS))
    def place(self, text: str) -> None:
        one = traits(text)
        expected = next(number for number in range(99) if self.fits(number, one))
        if one.key in self.riding:
            expected = self.riding[one.key][0]
        assert self.planner.place(one.key, one) == expected
        self.riding[one.key] = expected, one

    @rule(text=st.sampled_from(TEXTS))
    def leave(self, text: str) -> None:
        key = traits(text).key
        place, _ = self.riding.pop(key, (None, None))
        assert self.planner.leave(key) == place

    @invariant()
    def what_rides_where_is_known_and_allowed(self) -> None:
        assert self.planner.connections() == sorted({place for place, _ in self.riding.values()})
        for number in self.planner.connections():
            riders = self.on(number)
            assert sorted(self.planner.riders(number)) == sorted(one.key for one in riders)
            assert sum(one.deep for one in riders) <= FEW.deep_books
            keys = {one.key for one in riders}
            assert all(keys.isdisjoint(one.excludes) for one in riders)


TestComing = Coming.TestCase
TestComing.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

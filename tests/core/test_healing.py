"""What is broken is asked for anew: at once where it stands alone, together with others, seldom if often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import HOUR, SIZE, asked, ledger, live, no, wanting

from okstream.session.budget import Budget
from okstream.session.ledger import Ledger


def test_what_was_once_halved_is_healed_together():
    one = wanting("a", "b", "c")
    asked(one)
    one.refused(no(number="1"), 0.0)
    for _, keys in asked(one, 2.5):
        for key in keys:
            one.acknowledged("subscribe", key)
    for key in ("a", "b", "c"):
        assert one.heal(key, 3.0)
    assert asked(one, 3.0) == [("unsubscribe", ["a", "b", "c"])]


def test_healing_unsubscribes_first_and_subscribes_once_that_is_acknowledged():
    one = live("a")
    assert one.heal("a", 0.0)
    assert not one.heal("a", 0.0)
    assert asked(one) == [("unsubscribe", ["a"])]
    assert asked(one) == []
    one.acknowledged("unsubscribe", "a")
    assert asked(one) == [("subscribe", ["a"])]
    one.acknowledged("subscribe", "a")
    assert one.live("a")


def test_a_timer_replaces_a_missing_acknowledgement():
    one = live("a")
    one.heal("a", 0.0)
    asked(one)
    assert asked(one, 10.0) == [("subscribe", ["a"])]
    assert one.acknowledged("unsubscribe", "a") == []
    one.acknowledged("subscribe", "a")
    assert one.live("a")
    assert one.deadline(10.0) is None


def test_an_unsubscribe_that_is_refused_means_that_there_was_nothing():
    one = live("a")
    one.heal("a", 0.0)
    asked(one)
    assert one.refused(no("a"), 0.0) == []
    assert asked(one) == [("subscribe", ["a"])]


def test_healing_over_and_over_slows_down_and_recovers():
    one, now, times = live("a"), 0.0, []
    while now < HOUR:
        if one.heal("a", now):
            times.append(now)
            asked(one, now)
            one.acknowledged("unsubscribe", "a")
            asked(one, now)
            one.acknowledged("subscribe", "a")
        now += 0.5
    assert times[:4] == [0.0, 3.0, 6.0, 10.0]
    assert len(times) < 25
    assert one.heal("a", now + 900)
    assert not one.heal("a", now + 900.5)


def test_healing_spends_the_reserve_and_is_not_blocked_by_what_is_new():
    one = live("a", limit=20)
    for number in range(16):  # 17 of 20 are not kept in reserve
        one.want(str(number), SIZE)
        assert len(asked(one)) == 1
    one.want("new", SIZE)
    assert asked(one) == []
    one.heal("a", 0.0)
    assert asked(one) == [("unsubscribe", ["a"])]
    deadline = one.deadline(0.0)
    assert deadline is not None
    assert deadline > 0.0, "nothing can be sent before: a link that looked again at once would spin"
    one.acknowledged("unsubscribe", "a")
    assert asked(one) == [("subscribe", ["a", "new"])]


def test_to_heal_too_soon_waits_and_is_not_forgotten():
    one = live("a")
    for now in (0.0, 0.5):
        one.heal("a", now)
        if now:
            assert asked(one, now) == []
            assert one.deadline(now) == 3.0
            now = 3.0
        assert asked(one, now) == [("unsubscribe", ["a"])]
        one.acknowledged("unsubscribe", "a")
        assert asked(one, now) == [("subscribe", ["a"])]
        one.acknowledged("subscribe", "a")
    assert one.deadline(3.0) is None


@pytest.mark.parametrize("end", ["unwant", "forget"])
def test_what_waits_to_be_healed_may_leave(end: str):
    one = live("a")
    one.heal("a", 0.0)
    asked(one)
    one.acknowledged("unsubscribe", "a")
    asked(one)
    one.acknowledged("subscribe", "a")
    assert not one.heal("a", 0.5)
    getattr(one, end)("a")
    assert asked(one, 1.0) == ([("unsubscribe", ["a"])] if end == "unwant" else [])


def test_what_was_asked_and_not_acknowledged_is_healed():
    one = wanting("a")
    assert not one.heal("a", 0.0)
    asked(one)
    assert one.heal("a", 0.0)
    assert asked(one) == [("unsubscribe", ["a"])]
    one.acknowledged("subscribe", "a")
    assert not one.live("a")
    one.acknowledged("unsubscribe", "a")
    assert asked(one) == [("subscribe", ["a"])]
    one.acknowledged("subscribe", "a")
    assert one.live("a")
    assert one.deadline(0.0) is None


def books(*keys: str, others: str = "") -> Ledger:
    """A ledger with books and `others`, all live."""
    one = ledger()
    for key in keys:
        one.want(key, SIZE, book=True)
    for key in others:
        one.want(key, SIZE)
    asked(one)
    for key in (*keys, *others):
        one.acknowledged("subscribe", key)
    return one


def heals(one: Ledger, now: float) -> list[list[str]]:
    """Ask what is to be asked, answer it all, and return the keys of each subscribe."""
    done = []
    while requests := asked(one, now):
        for op, keys in requests:
            done += [keys] if op == "subscribe" else []
            for key in keys:
                one.acknowledged(op, key)
    return done


def test_the_first_that_breaks_is_healed_at_once_and_those_after_it_together():
    one = books("a", "b", "c", "d")
    assert one.heal("a", 0.0)
    assert heals(one, 0.0) == [["a"]]
    for key, now in (("b", 0.2), ("c", 1.0)):
        assert not one.heal(key, now)
        assert heals(one, now) == []
    assert one.deadline(1.0) == 3.0
    assert heals(one, 3.0) == [["b", "c"]]


def test_nobody_is_waited_for_where_every_book_is_broken():
    one = books("a", "b", "c", others="t")
    one.heal("a", 0.0)
    heals(one, 0.0)
    one.heal("b", 0.5)
    assert heals(one, 0.5) == []
    one.heal("c", 0.7)
    assert heals(one, 0.7) == [["b", "c"]]


def test_what_is_no_book_waits_for_others_of_its_kind():
    one = books("a", others="tu")
    one.heal("a", 0.0)
    heals(one, 0.0)
    one.heal("t", 0.5)
    assert heals(one, 0.5) == []
    assert heals(one, 3.0) == [["t"]]


def test_a_book_alone_is_not_held_back_for_others():
    one = books("a")
    one.heal("a", 0.0)
    heals(one, 0.0)
    one.heal("a", 0.5)
    assert one.deadline(0.5) == 1.0, "it was healed just now, but there is nobody to wait for"
    assert heals(one, 1.0) == [["a"]]


def test_what_breaks_in_the_same_moment_is_asked_for_with_it_until_the_request_has_left():
    one = books("a", "b", "c", "d")
    assert one.heal("a", 5.0)
    assert one.heal("b", 5.0)
    assert asked(one, 5.0) == [("unsubscribe", ["a", "b"])]
    assert not one.heal("c", 5.0)
    assert asked(one, 5.0) == []


def test_the_answers_to_one_unsubscribe_are_awaited_together_but_not_for_long():
    one = books("a", "b", "c")
    one.heal("a", 0.0)
    one.heal("b", 0.0)
    assert asked(one) == [("unsubscribe", ["a", "b"])]
    one.acknowledged("unsubscribe", "a")
    assert asked(one, 0.1) == []
    assert one.deadline(0.1) == 1.0
    assert asked(one, 1.0) == [("subscribe", ["a"])]
    one.acknowledged("unsubscribe", "b")
    assert asked(one, 1.1) == [("subscribe", ["b"])]


@given(st.lists(st.floats(0, 2.9), min_size=30, max_size=30))
def test_thirty_books_that_break_within_three_seconds_cost_four_requests(moments: list[float]):
    one = books(*map(str, range(30)))
    broken = {str(number): moment - min(moments) for number, moment in enumerate(moments)}
    requests, healed, now = 0, set(), 0.0
    while len(healed) < 30:
        for key in [key for key, moment in broken.items() if moment <= now]:
            one.heal(key, now)
            del broken[key]
        while batches := asked(one, now):
            requests += len(batches)
            for op, keys in batches:
                for key in keys:
                    one.acknowledged(op, key)  # type: ignore[arg-type]
                healed |= set(keys)
        deadline = one.deadline(now)
        now = min([*broken.values(), *([] if deadline is None else [deadline])], default=now)
    assert requests <= 4
    assert now <= 3.0


def test_it_is_not_looked_at_again_and_again_while_answers_are_awaited_and_the_budget_is_spent():
    budget = Budget(7)
    one = Ledger(4096, 10.0, budget)
    for key in "abc":
        one.want(key, 40, True)
    ((_, keys, number),) = one.requests(0.0)
    for key in keys:
        one.acknowledged("subscribe", key, number)
    assert all(budget.take(0.0) for _ in range(4))
    one.heal("a", 10.0)
    one.heal("b", 10.0)
    ((_, _, number),) = one.requests(10.0)
    one.acknowledged("unsubscribe", "a", number)
    one.unwant("c")
    assert list(one.requests(10.0)) == []
    assert one.deadline(10.0) == 11.0

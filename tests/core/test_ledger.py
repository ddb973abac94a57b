"""Requests, replies and budgets: everything wanted ends up live or refused, whatever the replies look like."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import HOUR, SIZE, asked, ledger, live, no, wanting

from okstream.dialects import Refusal
from okstream.session.budget import Budget
from okstream.session.ledger import Ledger

BUSY = Refusal("60014", "Requests too frequent", retry=True)


class TestBudget:
    def test_a_share_is_kept_for_healing(self):
        budget = Budget(100)
        assert sum(budget.take(0.0) for _ in range(200)) == 85
        assert sum(budget.take(0.0, healing=True) for _ in range(200)) == 15
        assert not budget.take(HOUR - 1, healing=True)
        assert budget.take(HOUR + 1)

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_the_smallest_budgets_are_spent_and_come_back(self, limit: int):
        budget = Budget(limit)
        assert budget.take(0.0)
        assert budget.ready(1.0) >= 1.0
        assert budget.take(HOUR + 1)

    def test_without_a_limit_there_is_always_one_more(self):
        assert all(Budget(None).take(0.0) for _ in range(1000))

    @given(st.lists(st.tuples(st.floats(0, 900), st.booleans()), max_size=60), st.integers(1, 7))
    def test_what_is_said_to_be_ready_can_be_taken_then(self, steps: list[tuple[float, bool]], limit: int):
        budget, now, spent = Budget(limit), 0.0, []
        for wait, healing in steps:
            now = max(now + wait, budget.ready(now + wait, healing))
            assert budget.take(now, healing)
            spent.append(now)
            assert sum(then > now - HOUR for then in spent) <= limit


def test_everything_wanted_is_asked_in_one_request():
    assert asked(wanting("a", "b", "c")) == [("subscribe", ["a", "b", "c"])]


def test_requests_are_split_by_size():
    one = wanting(*map(str, range(300)), request_bytes=4096)
    requests = asked(one)
    assert [key for _, keys in requests for key in keys] == [str(number) for number in range(300)]
    assert max(SIZE * len(keys) for _, keys in requests) <= 4096 - 64
    assert len(requests) == 4


def test_a_refusal_by_name_leaves_the_others_alone():
    one = wanting("a", "b", "c")
    asked(one)
    assert [key for key, _ in one.refused(no("b"), 0.0)] == ["b"]
    one.acknowledged("subscribe", "a")
    one.acknowledged("subscribe", "c")
    assert one.live("a")
    assert one.live("c")
    assert one.deadline(0.0) is None


def test_a_refusal_by_name_comes_late_and_is_still_understood():
    one = wanting("a", "b")
    asked(one)
    one.acknowledged("subscribe", "a")
    list(one.requests(10.0))
    one.unwant("a")
    assert [key for key, _ in one.refused(no("b", "1"), 11.0)] == ["b"]


def test_a_refusal_without_a_name_belongs_to_the_one_that_was_passed_over():
    one = wanting("a", "b", "c")
    asked(one)
    assert one.acknowledged("subscribe", "a") == []
    assert one.refused(no(), 0.0) == []
    assert [key for key, _ in one.acknowledged("subscribe", "c")] == ["b"]


def test_as_many_refusals_as_are_left_belong_to_those():
    one = wanting("a", "b", "c")
    asked(one)
    one.acknowledged("subscribe", "a")
    assert one.refused(no(), 0.0) == []
    assert [key for key, _ in one.refused(no(), 0.0)] == ["b", "c"]


def test_an_acknowledgement_that_was_lost_does_not_make_its_argument_refused():
    # Passed over are a, whose acknowledgement was lost, and b, which was refused: one error for two.
    one = wanting("a", "b", "c")
    asked(one)
    assert one.refused(no(), 0.0) == []
    assert one.acknowledged("subscribe", "c") == []
    assert asked(one, 2.5) == [("subscribe", ["a"]), ("subscribe", ["b"])]


def test_an_error_of_unknown_origin_is_pinned_on_nobody_while_several_requests_are_out():
    one = wanting("a", "b", "c", request_bytes=64 + 2 * SIZE)
    assert asked(one) == [("subscribe", ["a", "b"]), ("subscribe", ["c"])]
    one.acknowledged("subscribe", "b")  # and that of a was lost
    assert one.refused(no(), 0.0) == []  # of c
    assert asked(one, 2.5) == []
    assert asked(one, 10.0) == [("subscribe", ["a", "c"])]
    one.acknowledged("subscribe", "a")
    assert [key for key, _ in one.refused(no(), 11.0)] == ["c"]


def test_what_nobody_answers_is_halved_with_fresh_numbers_once_an_error_came():
    one = wanting("a", "b", "c", "d")
    (first,) = one.requests(0.0)
    assert one.refused(no(number=first[2]), 0.0) == []
    halves = list(one.requests(2.5))
    assert [keys for _, keys, _ in halves] == [["a", "b"], ["c", "d"]]
    assert len({first[2], halves[0][2], halves[1][2]}) == 3


def test_a_late_acknowledgement_of_an_earlier_request_decides_nothing_in_a_later_one():
    one = wanting("a", "b", "c", "d")
    asked(one)
    one.refused(no(number="1"), 0.0)
    asked(one, 2.5)
    one.refused(no(number="2"), 2.5)
    assert one.acknowledged("subscribe", "b", "1") != [("b", no())]
    assert one.live("b")


def test_what_is_not_answered_in_time_is_asked_again_with_more_patience():
    one = wanting("a")
    asked(one)
    assert one.deadline(0.0) == 10.0
    assert asked(one, 9.9) == []
    assert asked(one, 10.0) == [("subscribe", ["a"])]
    assert one.deadline(10.0) == 30.0


def test_too_many_requests_hold_everything_and_keep_what_is_wanted():
    one = wanting("a", "b")
    asked(one)
    assert one.refused(BUSY, 0.0) == []
    one.want("c", SIZE)
    assert one.deadline(0.0) == 30.0
    assert asked(one, 29.9) == []
    assert asked(one, 30.0) == [("subscribe", ["a", "b", "c"])]


def test_an_error_for_each_argument_holds_no_longer_than_one():
    one = wanting("a", "b")
    asked(one)
    for _ in range(5000):
        one.refused(BUSY, 0.0)
    assert one.deadline(0.0) == 30.0


def test_the_longest_hold_has_an_end():
    one, now = wanting("a"), 0.0
    for _ in range(2000):
        asked(one, now)
        one.refused(BUSY, now)
        until = one.deadline(now)
        assert until is not None
        assert 30.0 <= until - now <= 600.0
        now = until


def test_an_unsubscribe_that_came_too_soon_is_asked_again():
    one = live("a", "b")
    one.unwant("a")
    assert one.heal("b", 0.0)
    assert asked(one) == [("unsubscribe", ["b", "a"])]
    one.refused(BUSY, 0.0)
    assert asked(one, 30.0) == [("unsubscribe", ["b", "a"])]
    one.acknowledged("unsubscribe", "a")
    one.acknowledged("unsubscribe", "b")
    assert asked(one, 30.0) == [("subscribe", ["b"])]


def test_to_unwant_and_want_again_before_the_answer_subscribes_afterwards():
    one = live("a")
    one.unwant("a")
    assert asked(one) == [("unsubscribe", ["a"])]
    one.want("a", SIZE)
    assert asked(one) == []
    one.acknowledged("unsubscribe", "a")
    assert asked(one) == [("subscribe", ["a"])]


def test_an_acknowledgement_from_before_the_unsubscribe_makes_nothing_live():
    one = wanting("a")
    asked(one)
    one.unwant("a")
    asked(one)
    one.want("a", SIZE)
    one.acknowledged("subscribe", "a")
    assert not one.live("a")
    one.acknowledged("unsubscribe", "a")
    assert asked(one) == [("subscribe", ["a"])]


def test_to_change_ones_mind_often_leaves_no_request_behind():
    one = live("a")
    for _ in range(3):
        one.unwant("a")
        asked(one)
        one.want("a", SIZE)
        one.unwant("a")
        asked(one)
    one.acknowledged("unsubscribe", "a")
    for now in range(0, 1000, 10):
        asked(one, float(now))
    assert one.deadline(1000.0) is None


def test_what_was_asked_without_an_answer_is_unsubscribed_from_too():
    one = wanting("a")
    asked(one)
    one.refused(BUSY, 0.0)
    one.unwant("a")
    assert asked(one, 30.0) == [("unsubscribe", ["a"])]


class Exchange:
    """Answers in order; refuses some keys, in one of several manners; loses some answers; is too busy at times."""

    def __init__(self, chance: random.Random, bad: set[str], manner: str) -> None:
        self.chance = chance
        self.bad = bad
        self.manner = manner
        self.serves: set[str] = set()
        self.queue: list[tuple[str, str | None, str]] = []
        self.fair = False

    def asks(self, op: str, keys: list[str], number: str) -> None:
        if not self.fair and self.chance.random() < 0.1:
            self.queue.append(("busy", None, number))
            return
        for key in keys:
            if op == "subscribe" and key in self.bad:
                self.queue.append(("error", key, number))
            else:
                (self.serves.add if op == "subscribe" else self.serves.discard)(key)
                self.queue.append((op, key, number))

    def answers(self, one: Ledger, now: float, *, all_of_it: bool = False) -> list[str]:
        """Answer some of what was asked; return the keys that were found to be refused."""
        refused: list[str] = []
        replies = len(self.queue) if self.fair or all_of_it else self.chance.randint(0, len(self.queue))
        for what, key, number in self.queue[:replies]:
            if not self.fair and self.chance.random() < 0.15:
                continue
            told = number if self.manner != "silent" else None
            if what == "busy":
                settled = one.refused(Refusal("60014", "busy", None, told, retry=True), now)
            elif what == "error":
                settled = one.refused(Refusal("60018", "no", key if self.manner == "named" else None, told), now)
            else:
                assert key is not None
                settled = one.acknowledged(what, key, told)  # type: ignore[arg-type]
            for refused_key, _ in settled:
                one.forget(refused_key)
                refused.append(refused_key)
        del self.queue[:replies]
        return refused


@pytest.mark.parametrize("manner", ["named", "numbered", "silent"])
@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), limit=st.sampled_from([30, 480]), request_bytes=st.sampled_from([300, 4096]))
def test_whatever_happens_everything_wanted_ends_up_live_or_refused(
    manner: str, seed: int, limit: int, request_bytes: int
):
    chance = random.Random(seed)
    keys = [f"k{number}" for number in range(12)]
    exchange = Exchange(chance, {key for key in keys if chance.random() < 0.2}, manner)
    one = ledger(request_bytes, limit)
    wanted: set[str] = set()
    refused: set[str] = set()
    sent: list[float] = []
    now = 0.0

    def answered(*, all_of_it: bool = False) -> None:
        before = one._held_until
        refused.update(exchange.answers(one, now, all_of_it=all_of_it))
        if one._held_until != before:
            assert one._held_until >= now + 30

    def go_on() -> None:
        held = now < one._held_until
        for op, asked_for, number in one.requests(now):
            assert not held, "nothing is asked while held"
            assert asked_for
            assert len(asked_for) == len(set(asked_for))
            assert SIZE * len(asked_for) <= request_bytes - 64 or len(asked_for) == 1
            sent.append(now)
            assert sum(then > now - HOUR for then in sent) <= limit
            exchange.asks(op, asked_for, number)
        deadline = one.deadline(now)
        assert deadline is None or deadline > now, "to look again at once would be of no use"

    for _ in range(80):
        step = chance.choice(["want", "want", "unwant", "heal", "wait", "wait", "answer", "answer", "go"])
        key = chance.choice(keys)
        if step == "want" and key not in refused:
            one.want(key, SIZE)
            wanted.add(key)
        elif step == "unwant":
            one.unwant(key)
            wanted.discard(key)
        elif step == "heal":
            one.heal(key, now)
        elif step == "wait":
            if manner == "silent":
                # An error that names nothing and comes after its time is up cannot be told from another's.
                answered(all_of_it=True)
            now += chance.choice([0.1, 3.0, 20.0])
        elif step == "answer":
            answered()
        go_on()
        assert refused <= exchange.bad, "nothing is refused that the exchange accepts"
    exchange.fair = True
    for _ in range(400):
        answered()
        go_on()
        assert refused <= exchange.bad
        deadline = one.deadline(now)
        if deadline is None and not exchange.queue:
            break
        now = max(now, deadline) if deadline is not None and not exchange.queue else now + 0.05
    wanted -= refused
    assert {key for key in keys if one.live(key)} == wanted
    assert wanted <= exchange.serves


def test_what_came_and_left_is_not_remembered_for_ever():
    one = ledger()
    for number in range(1000):
        key = str(number)
        one.want(key, SIZE)
        asked(one)
        one.acknowledged("subscribe", key)
        one.unwant(key)
        asked(one)
        one.acknowledged("unsubscribe", key)
    assert len(one._known) <= 256

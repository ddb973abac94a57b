"""Patterns: what they mean, what must be asked to know, and what was meant by one that means nothing."""

import re
import time
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okstream.errors import ConfigError
from okstream.patterns import Kind, kinds, matches, nearest, traded

LISTED = [
    "BTC-USDT",
    "BTC-USDC",
    "ETH-USDT",
    "BTC-USDT-SWAP",
    "BTC-USD-SWAP",
    "ETH-USDT-SWAP",
    "BTC-USD-260102",
    "BTC-USD-260327",
    "ADA-USD_UM_XPERP-310404",
    "BTC-USD-260109-60000-C",
    "BTC-USD-260109-60000-P",
    "BTC-USD-260109-62000-C",
    "BTC-ABOVE-DAILY-260224-1600-65000",
]

PART = st.text("AB*", max_size=6)
NAME = st.lists(st.text("AB", max_size=6), min_size=1, max_size=4).map("-".join)
PATTERN = st.lists(PART, min_size=1, max_size=4).map("-".join)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*-USDT", ["BTC-USDT", "ETH-USDT"]),
        ("BTC-*", ["BTC-USDT", "BTC-USDC"]),
        ("BTC-USD*", ["BTC-USDT", "BTC-USDC"]),
        ("*-USDT-SWAP", ["BTC-USDT-SWAP", "ETH-USDT-SWAP"]),
        ("BTC-USD-*", ["BTC-USD-SWAP", "BTC-USD-260102", "BTC-USD-260327"]),
        ("BTC-USD-2601*", ["BTC-USD-260102"]),
        ("BTC-USD-*-*-C", ["BTC-USD-260109-60000-C", "BTC-USD-260109-62000-C"]),
        ("BTC-USD-260109-60000-*", ["BTC-USD-260109-60000-C", "BTC-USD-260109-60000-P"]),
        ("*-*_XPERP-*", ["ADA-USD_UM_XPERP-310404"]),
        ("*", []),
        ("btc-*", []),
        ("BTC-USDT", ["BTC-USDT"]),
    ],
)
def test_a_star_stands_for_anything_but_a_dash(pattern, meant):
    assert [inst for inst in LISTED if matches(pattern, inst)] == meant


@given(PATTERN, NAME)
def test_a_pattern_means_what_the_same_glob_means_part_by_part(pattern, name):
    parts, names = pattern.split("-"), name.split("-")
    expected = len(parts) == len(names) and all(
        re.match(translate(part), one) for part, one in zip(parts, names, strict=True)
    )
    assert matches(pattern, name) == expected


@given(NAME, st.data())
def test_any_run_of_a_name_may_become_a_star(name, data):
    start = data.draw(st.integers(0, len(name)))
    end = data.draw(st.integers(start, len(name)))
    assert matches(f"{name[:start]}*{name[end:]}", name) == ("-" not in name[start:end])


@given(NAME)
def test_a_name_means_itself_and_stars_mean_every_name_of_as_many_parts(name):
    assert matches(name, name)
    assert matches("-".join("*" for _ in name.split("-")), name)
    assert not matches("-".join(["*", *("*" for _ in name.split("-"))]), name)


def test_many_stars_cost_no_more_than_one_pass():
    """A regular expression that backtracks would take longer than the universe has."""
    begun = time.perf_counter()
    assert not matches("A*" * 500 + "B", "A" * 5000)
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ("*-USDT", [Kind("SPOT")]),
        ("BTC-*", [Kind("SPOT")]),
        ("*-USDT-SWAP", [Kind("SWAP")]),
        ("*-USDT-S*", [Kind("SWAP"), Kind("FUTURES")]),
        ("*-USDT-SWAPP", [Kind("SWAP"), Kind("FUTURES")]),
        ("BTC-USD-*", [Kind("SWAP"), Kind("FUTURES")]),
        ("BTC-USD-2*", [Kind("FUTURES")]),
        ("BTC-USD-*-*-C", [Kind("OPTION", "BTC-USD")]),
    ],
)
def test_only_what_may_hold_a_match_is_asked_for(pattern, asked):
    assert list(kinds(pattern)) == asked


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*-USD-*-*-C", r"cannot have a star; write BTC-USD-\*-\*-C"),
        ("BTC-*-260109-*-*", "cannot have a star; write BTC-USD-260109"),
        ("*", r"stands for no dash\); write \*-USDT"),
        ("BTC*", "stands for no dash"),
        ("BTC-USD-*-*", "means no instrument"),
        ("BTC-ABOVE-DAILY-*-*-*", "means no instrument"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_to_write(pattern, says):
    with pytest.raises(ConfigError, match=says):
        kinds(pattern)


@given(st.sampled_from(LISTED[:-1]), st.data())
def test_what_a_pattern_means_is_found_where_it_is_asked(inst, data):
    """No match is missed because its kind was not asked for."""
    start = data.draw(st.integers(0, len(inst)))
    end = data.draw(st.integers(start, len(inst)))
    pattern = inst[:start] + re.sub("[^-]+", "*", inst[start:end]) + inst[end:]
    assert matches(pattern, inst)
    family = "-".join(pattern.split("-")[:2])
    kind = {2: "SPOT", 3: "SWAP" if inst.endswith("-SWAP") else "FUTURES", 5: "OPTION"}[inst.count("-") + 1]
    if kind != "OPTION":
        assert Kind(kind) in kinds(pattern)
    elif "*" not in family:
        assert kinds(pattern) == (Kind("OPTION", family),)
    else:
        with pytest.raises(ConfigError):
            kinds(pattern)


def test_tests_and_what_has_expired_are_not_traded():
    states = ["live", "preopen", "suspend", "post_only", "rebase", "settling", "test", "expired", None]
    rows = [{"instId": f"A-{number}", "state": state} for number, state in enumerate(states)]
    assert traded(rows) == {"A-0", "A-1", "A-2", "A-3", "A-4", "A-5", "A-8"}


def test_rows_without_a_name_are_passed_over():
    assert traded([{}, {"instId": None}, {"instId": ""}, {"instId": 7}, {"instId": "A-B"}]) == {"A-B"}


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*-USTD", "*-USDT"),
        ("btc-*", "BTC-*"),
        ("BCT-USD-*", "BTC-USD-*"),
        ("*-USDT-SWPA", "*-USDT-SWAP"),
        ("*-USDT-SWAPP", "*-USDT-SWAP"),
        ("QQQQ-*", None),
        ("BTC-USD-*-*-*-*-*", None),
    ],
)
def test_a_pattern_that_means_nothing_is_answered_with_the_nearest_that_does(pattern, meant):
    assert nearest(pattern, LISTED) == meant


@given(PATTERN, st.lists(NAME, max_size=5))
def test_what_is_suggested_means_something(pattern, names):
    meant = nearest(pattern, names)
    assert meant is None or any(matches(meant, name) for name in names)

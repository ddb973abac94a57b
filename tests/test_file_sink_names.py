"""What files are called: any value makes a safe name of its own, and a template says where each record goes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.filed import DAY, START

from okstream.errors import ConfigError
from okstream.files.names import Template, number, safe, value
from okstream.files.routes import Routes
from okstream.sinks.file import File

ANY = st.text(max_size=60) | st.none() | st.sampled_from(["", "_", ".", "..", "../x", "%", "%5F", "a/b", "a\0b", "%~"])


@given(ANY)
def test_any_value_makes_one_safe_name_that_can_be_read_back(given_value):
    name = safe(given_value)
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\ =:*?\"'<>|")
    assert not name.startswith(".")
    if "%~" not in name:
        assert value(name) == given_value


@given(ANY, ANY)
def test_no_two_values_share_a_name(one, other):
    assert (safe(one) == safe(other)) == (one == other)
    assert (safe(one, 45) == safe(other, 45)) == (one == other)


def test_a_value_that_is_too_long_ends_in_a_hash_and_says_that_it_cannot_be_read_back():
    name, other = safe("A" * 5000), safe("A" * 5001)
    assert len(name) <= 195
    assert name != other
    with pytest.raises(ValueError, match="only the beginning"):
        value(name)


@given(st.tuples(ANY, ANY, ANY, ANY, st.text(max_size=300)))
def test_no_value_leaves_the_folder_of_the_template_or_is_too_long_for_a_file(values):
    template = Template("/data/{venue}/{channel}-{inst}/{account}.{type}.{date}.jsonl.zst")
    path = template.path(values, START)
    assert path.count("/") == 4
    assert os.path.normpath(path) == path
    assert max(len(part) for part in path.split("/")) <= 255 - 40


def test_names_are_as_documented():
    template = Template("d/{venue}/{channel}/{inst}/{date}/{hour}-{type}.jsonl.zst")
    path = template.path(("okx", "trades", "BTC-USDT", None, "trade"), START + 13 * 3600 * 10**9)
    assert path == "d/okx/trades/BTC-USDT/2026-08-14/13-trade.jsonl.zst"
    assert str(template.numbered(path, 7)) == "d/okx/trades/BTC-USDT/2026-08-14/13-trade.000007.jsonl.zst"
    assert number("13-trade.000007.jsonl.zst.part") == ("13-trade.jsonl.zst", 7)
    assert (number("13-trade.jsonl"), number("a.000007.b.jsonl")) == (None, None)
    assert str(Template("d/{inst}").numbered("d/X", 1)) == "d/X.000001"
    assert str(Template("{date}.zst").root) == "."


def test_day_and_hour_are_those_of_utc():
    assert Routes(Template("{date}")).bounds(START + 5) == (START, START + DAY)
    assert Routes(Template("{date}/{hour}")).bounds(START - 1) == (START - 3600 * 10**9, START)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"path": "{instrument}.jsonl"}, "there is no field {instrument}; there are {venue} {channel} {inst}"),
        ({"path": "{inst!r}"}, "there is no field {inst}"),
        ({"path": "{date:%Y}"}, "there is no field {date}"),
        ({"path": "{inst"}, "write {{ for a brace"),
        ({"path": ""}, "is no name of a file"),
        ({"path": "data/"}, "is no name of a file"),
        ({"path": "a\0b"}, "is no name of a file"),
        ({"path": "{inst}" * 6}, "would be too long"),
        ({"path": "x.jsonl", "level": 0}, "level: 0 is none of zstd: 1 to 19"),
        ({"path": "x.jsonl", "rotate_mib": 0}, "rotate_mib: 0 is not above 0"),
        ({"path": "x.jsonl", "rotate_after": -1.0}, "rotate_after: -1.0 is not above 0"),
        ({"path": "x.jsonl", "open_files": 0}, "open_files: 0 is not above 0"),
        ({"path": "x.jsonl.zst", "compress": "none"}, "a path in .zst is zstd"),
        ({"path": "x.jsonl.gz"}, "only .zst is written"),
    ],
)
def test_an_option_that_cannot_be_is_named(options, complaint):
    with pytest.raises(ConfigError) as raised:
        File(**options)
    assert complaint in str(raised.value)

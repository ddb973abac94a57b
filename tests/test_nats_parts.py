"""The nats sink without a server: subjects, identities, acknowledgements, the table of what is on its way, options."""

import logging
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okstream.encoding import encode
from okstream.entries import Entry, Head
from okstream.errors import ConfigError
from okstream.records import Gap, Trade
from okstream.sinks.nats import Nats
from okstream.sinks.nats_acks import EXPECTED, MSG_ID, Ack, msg_id, read_ack, size
from okstream.sinks.nats_credentials import NatsCredentials, nats_credentials
from okstream.sinks.nats_delivery import order_keys
from okstream.sinks.nats_stream import StreamWish
from okstream.sinks.nats_subjects import Subjects, covered, token, untoken
from okstream.sinks.nats_window import Window

DAY_NS = 86_400 * 10**9
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)


def entry(inst: str | None = "BTC-USDT", identity: str = "1", **more: str | None) -> Entry:
    head = Head(identity, "ticker", "okx", "ticker", inst, None, 1, 20_778 * DAY_NS)
    for name, value in more.items():
        setattr(head, name, value)
    return Entry(b"{}\n", head)


# Subjects


def test_a_subject_has_a_token_for_each_field():
    assert Subjects("okstream.{venue}.{channel}.{inst}").of(entry()) == "okstream.okx.ticker.BTC-USDT"
    assert Subjects("{type}.{account}.{date}").of(entry(account="main")) == "ticker.main.2026-11-21"


def test_what_an_entry_has_not_is_an_underscore():
    assert Subjects("{venue}.{channel}.{inst}").of(entry(None, channel=None)) == "okx._._"


@given(st.none() | TEXT)
def test_tokens_are_read_back(value: str | None):
    made = token(value)
    assert untoken(made) == value
    assert made
    assert not set(made) & set(" \t\r\n.*>$")
    assert made.isascii()


@given(st.lists(st.none() | TEXT, unique=True))
def test_two_values_never_share_a_token(values: list[str | None]):
    assert len({token(value) for value in values}) == len(values)


@given(st.text(max_size=12))
def test_reading_a_token_returns_what_makes_it_or_raises_value_error(text: str):
    try:
        value = untoken(text)
    except ValueError:
        return
    assert untoken(token(value)) == value


def test_a_stream_listens_to_a_star_for_each_field():
    assert Subjects("okstream.{venue}.all.{inst}").pattern == "okstream.*.all.*"


TEMPLATES = ["", "a..b", "a.{b}", "{inst}.*", "a.>", "a b", "x-{inst}", "{venue}{inst}", "$JS.{inst}", "a.{inst", "{}"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_that_could_not_be_read_back_is_refused(template: str):
    with pytest.raises(ConfigError, match="subject"):
        Subjects(template)


TOKENS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4)


@given(TOKENS, TOKENS, st.booleans())
def test_a_stream_covers_a_pattern_when_it_takes_all_that_the_pattern_stands_for(
    pattern: list[str], subject: list[str], open_end: bool
):
    def takes(words: tuple[str, ...]) -> bool:
        head = all(one in ("*", word) for one, word in zip(subject, words, strict=False))
        return head and (len(words) > len(subject) if open_end else len(words) == len(subject))

    listened = ".".join([*subject, ">"] if open_end else subject)
    assert covered(".".join(pattern), [listened]) == all(takes(words) for words in _expanded(pattern))


def _expanded(pattern: list[str]) -> Iterable[tuple[str, ...]]:
    """Every subject of the words a, b and c that `pattern` stands for."""
    whole: list[tuple[str, ...]] = [()]
    for one in pattern:
        whole = [(*words, word) for words in whole for word in ("abc" if one == "*" else one)]
    return whole


# Identities


@given(TEXT.map(lambda text: f"okx:{text}"))
def test_an_identity_becomes_a_header_of_one_printable_word(identity: str):
    made = msg_id(entry(identity=identity))
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made
    assert 0 < len(made) <= 100


@given(st.lists(TEXT.filter(bool), unique=True, min_size=2))
def test_two_identities_never_share_a_header(identities: list[str]):
    assert len({msg_id(entry(identity=identity)) for identity in identities}) == len(identities)


def test_a_plain_identity_stays_readable_and_one_that_looks_like_a_hash_does_not_pass_for_one():
    trade = Trade("okx", "trades", "BTC-USDT", 1, 2, "7", "1", "1", "buy", 1)
    assert msg_id(Entry(encode(trade), trade)) == "okx:trades::BTC-USDT:7"
    hashed = msg_id(entry(identity="ü"))
    assert msg_id(entry(identity=hashed)) != hashed


def test_the_same_record_has_one_identity_in_two_processes_and_a_gap_of_each_its_own():
    one = Trade("okx", "trades", "BTC-USDT", 1, 2, "7", "1", "1", "buy", 1)
    other = Trade("okx", "trades", "BTC-USDT", 1, 999, "7", "1", "1", "buy", 1, origin="rest")
    assert msg_id(Entry(encode(one), one)) == msg_id(Entry(encode(other), other))

    def gap(recv: int, state: str) -> str:
        said = Gap("okx", "trades", "BTC-USDT", None, None, recv, "5f2c-1", state, "start", *[None] * 5)
        return msg_id(Entry(encode(said), said))

    assert len({gap(1, "open"), gap(2, "open"), gap(2, "closed")}) == 3


def test_the_size_of_a_message_is_what_the_server_counts():
    headers = {MSG_ID: "abc", EXPECTED: "S"}
    assert size(b"12345", headers) == len(b"NATS/1.0\r\nNats-Msg-Id: abc\r\nNats-Expected-Stream: S\r\n\r\n12345")


# Acknowledgements


def test_an_acknowledgement_says_stored_or_known_already():
    assert read_ack(None, b'{"stream":"S","seq":1}', "S") == Ack()
    assert read_ack(None, b'{"stream":"S","seq":1,"duplicate":true}', "S") == Ack(duplicate=True)


def test_a_refusal_says_whether_the_record_the_stream_or_the_moment_is_wrong():
    def refusal(code: int) -> Ack:
        ack = read_ack(None, orjson.dumps({"error": {"err_code": code, "description": "no"}, "stream": "S"}), "S")
        assert ack is not None
        assert ack.why == f"S: no ({code})"
        return ack

    assert refusal(10054).final
    assert refusal(10060).reopen
    assert not refusal(10077).final
    nobody = read_ack("503", b"", "S")
    assert nobody is not None
    assert nobody.reopen


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["stream", "seq", "error", "duplicate", "err_code"]), inner, max_size=4)
    ),
)


@given(st.binary(max_size=30) | JSON.map(orjson.dumps), st.none() | st.text(max_size=3))
def test_whatever_answers_is_an_acknowledgement_of_this_stream_or_none(data: bytes, status: str | None):
    ack = read_ack(status, data, "OKSTREAM")
    if ack is not None and not ack.why:
        said = orjson.loads(data)
        assert said["stream"] == "OKSTREAM"
        assert "seq" in said


# The table of what is on its way


@given(
    keys=st.lists(st.sampled_from("abc"), max_size=25),
    total=st.integers(1, 8),
    each=st.integers(1, 3),
    draw=st.data(),
)
def test_all_is_published_in_order_within_bounds_however_answers_come(
    keys: list[str], total: int, each: int, draw: st.DataObject
):
    """Answers come late, in any order, or never, until they are asked for again."""
    window = Window(enumerate(keys), total, each, 10.0)
    now, way, published, settled = 0.0, set[int](), list[int](), set[int]()
    while window.open:
        due = window.due(now)
        published += due
        way |= set(due)
        assert len(way) <= total
        for key in "abc":
            assert len([position for position in way if keys[position] == key]) <= each
        assert window.pending == sorted(set(range(len(keys))) - settled)
        if draw.draw(st.booleans()):
            assert window.deadline is not None
            now = window.deadline
            assert window.overdue(now - 0.1) == []
            assert window.overdue(now) == sorted(way)
        answered = draw.draw(st.sets(st.sampled_from(sorted(way)), min_size=1))
        assert all(window.settle(position) for position in answered)
        assert not any(window.settle(position) for position in answered)
        way -= answered
        settled |= answered
    assert settled == set(range(len(keys)))
    for key in "abc":
        of_key = [position for position in published if keys[position] == key]
        assert of_key == sorted(of_key)


def test_with_one_at_a_time_nothing_overtakes_what_is_refused():
    window = Window(enumerate("aab"), 10, 1, 10.0)
    assert window.due(0.0) == [0, 2]
    window.refuse(0, "full")
    assert window.open
    assert window.settle(2)
    assert not window.open
    assert window.due(0.0) == []
    assert (window.failure, window.pending) == ("full", [0, 1])


# Options


def test_a_wrong_option_is_named():
    for options, name in [
        ({"servers": "http://127.0.0.1"}, "servers"),
        ({"servers": "nats://127.0.0.1:99999"}, "servers"),
        ({"servers": []}, "servers"),
        ({"stream": "a.b"}, "stream"),
        ({"subject": "a.*"}, "subject"),
        ({"in_flight": 0}, "in_flight"),
        ({"ack_timeout": -1.0}, "ack_timeout"),
        ({"max_age": 60.0}, "max_age"),
        ({"inbox": "a.>"}, "inbox"),
        ({"tls_key": Path("key.pem")}, "tls_key"),
        ({"tls_ca": Path("/nowhere.pem")}, "/nowhere.pem"),
        ({"credentials": Path("/nowhere.toml")}, "/nowhere.toml"),
    ]:
        with pytest.raises(ConfigError, match=name):
            Nats(**options)  # type: ignore[arg-type]


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="credentials") as caught:
        Nats(servers="nats://me:marker-secret-9f2b@127.0.0.1:4222")
    assert "marker" not in str(caught.value)


def test_credentials_come_from_a_file_or_the_environment_and_are_never_shown(tmp_path: Path):
    file = tmp_path / "nats.toml"
    file.write_text('user = "me"\npassword = "marker-secret-9f2b"\n')
    file.chmod(0o600)
    found = nats_credentials(file, {"OKSTREAM_NATS_TOKEN": "marker-key-7c1e"})
    assert (found.user, found.password, found.token) == ("me", "marker-secret-9f2b", None)
    assert "marker" not in repr(found)
    assert nats_credentials(None, {"OKSTREAM_NATS_TOKEN": "t"}).token == "t"
    assert nats_credentials(None, {}) == NatsCredentials()
    assert "marker" not in repr(vars(Nats(credentials=file)))


OTHER_CONTENT = [
    "",
    "=",
    "token = 7",
    "pass = 'x'",
    'user = "marker-key-7c1e"',
    'user = "a"\npassword = "b"\ntoken = "marker-key-7c1e"',
    "-----BEGIN NATS USER JWT-----\nmarker-key-7c1e\n",
]


@pytest.mark.parametrize("content", OTHER_CONTENT)
def test_a_file_of_other_content_is_refused_without_showing_it(tmp_path: Path, content: str):
    file = tmp_path / "nats.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"nats\.toml") as caught:
        nats_credentials(file, {})
    assert "marker" not in str(caught.value)


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "nats.toml"
    file.write_text('token = "t"\n')
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        nats_credentials(file, {})
    assert "chmod 600" in caplog.text


def fails_without(library: str, options: str) -> str:
    """Return what the sink says in a process of its own, where `library` cannot be imported."""
    script = (
        f"import sys; from pathlib import Path; sys.modules[{library!r}] = None\n"
        "from okstream.errors import ConfigError\nfrom okstream.sinks.nats import Nats\n"
        f"try: Nats({options})\nexcept ConfigError as error: sys.exit(str(error))\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30).stderr


def test_without_nats_py_the_sink_says_what_to_install():
    assert "pip install 'okstream[nats]'" in fails_without("nats", "")


def test_a_creds_file_without_the_library_that_reads_it_says_what_to_install(tmp_path: Path):
    file = tmp_path / "nats.creds"
    jwt = "-----BEGIN NATS USER JWT-----\nmarker-key-7c1e\n------END NATS USER JWT------\n"
    file.write_text(f"{jwt}\n-----BEGIN USER NKEY SEED-----\nSU{'A' * 56}\n------END USER NKEY SEED------\n")
    file.chmod(0o600)
    said = fails_without("nkeys", f"credentials=Path({str(file)!r})")
    assert "pip install 'nats-py[nkeys]'" in said
    assert "marker" not in said


def test_nats_py_is_imported_when_it_is_needed_and_not_before():
    script = "import sys\nfrom okstream.sinks.nats import Nats\nNats()\nassert 'nats' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_a_stream_that_is_more_than_asked_for_has_not_drifted():
    wish = StreamWish(name="S", pattern="a.*", duplicate_window=120.0)
    better = {"subjects": ["a.>"], "duplicate_window": 600 * 10**9, "max_age": 10**15, "storage": "memory"}
    assert wish.drift(better) == []
    assert wish.unusable(better) is None
    assert wish.unusable({"subjects": ["a.b"]}) is not None
    assert wish.unusable({"subjects": ["a.>"], "no_ack": True}) is not None


def test_what_is_said_of_a_whole_subscription_keeps_its_place_among_the_records_of_its_instruments():
    wide = [entry(None, "gap", channel="orders"), entry("BTC-USDT", "1", channel="orders"), entry("ETH-USDT", "2")]
    assert order_keys(wide) == [("okx", "orders", None), ("okx", "orders", None), ("okx", "ticker", None, "ETH-USDT")]

"""
What every dialect must keep, tested on its frames.

A frame is a file in tests/frames/<dialect>/ that holds one message as the exchange sends it, inflated. A new
dialect is tested here as soon as it stands in the table and has frames.
"""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from okstream import records
from okstream.channels import Subscription, parse
from okstream.dialects import _MODULES, Ack, Push, Refusal, Traits, load
from okstream.dialects.signing import Credentials
from okstream.encoding import encode
from okstream.errors import ConfigError, DecodeError
from okstream.identities import identity

FRAMES = Path(__file__).parents[1] / "frames"
DIALECTS = {name: dialect for name in _MODULES if hasattr(dialect := load(name), "read")}
RECV = 1_780_000_002_000_000_000
USERS = frozenset({"orders", "fills", "account", "positions"})

INSTRUMENTS = [
    *["BTC-USDT", "ETH-USDT-SWAP", "BTC-USD-SWAP", "BTC-USD", "BTC-USD-THIS-WEEK", "BTC-USD-NEXT-WEEK"],
    *["BTC-USD-QUARTER", "BTC-CNY", "BTC-USD-191227", "BTC-USD-210423-64000-C", "BTC"],
]


def frames(name):
    return {path.stem: path.read_bytes().strip() for path in sorted((FRAMES / name).glob("*.json"))}


ALL_FRAMES = [(name, stem) for name in DIALECTS for stem in frames(name)]


def account(channel):
    return "main" if channel in USERS else None


def traits(dialect, sub):
    try:
        return dialect.traits(sub)
    except ConfigError:
        return None


def instrument_of(key):
    """Guess the instruments that a key speaks of, in the spelling of today."""
    tail = key.rpartition(":")[2]
    parts = key.split("_")
    return {tail, *tail.split(","), *("-".join(pair).upper() for pair in pairwise(parts))}


@cache
def subscriptions_of(name, key):
    """Find the subscriptions whose pushes have this key: a user may have named the channel in two ways."""
    dialect = DIALECTS[name]
    items = [tail] if (tail := key.partition(":")[2]) else []
    wanted = []
    for inst in [None, *INSTRUMENTS, *sorted(instrument_of(key))]:
        wanted += [Subscription(channel, inst or None) for channel in dialect.CHANNELS]
    for channel in [*dialect.CHANNELS, key.partition(":")[0], key]:
        try:
            wanted += parse(":".join([channel, *items]))
        except ConfigError:
            continue
    return [
        replace(sub, account="main") if found.login else sub
        for sub in dict.fromkeys(wanted)
        if (found := traits(dialect, sub)) and found.key == key
    ]


def decoded(name, push):
    """Return what every decoder of the push's subscriptions makes of it; DecodeError goes up."""
    subs = subscriptions_of(name, push.key)
    return [record for sub in subs for record in DIALECTS[name].decoder(sub, name)(push.payload, RECV)]


def check(record):
    """Test what is promised of every record: it encodes, in order, exact, and its identity can be asked for."""
    line = encode(record)
    back = json.loads(line, parse_float=lambda number: pytest.fail(f"{number} is not exact"))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert type(record) is records.TYPES[back["type"]]
    assert back["recv"] == RECV
    order = [name for name in record.__dataclass_fields__ if name in back]
    assert list(back) == order
    assert "" not in {value for value in back.values() if isinstance(value, str)}
    hash(identity(record))


@pytest.fixture(params=DIALECTS)
def name(request):
    return request.param


def test_the_table_is_complete():
    assert {"okx-v5"} <= DIALECTS.keys() <= _MODULES.keys()
    for name, dialect in DIALECTS.items():
        assert name == dialect.NAME


@pytest.mark.parametrize(("name", "stem"), ALL_FRAMES)
def test_every_frame_is_read_and_decoded(name, stem):
    for message in DIALECTS[name].read(frames(name)[stem]):
        if isinstance(message, Push) and message.key:
            for record in decoded(name, message):
                check(record)


@pytest.mark.parametrize(("name", "stem"), ALL_FRAMES)
def test_a_route_leads_where_the_message_belongs(name, stem):
    """Frames with one token are pushes of one subscription; what is no push has none."""
    dialect, text = DIALECTS[name], frames(name)[stem]
    token = dialect.route(text)
    if token is None:
        return
    messages = dialect.read(text)
    assert all(isinstance(message, Push) for message in messages)
    keys = {message.key for message in messages}
    assert len(keys) == 1
    for other in frames(name).values():
        if dialect.route(other) == token:
            assert {message.key for message in dialect.read(other)} == keys


def asked(dialect):
    """Return one subscription of each channel that this dialect can ask for."""
    found = {}
    for channel in dialect.CHANNELS:
        for inst in [None, *INSTRUMENTS]:
            for args in ((), (("instType", "SWAP"),), (("business", "futures"),)):
                sub = Subscription(channel, inst, args, account(channel))
                if channel not in found and traits(dialect, sub):
                    found[channel] = sub
    return found


def test_every_channel_can_be_asked_for_and_has_traits_and_a_decoder(name):
    dialect = DIALECTS[name]
    found = asked(dialect)
    assert found.keys() == dialect.CHANNELS.keys()
    for sub in found.values():
        its = dialect.traits(sub)
        assert isinstance(its, Traits)
        assert its.login or sub.channel not in USERS
        assert callable(dialect.decoder(sub, name))


def test_two_subscriptions_never_share_a_key(name):
    dialect = DIALECTS[name]
    keys = {}
    for channel in dialect.CHANNELS:
        for inst in INSTRUMENTS:
            sub = Subscription(channel, inst, (), account(channel))
            if its := traits(dialect, sub):
                assert keys.setdefault(its.key, sub) == sub


def test_a_key_tells_what_was_subscribed_to(name):
    dialect = DIALECTS[name]
    for sub in asked(dialect).values():
        key = dialect.traits(sub).key
        found = dialect.subscription(key)
        assert (found.channel, found.inst, dialect.traits(found).key) == (sub.channel, sub.inst, key)
    for stem, text in frames(name).items():
        for message in dialect.read(text):
            if isinstance(message, Push) and subscriptions_of(name, message.key):
                assert dialect.traits(dialect.subscription(message.key)).key == message.key, stem
    assert dialect.subscription("") is None
    assert dialect.subscription("no such thing") is None


def test_requests_are_json_and_as_long_as_said(name):
    dialect = DIALECTS[name]
    subs = list(asked(dialect).values())
    for op in ("subscribe", "unsubscribe"):
        one, whole = dialect.request(op, subs[:1], "17"), dialect.request(op, subs, "17")
        assert json.loads(one)
        assert json.loads(whole)
        assert len(whole) - len(one) <= sum(dialect.size(sub) for sub in subs)
        assert len(whole) > len(one)


def test_a_login_names_the_key_and_never_the_secret(name):
    login = DIALECTS[name].login(Credentials("the-api-key", "the-secret", "the-passphrase"), 1_780_000_000_123)
    assert b"the-api-key" in login
    assert b"the-secret" not in login
    assert json.loads(login)


def test_an_unknown_channel_is_a_config_error_that_says_what_exists(name):
    with pytest.raises(ConfigError, match="ticker"):
        DIALECTS[name].traits(Subscription("tickr", "BTC-USDT"))


JUNK = [
    b"",
    b" ",
    b"null",
    b"1",
    b'"text"',
    b"\xff\xfe",
    b"<html>",
    b"NaN",
    b"[NaN]",
    b"{",
    b"[" * 100_000,
    b'{"":' * 5000,
]


@pytest.mark.parametrize("junk", JUNK, ids=[repr(junk[:12]) for junk in JUNK])
def test_junk_raises_a_decode_error(name, junk):
    with pytest.raises(DecodeError):
        DIALECTS[name].read(junk)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["0", "1", "-1", "1.5", "", "1e5", "BTC-USDT", "update", "9" * 25, "2021-04-17T16:49:46.174Z"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(
    "event channel arg args data table action code msg id errorCode message success result error_code".split()
)


def only_as_promised(name, text):
    """Read `text` and decode what it pushes: records that can be written, or DecodeError."""
    try:
        messages = DIALECTS[name].read(text)
    except DecodeError:
        return
    DIALECTS[name].route(text)
    for message in messages:
        if isinstance(message, Ack | Refusal):
            assert message.request is None or isinstance(message.request, str)
            assert message.key is None or isinstance(message.key, str)
        if isinstance(message, Push):
            try:
                found = decoded(name, message)
            except DecodeError:
                continue
            for record in found:
                identity(record)
                json.loads(encode(record))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=JSON | st.dictionaries(WORDS, JSON, max_size=5) | st.lists(st.dictionaries(WORDS, JSON), max_size=2))
def test_whatever_json_comes_the_answer_is_messages_or_a_decode_error(name, message):
    only_as_promised(name, json.dumps(message).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=200))
def test_whatever_bytes_come_the_answer_is_messages_or_a_decode_error(name, text):
    only_as_promised(name, text)


def paths(value, here=()):
    """Yield the way to every part of a JSON value."""
    yield here
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*here, key))


def replaced(value, way, new):
    """Return `value` with the part at `way` replaced, or removed where `new` is ...."""
    if not way:
        return None if new is ... else new
    copy = value.copy()
    if new is ... and len(way) == 1:
        del copy[way[0]]
    else:
        copy[way[0]] = replaced(copy[way[0]], way[1:], new)
    return copy


@pytest.mark.parametrize("name", [name for name in DIALECTS if frames(name)])
@settings(max_examples=250)
@given(data=st.data())
def test_a_frame_with_one_part_changed_is_records_or_a_decode_error(name, data):
    stem = data.draw(st.sampled_from(sorted(frames(name))))
    message = json.loads(frames(name)[stem])
    way = data.draw(st.sampled_from(sorted(paths(message), key=repr)))
    only_as_promised(name, json.dumps(replaced(message, way, data.draw(JSON | st.just(...)))).encode())


@pytest.mark.parametrize("name", [name for name in DIALECTS if frames(name)])
@given(data=st.data())
def test_a_frame_with_bytes_cut_or_changed_is_records_or_a_decode_error(name, data):
    text = bytearray(frames(name)[data.draw(st.sampled_from(sorted(frames(name))))])
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    only_as_promised(name, bytes(text))


def test_the_frames_of_okx_v5_all_find_their_subscription():
    """Else the tests above would decode nothing."""
    for text in frames("okx-v5").values():
        for message in DIALECTS["okx-v5"].read(text):
            if isinstance(message, Push):
                assert subscriptions_of("okx-v5", message.key)
                assert decoded("okx-v5", message)

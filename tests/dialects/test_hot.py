"""Books whose levels are cut out as text: what comes of it is what a full parse gives, whatever the bytes."""

import copy
import pickle
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from okstream.book import COMPILED
from okstream.channels import Subscription
from okstream.dialects import Push, hot, integer, load, okex_v3
from okstream.dialects.okex_v3_rows import millis
from okstream.encoding import encode
from okstream.errors import DecodeError
from okstream.records import Book

V5 = (
    '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["8476.98","415","0","13"],'
    '["8477","0","0","0"]],"bids":[["8476.97","256","0","12"]],"ts":"1597026383085","checksum":-855196043,'
    '"prevSeqId":123456,"seqId":123457}]}'
)
V3 = (
    '{"table":"spot/depth","action":"update","data":[{"instrument_id":"BTC-USDT","asks":[["9342","0.5","0","2"]],'
    '"bids":[["9341.1","1","0","1"],["9341","2","0","1"]],"timestamp":"2020-07-24T09:41:05.316Z","checksum":-123}]}'
)
BOOKS = {"okx-v5": V5, "okex-v3": V3}
SUB = Subscription("book", "BTC-USDT")


@pytest.fixture(scope="module", autouse=True, params=[False, True], ids=["python", "compiled"])
def _of_each_kind(request):
    if request.param and not COMPILED:
        pytest.skip("the compiled part was not built: there is no compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hot, "COMPILED", request.param)
        yield


def quick(name, text):
    dialect = load(name)
    return dialect.decoder(SUB, "okx")(dialect.payload(text), 7)


def careful(name, text):
    dialect = load(name)
    (push,) = dialect.read(text)
    assert isinstance(push, Push)
    assert push.key == dialect.traits(SUB).key
    return dialect.decoder(SUB, "okx")(push.payload, 7)


@pytest.mark.parametrize("name", BOOKS)
def test_levels_stay_text_until_somebody_looks(name):
    text = BOOKS[name].encode()
    (book,) = quick(name, text)
    (whole,) = careful(name, text)
    assert book.sides is not None
    assert encode(book) == encode(whole)
    assert (book.bids, book.asks) == (whole.bids, whole.asks)
    assert book == whole
    assert repr(book) == repr(whole)


@pytest.mark.parametrize("made", [copy.copy, copy.deepcopy, replace, lambda book: pickle.loads(pickle.dumps(book))])
def test_a_copy_has_the_levels(made):
    (whole,) = careful("okx-v5", V5.encode())
    (book,) = quick("okx-v5", V5.encode())
    assert made(book) == whole
    assert encode(made(book)) == encode(whole)


def test_a_side_may_be_empty():
    without = V5.replace('[["8476.97","256","0","12"]]', "[]")
    (book,) = quick("okx-v5", without.encode())
    assert book.sides is not None
    assert (book.bids, len(book.asks)) == ([], 2)


def test_a_book_without_levels_has_none():
    book = Book.__new__(Book)
    with pytest.raises(AttributeError):
        assert book.bids


OTHERWISE = {
    "a number between": ('"13"],', '"13"]1,'),
    "numbers": ('"8476.98"', "8476.98"),
    "a price that is no number": ('"8476.98"', '"8476b98"'),
    "names in another order": ('"ts":"1597026383085"', '"ts":"1597026383085","x":[]'),
    "a name twice": ('"seqId":123457', '"seqId":123457,"asks":[]'),
    "null at last": ('"seqId":123457', '"seqId":123457,"asks":null'),
    "a name within a name": ('{"asks"', '{"x\\"asks"'),
    "two rows": ('"seqId":123457}', '"seqId":123457},{"asks":[],"bids":[],"ts":"1","seqId":1,"prevSeqId":0}'),
    "no row": ('"seqId":123457}]', '"seqId":123457}],"data":[]'),
    "rows of another object": ('"data":[{', '"other":[{'),
    "a number without end": ('"seqId":123457', '"seqId":123457,"x":' + "1" * 400),
    "a long head": ('{"arg"', '{"x":"' + "y" * 1024 + '","arg"'),
    "cut off": ('"seqId":123457}]}', '"seqId":123457}]'),
}


@pytest.mark.parametrize("old", OTHERWISE.values(), ids=OTHERWISE)
def test_what_looks_otherwise_is_parsed_whole_or_refused(old):
    agree("okx-v5", V5.replace(*old).encode())


def agree(name, text):
    """The short way gives what the long one does, or refuses; the session takes the long one then."""
    try:
        records = quick(name, text)
    except DecodeError:
        return
    assert [encode(record) for record in records] == [encode(record) for record in careful(name, text)]


@pytest.mark.parametrize("action", ["update", "snapshot"])
def test_what_stands_before_the_data_is_not_remembered_if_it_is_long(action):
    """The last thousand of them are; the exchange decides how long they are."""
    asked = []
    cut = hot.cutter(SUB, "okx", CUTTERS["okx-v5"][0], integer, lambda head: asked.append(head) or action)
    for pad in (0, 900, 1024, 100_000):
        cut(V5.replace('{"arg"', '{"x":"' + "y" * pad + '","arg"').encode(), 7)
    assert [len(head) > 900 for head in asked] == [False, True]


PIECES = [
    '"asks":[', '"bids":[', '],"bids":[', '"data":[{', '}]', '"', "\\", '\\"', "[", "]", "{", "}", ",", ":", "b", "1",
    '["1","2"]', '["1","2","0","1"]', '["1",2]', '["1"]', '"asks":[],', '"asks":null,', '"data":[],', '"action":"x",',
    '"instrument_id":"ETH-USDT",', "},{",
]  # fmt: skip


@st.composite
def mutated(draw):
    """Return a book's message with some pieces put in, taken out or repeated."""
    text = BOOKS[name := draw(st.sampled_from(list(BOOKS)))]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        stop = draw(st.integers(at, min(at + 40, len(text))))
        piece = draw(st.sampled_from(PIECES) | st.just("") | st.just(text[at:stop] * 2))
        text = text[:at] + piece + text[stop:]
    return name, text.encode()


CUTTERS = {
    "okx-v5": (hot.Names("ts", None, "seqId", "prevSeqId", "checksum"), integer, lambda head: "update"),
    "okex-v3": (hot.Names("timestamp", "instrument_id", None, None, "checksum"), millis, lambda head: "update"),
}


def shown(book):
    return book and [getattr(book, name) for name in (*Book.__annotations__, "sides", "venue", "channel", "inst", "ts")]


def cut_by_both(name, text):
    """Whatever the compiled part cuts, Python cuts, too; return whether it did."""
    names, time, action = CUTTERS[name]
    one = hot.cutter(SUB, "okx", names, time, action)(text, 7)
    other = hot.Cutter(SUB, "okx", names, time, action)(text, 7)
    assert one is None or shown(one) == shown(other)
    return one is not None


@given(mutated())
def test_what_is_cut_is_what_python_cuts(message):
    cut_by_both(*message)


VALUES = (
    st.integers(-(10**20), 10**20).map(str)
    | st.sampled_from(["0", "-0", "007", "null", "1.5", '""', '"x\u00e9"', '"é"', '"\\"', '"7\n"', "true", "-", ""])
    | st.from_regex(r'"-?[0-9]{0,20}"', fullmatch=True)
    | st.from_regex(r'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{3}Z?"', fullmatch=True)
    | st.datetimes().map(lambda at: f'"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"')
)


@given(st.sampled_from(["okx-v5", "okex-v3"]), st.data())
def test_values_are_cut_as_python_cuts_them(name, data):
    text = BOOKS[name]
    old = data.draw(st.sampled_from(re.findall(r'(?<=":)(?:"[^"]+"|-?\d+)(?=[,}])', text.partition('"data"')[2])))
    cut_by_both(name, text.replace(old, data.draw(VALUES)).encode())


@given(st.datetimes())
def test_usual_messages_are_cut(at):
    instant = f"{at.year:04d}-{at:%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    assert cut_by_both("okex-v3", V3.replace("2020-07-24T09:41:05.316Z", instant).encode())
    assert cut_by_both("okx-v5", V5.replace("1597026383085", str(at.year * at.microsecond)).encode())


@given(
    mutated() | st.lists(st.sampled_from(PIECES), max_size=6).map("".join).map(str.encode).map(lambda text: ("", text))
)
def test_a_message_leads_where_python_has_it_lead(message):
    compiled = pytest.importorskip("okstream._compiled", reason="the compiled part was not built")
    for text in (message[1], b'{"table":"spot/depth"' + message[1], V3.encode() + message[1], message[1] + V3.encode()):
        token = compiled.token(text, okex_v3._PUBLIC, okex_v3._INST)
        assert token == okex_v3._route(text) or (token is None and text.partition(okex_v3._INST)[2].count(b'"') == 0)


@given(mutated())
@example(("okex-v3", V3.replace("BTC", "ETH").encode()))
def test_both_ways_agree_on_anything(message):
    name, text = message
    dialect = load(name)
    token = dialect.route(text)
    if token is not None and token == dialect.route(BOOKS[name].encode()):
        agree(name, text)

"""Records as lines, their identities, and docs/records.md, which is their schema."""

import json
import re
import typing
from dataclasses import fields, replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from okstream import encoding, records
from okstream.encoding import encode
from okstream.identities import content as content_of
from okstream.identities import identity
from okstream.records import GAP_REASONS, SCHEMA, TYPES, Gap, Native, Record, Status, UserRecord

PAGE = (Path(__file__).parents[1] / "docs" / "records.md").read_text(encoding="utf-8")
STATEMENTS = {"gap", "status"}


def names(kind):
    return [field.name for field in fields(kind)]


HEAD = ["type", "venue", "channel", "inst", "account", "ts", "recv"]


# --- making records of any content ---

LEAVES = {
    str: st.text(min_size=1, max_size=12)
    | st.sampled_from(["0.10", '"account":null,', ',"origin":null}', "\\", "1E-8"]),
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    type(None): st.none(),
}
ANY = st.recursive(
    st.none() | st.booleans() | LEAVES[int] | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["account", "origin", "x", "ts"]), inner)
    ),
    max_leaves=8,
)
ROWS = st.lists(st.lists(st.text("0123456789.", min_size=1, max_size=9), min_size=2, max_size=4), max_size=3)


def values_for(hint):
    if hint is typing.Any:
        return ANY
    if hint == dict[str, typing.Any]:
        return st.dictionaries(st.sampled_from(["account", "origin", "x"]), ANY)
    if hint == list[records.Row]:
        return ROWS
    return st.one_of([LEAVES[one] for one in typing.get_args(hint) or (hint,)])


def any_of(kind):
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: values_for(hints[name]) for name in names(kind) if name != "type"})


ANY_RECORD = st.one_of([any_of(kind) for kind in TYPES.values()])
ANY_DATA = st.one_of([any_of(kind) for name, kind in TYPES.items() if name not in STATEMENTS])


@pytest.fixture(params=TYPES)
def kind(request):
    return TYPES[request.param]


def plain(kind, **more):
    """Return a record of `kind` with something in every field."""
    hints = typing.get_type_hints(kind)
    samples = {str: "0.10", int: 7, bool: True, dict: {"k": ""}, list: [["1", "2"]]}

    def sample(hint):
        if hint is typing.Any:
            return {"k": ["", None]}
        one = (typing.get_args(hint) or (hint,))[0]
        return samples[typing.get_origin(hint) if typing.get_origin(hint) in samples else one]

    return kind(**{name: sample(hints[name]) for name in names(kind) if name != "type"} | more)


# --- lines ---


def test_every_key_stands_in_the_order_of_the_class(kind):
    assert list(json.loads(encode(plain(kind)))) == names(kind)


def test_every_record_begins_with_its_head(kind):
    head = [name for name in HEAD if name != "account" or issubclass(kind, UserRecord | Native | Gap | Status)]
    assert names(kind)[: len(head)] == head
    assert issubclass(kind, Record | UserRecord | Native | Gap | Status)


def test_a_record_is_one_line_that_ends_with_a_newline(kind):
    line = encode(plain(kind, venue="a\nb"))
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")


def test_origin_is_left_out_where_there_is_none_and_is_the_last_key(kind):
    if "origin" not in names(kind):
        assert kind in (Gap, Status)
        return
    assert names(kind)[-1] == "origin"
    assert "origin" not in json.loads(encode(plain(kind, origin=None)))
    assert json.loads(encode(plain(kind, origin="rest")))["origin"] == "rest"


@pytest.mark.parametrize("kind", [Native, Gap, Status])
def test_account_is_left_out_where_there_is_none(kind):
    tricky = '"account":null,'
    record = plain(kind, account=None, channel=tricky, inst=tricky)
    back = json.loads(encode(record))
    assert "account" not in back
    assert (back["channel"], back["inst"]) == (tricky, tricky)
    assert json.loads(encode(plain(kind, account="main")))["account"] == "main"


def test_nothing_that_looks_like_a_left_out_key_is_cut_elsewhere():
    data = {"account": None, "x": 1, "origin": None}
    native = Native("okx", "price-limit", None, None, None, 7, data)
    assert json.loads(encode(native))["data"] == data
    status = Status("okx", None, None, None, None, 7, "live", data)
    assert json.loads(encode(status))["detail"] == data


def test_a_null_stays_a_null_and_an_integer_an_integer():
    line = encode(Status("okx", None, None, None, None, 1_786_613_174_901_234_567, "ended", None))
    assert line == (
        b'{"type":"status","venue":"okx","channel":null,"inst":null,"ts":null,"recv":1786613174901234567,'
        b'"state":"ended","detail":null}\n'
    )


@pytest.mark.parametrize("text", ["0.10", "0.00000001", "1E-8", "100", "63707.30", "-0.0", "9" * 40])
def test_numbers_keep_the_text_of_the_exchange(text):
    record = plain(records.Trade, price=text, size=text)
    assert f'"price":"{text}","size":"{text}"'.encode() in encode(record)


@given(ANY_RECORD)
def test_whatever_a_record_holds_reads_back_equal(record):
    line = encode(record)
    back = orjson.loads(line)
    kind = TYPES[back.pop("type")]
    assert kind is type(record)
    optional = {name: None for name in ("account", "origin") if name in names(kind)}
    again = kind(**{**optional, **back})
    assert again == record
    assert encode(again) == line


SAID = st.text(max_size=12) | st.text('"\\\x00\x1f\x7f\u2028é', max_size=4) | st.just("\ud800")
ODD = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | SAID | st.floats() | st.just([1])


def said(write, record):
    """Return the line, or why there is none."""
    try:
        return write(record)
    except TypeError as error:
        return type(error)


@given(ANY_RECORD, st.data())
def test_the_line_is_what_python_makes_of_a_record_whatever_it_holds(record, data):
    assert encode(record) == encoding._encoder(type(record))(record)
    name = data.draw(st.sampled_from(names(type(record))))
    setattr(record, name, data.draw(ODD))
    assert said(encode, record) == said(encoding._encoder(type(record)), record)


@given(any_of(records.Book), ROWS, ROWS, st.none() | st.just("cached"))
def test_a_book_whose_levels_are_text_has_the_same_line(book, bids, asks, origin):
    whole, cut = replace(book, bids=bids, asks=asks, origin=origin), replace(book, origin=origin)
    cut.sides = (orjson.dumps(bids), orjson.dumps(asks))
    assert encode(cut) == encode(whole) == encoding._encoder(records.Book)(cut)


def test_a_record_without_one_of_its_values_has_no_line():
    book = records.Book.__new__(records.Book)
    with pytest.raises(AttributeError):
        encode(book)


# --- identity ---


@given(ANY_DATA, st.integers(0, 2**62))
def test_equal_content_has_an_equal_identity_wherever_and_however_it_arrived(record, recv):
    for origin in (None, "cached", "rest"):
        assert identity(replace(record, recv=recv, origin=origin)) == identity(record)


@given(ANY_DATA)
def test_an_identity_can_be_stored(record):
    assert len({identity(record), identity(replace(record))}) == 1
    assert all(part is None or isinstance(part, str | int) for part in identity(record))


KEYS = {
    "trade": ["id"],
    "book": ["action", "prev", "seq", "ts"],
    "order": ["id", "ts", "state", "filled"],
    "fill": ["order_id", "id", "side"],
}


@pytest.mark.parametrize("name", sorted(TYPES.keys() - STATEMENTS))
def test_every_part_of_the_key_tells_two_events_apart_and_nothing_else_does(name):
    kind = TYPES[name]
    record = plain(kind)
    where = {"venue", "channel", "account", "inst"} & set(names(kind))
    telling = where | set(KEYS.get(name, set(names(kind)) - {"type", "recv", "origin"}))
    for part in names(kind)[1:]:
        value = getattr(record, part)
        other = [["9", "9"]] if isinstance(value, list) else {} if isinstance(value, dict) else "9" * 3
        other = not value if isinstance(value, bool) else 9 if isinstance(value, int) else other
        changed = identity(replace(record, **{part: other}))
        assert (changed != identity(record)) == (part in telling), part


def test_a_book_without_a_sequence_is_known_by_its_content():
    book = plain(records.Book, seq=None, prev=None)
    for part, other in [("action", "update"), ("ts", 9), ("checksum", 9), ("bids", []), ("asks", [])]:
        assert identity(replace(book, **{part: other})) != identity(book)


def test_an_identity_is_the_same_in_every_process():
    """Known values: Python's own hash would differ from run to run."""
    ticker = plain(records.MarkPrice, venue="okx", channel="mark-price", inst="BTC-USDT", ts=1, price="2.50")
    assert identity(ticker) == ("okx", "mark-price", None, "BTC-USDT", 1, "c05a5918bd50b505")
    content = ["mark_price", "okx", "mark-price", "BTC-USDT", 1, "2.50"]
    assert orjson.loads(orjson.dumps(content_of(ticker))) == content


# --- the page ---


def sections():
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SECTIONS = sections()


def table(text, first):
    """Return the rows of the table in `text` whose first column is headed `first`."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if line.startswith("|") and cells[0] == first:
            inside, width = True, len(cells)
        elif not line.startswith("|"):
            inside = False
        elif inside and not cells[0].startswith("---"):
            assert len(cells) == width, line
            found.append(cells)
    return found


def unquoted(cells):
    name = cells[0]
    assert re.fullmatch("`[a-z0-9_]+`", name), f"{name} is not a field"
    return name.strip("`")


def section(name):
    return SECTIONS[f"`{name}`"]


def test_the_page_has_a_section_for_every_type_in_order_and_for_nothing_else():
    assert [title.strip("`") for title in SECTIONS if title.startswith("`")] == list(TYPES)


def test_the_page_documents_the_head_and_what_may_end_a_record():
    assert [unquoted(row) for row in table(SECTIONS["Head"], "field")] == [*HEAD, "origin"]


@pytest.mark.parametrize("name", TYPES)
def test_the_page_documents_every_field_in_order_and_nothing_else(name):
    documented = [unquoted(row) for row in table(section(name), "field")]
    assert documented == [field for field in names(TYPES[name]) if field not in {*HEAD, "origin"}]


@pytest.mark.parametrize("name", TYPES)
def test_the_page_says_of_every_field_what_it_is_when_it_is_null_and_where_it_comes_from(name):
    rows = table(section(name), "field")
    assert all(all(row) for row in rows)
    assert {len(row) for row in rows} == ({3} if name in STATEMENTS else {6})


@pytest.mark.parametrize("name", TYPES)
def test_a_field_is_said_to_be_never_null_where_the_code_says_so(name):
    hints = typing.get_type_hints(TYPES[name])
    for row in table(section(name), "field"):
        never = row[2].startswith("never") and "traded" not in row[2]
        optional = type(None) in typing.get_args(hints[unquoted(row)]) or hints[unquoted(row)] is typing.Any
        assert never or optional, f"{row[0]} is never null in the code"


@pytest.mark.parametrize("name", TYPES)
def test_each_example_on_the_page_has_exactly_the_keys_of_its_type_in_order(name):
    [block] = re.findall(r"```json\n(.+?)```", section(name), flags=re.DOTALL)
    for line in block.splitlines():
        back = orjson.loads(line)
        kind = TYPES[name]
        left_out = {"account", "origin"} - back.keys()
        assert list(back) == [field for field in names(kind) if field not in left_out]
        assert back.pop("type") == name
        optional = {field: None for field in left_out if field in names(kind)}
        assert encode(kind(**{**optional, **back})) == line.encode() + b"\n"
        assert "" not in [value for value in back.values() if isinstance(value, str)]


def test_the_page_names_every_state_and_reason_and_the_number_of_the_schema():
    assert [unquoted(row) for row in table(section("gap"), "reason")] == list(GAP_REASONS)
    assert [unquoted(row) for row in table(section("status"), "state")] == list(Status.STATES)
    assert f"Its number is **{SCHEMA}**" in PAGE


PACKAGE = Path(records.__file__).parent
WRITERS = "".join(
    path.read_text("utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent.name in {"okstream", "feed", "session", "links", "fanout"}
)


def test_the_page_tells_which_names_nothing_writes_yet():
    told = set(re.findall("`([a-z]+)`", SECTIONS["Not written yet"]))
    for name in {*GAP_REASONS, *Status.STATES, "recovered", "rest"}:
        written = re.findall(
            rf"""(?:[(,:]|(?<!=)=)\s*"{name}"[,)\s]""", re.sub("GAP_REASONS = .*|STATES: .*?\\)", "", WRITERS)
        )
        assert (name in told) != bool(written), name


def test_the_page_names_every_detail_of_a_void_book():
    chain = (Path(records.__file__).parent / "feed" / "chain.py").read_text("utf-8")
    details = re.findall(r"_broken\(\s*\"\w+\", (\{.*?\})\)", chain)
    keys = {key for detail in details for key in re.findall(r"\"(\w+)\":", detail)}
    told = set(re.findall("`([a-z]+)`", "".join(map("".join, table(section("status"), "gap")))))
    assert len(details) >= 6
    assert keys <= told


def test_the_page_gives_the_identity_that_the_code_makes():
    rows = {re.findall("`([a-z_]+)`", row[0])[0]: re.findall("`([a-z_]+)`", row[1]) for row in table(
        SECTIONS["Identity"], "type") if row[0].startswith("`")}  # fmt: skip
    assert rows == KEYS


SOURCES = {"okx_v5_rows.py": 3, "okex_v3_rows.py": 4, "okex_v1_rows.py": 5}


@pytest.mark.parametrize(("module", "column"), SOURCES.items())
def test_every_source_key_on_the_page_stands_in_the_code_that_reads_it(module, column):
    source = (Path(records.__file__).parent / "dialects" / module).read_text(encoding="utf-8")
    # v3 puts `long_` or `short_` before a name, and names the side in front.
    words = set(re.findall(r"\w+", source.replace("{side}_", "long_") + source.replace("{side}_", "short_")))
    for name in TYPES.keys() - STATEMENTS:
        for row in table(section(name), "field"):
            for key in re.findall(r"`([A-Za-z0-9_]+)`", row[column].partition(":")[0]):
                if "element" not in row[column] and not row[column].startswith("always"):
                    assert key.removesuffix("[]") in words, f"{name}.{unquoted(row)}: {key} is not in {module}"

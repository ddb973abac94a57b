"""What a journal writes, what it does where it cannot, and what is left of it after a crash."""

import asyncio
import base64
import random
import re
import resource
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from okstream import testing
from okstream.channels import Subscription
from okstream.dialects import load
from okstream.dialects.signing import Credentials
from okstream.errors import ConfigError, JournalError, OkstreamError, SinkError
from okstream.feed import Feed
from okstream.journal import Journal
from okstream.journal.volumes import PART, SUFFIX, Segments, found, read, template
from okstream.replay import Replay
from okstream.session.budget import Budget
from okstream.session.terms import Terms
from okstream.statements import Statements
from okstream.venues import VENUES

SECRETS = Credentials("a1b2c3d4-key-of-somebody", 'S3CRET/of+somebody"quoted', "pass phrase ÄÖ")
FRAME = b'{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[]}'
NS = 1_000_000_000


def terms(credentials: Credentials | None = None) -> Terms:
    venue = VENUES["okx"]
    return Terms(load(venue.dialect), venue.limits, Budget(None), credentials)


def opened(journal: Journal, credentials: Credentials | None = None) -> int:
    return journal.opened("link", "wss://user:word@host/path?key=1", 1, 0.0, 0, 0, None, False, terms(credentials))


def written(*places: Path) -> list[Any]:
    return [orjson.loads(line) for path in found(list(places)) for line in read(path)]


def kinds(lines: list[Any]) -> list[str]:
    return [line["dir"] for line in lines]


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_journal_holds_each_call_with_its_arguments(tmp_path):
    async def scenario():
        journal = Journal(str(tmp_path))
        journal.open("5f2c", 1_700_000_000 * NS)
        venue = VENUES["okx"]
        group = journal.group(venue, None)
        feed = Feed(Subscription("ticker", "BTC-USDT"), "okx", load("okx-v5"), Statements("5f2c"))
        journal.added(group, feed, canary=False)
        number = opened(journal)
        journal.ticked(number, 0.5, NS)
        journal.asked(number, 0.5, [b'{"op":"subscribe"}'])
        journal.frame(number, FRAME, False, 0.75, 2 * NS)
        journal.frame(number, b"\x00\x01", True, 1.0, 3 * NS)
        journal.frame(number, b"\xff", False, 1.0, 3 * NS)
        journal.closed(number, 4 * NS, True, "gone")
        await journal.close()

    asyncio.run(scenario())
    (path,) = tmp_path.iterdir()
    assert path.name == "20231114T221320Z-5f2c-000001.jsonl.zst"
    lines = written(tmp_path)
    assert kinds(lines) == [
        "journal", "group", "add", "open", "tick", "ask", "send", "recv", "recv", "recv", "close"
    ]  # fmt: skip
    assert lines[0] | {"version": ""} == {
        "dir": "journal", "journal": 1, "version": "", "records": 1, "instance": "5f2c", "segment": 1, "first": 0
    }  # fmt: skip
    assert lines[3]["url"] == "wss://host/path"
    assert lines[7] == {"dir": "recv", "conv": 1, "now": 0.75, "wall": 2 * NS, "text": FRAME.decode()}
    assert base64.b64decode(lines[8]["b64"]) == b"\x00\x01"
    assert base64.b64decode(lines[9]["raw"]) == b"\xff"


def test_segments_follow_each_other_by_size_and_by_time(tmp_path):
    async def scenario():
        journal = Journal(str(tmp_path), segment_bytes=20_000, segment_seconds=100, flush=0.01)
        journal.open("5f2c", 0)
        number = opened(journal)
        chance = random.Random(1)
        for second in range(50):
            for _ in range(10):
                journal.frame(number, base64.b64encode(chance.randbytes(300)), False, float(second), 10 * second * NS)
            await until(lambda: journal.held == 0)
        await journal.close()
        assert journal.lost == 0

    asyncio.run(scenario())
    files = sorted(tmp_path.iterdir())
    assert len(files) > 6
    assert {path.name[-13:] for path in files} <= {".jsonl.zst"} | {path.name[-13:] for path in files}
    assert not [path for path in files if path.name.endswith(PART)]
    heads = [written(path)[0] for path in files]
    assert [head["segment"] for head in heads] == list(range(1, len(files) + 1))
    lengths = [len(written(path)) - 1 for path in files]
    assert [head["first"] for head in heads] == [sum(lengths[:number]) for number in range(len(files))]
    assert sum(lengths) == 501
    assert max(path.stat().st_size for path in files) < 30_000


def test_a_segment_holds_so_many_seconds_and_no_more_however_late_it_is_written(tmp_path):
    """What has no time of its own is of the same segment as what came before it."""

    async def scenario():
        journal = Journal(str(tmp_path), segment_seconds=90)
        journal.open("5f2c", 0)
        number = opened(journal)
        for second in range(7, 400, 7):
            journal.frame(number, FRAME, False, float(second), second * NS)
            journal.doubted(number)
        await journal.close()

    asyncio.run(scenario())
    segments = [written(path)[1:] for path in sorted(tmp_path.iterdir())]
    walls = [[line["wall"] // NS for line in lines if "wall" in line] for lines in segments]
    assert [(times[0], times[-1]) for times in walls] == [(0, 84), (91, 175), (182, 266), (273, 357), (364, 399)]
    assert [kinds(lines)[-1] for lines in segments] == ["doubt"] * 5
    with pytest.raises(ConfigError, match="1 s or longer"):
        Journal(str(tmp_path), segment_seconds=0.5)


def frames() -> Iterator[tuple[bytes, bool]]:
    """What an exchange may say of a login that it does not like, in plain and in Deflate."""
    key, secret, word = SECRETS.secrets
    for said in (key, secret, word, secret[3:14], f"{key}{secret}", key[:8]):
        for text in (
            orjson.dumps({"event": "error", "msg": f"Invalid {said}.", "code": "60005"}),
            f'{{"msg":"Invalid {said}"}}'.encode(),
            orjson.dumps({"event": "error", "msg": said}).replace("Ä".encode(), b"\\u00c4"),
        ):
            yield text, False
            deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            yield deflate.compress(text) + deflate.flush(), True


@pytest.mark.parametrize("dialect", ["okx-v5", "okex-v3", "okex-v1"])
def test_neither_what_we_send_nor_what_comes_back_shows_a_secret(tmp_path, dialect):
    login = load(dialect).login(SECRETS, 1_700_000_000_000)
    signature = max(login.decode().split('"'), key=lambda word: len(word) if word not in SECRETS.secrets else 0)
    echo = orjson.dumps({"event": "error", "msg": f"Invalid sign {signature} of {SECRETS.key}"})

    async def scenario():
        journal = Journal(str(tmp_path))
        journal.open("5f2c", 0)
        number = opened(journal, SECRETS)
        journal.asked(number, 0.0, [login, b'{"op":"subscribe"}'])
        for data, binary in [*frames(), (echo, False), (FRAME, False), (b"\x00", True), (b"\xff", False)]:
            journal.frame(number, data, binary, 0.0, 0)
        await journal.close()

    asyncio.run(scenario())
    texts = []
    for line in written(tmp_path):
        texts.append(orjson.dumps(line).decode())
        texts.append(line.get("text") or "")
        if "b64" in line and len(line["b64"]) > 4:
            texts.append(zlib.decompress(base64.b64decode(line["b64"]), wbits=-zlib.MAX_WBITS).decode())
    whole = "\n".join(texts)
    for secret in (*SECRETS.secrets, signature):
        for start in range(len(secret) - 7):
            assert secret[start : start + 8] not in whole
    sends = [line for line in written(tmp_path) if line["dir"] == "send"]
    assert [line["text"] for line in sends] == [None, '{"op":"subscribe"}']
    assert FRAME.decode() in whole


def test_a_disk_that_cannot_follow_costs_frames_which_are_counted_but_no_calls(tmp_path, caplog):
    async def scenario():
        journal = Journal(str(tmp_path), limit=100_000, flush=60)
        journal.open("5f2c", 0)
        number = opened(journal)
        for frame in range(1000):
            journal.frame(number, FRAME, False, float(frame), frame)
            if frame % 10 == 0:
                journal.ticked(number, float(frame), frame)
        await journal.close()
        return journal.lost

    lost = asyncio.run(scenario())
    lines = written(tmp_path)
    assert 500 < lost < 1000
    assert sum(line["count"] for line in lines if line["dir"] == "lost") == lost
    assert kinds(lines).count("recv") == 1000 - lost
    assert kinds(lines).count("tick") == 100
    assert "inputs are lost" in caplog.text


def test_a_journal_that_can_write_nothing_for_too_long_ends_and_its_memory_is_bounded(tmp_path, caplog):
    async def scenario():
        journal = Journal(str(tmp_path), limit=100_000, flush=60)
        journal.open("5f2c", 0)
        number = opened(journal)
        for second in range(10_000):
            journal.ticked(number, float(second), second)
        assert journal.held <= 2 * 100_000 + 1000
        await journal.close()
        return journal.lost

    assert asyncio.run(scenario()) > 9000
    assert "it ends here" in caplog.text


def test_a_full_disk_is_said_and_what_waited_is_written_once_there_is_room(tmp_path, caplog):
    """Files of this process may not grow any further: to who writes that is the same."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = base64.b64encode(random.Random(1).randbytes(9000))

    async def scenario():
        journal = Journal(str(tmp_path), flush=0.01)
        journal.open("5f2c", 0)
        number = opened(journal)
        await until(lambda: journal.held == 0)
        (path,) = tmp_path.iterdir()
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1000, most))
        journal.frame(number, noise, False, 0.0, 0)
        await until(lambda: "cannot be written" in caplog.text)
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
        journal.frame(number, FRAME, False, 0.0, 0)
        await until(lambda: journal.held == 0)
        await journal.close()
        assert journal.lost == 0

    try:
        asyncio.run(scenario())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert kinds(written(tmp_path)) == ["journal", "open", "recv", "recv"]
    assert "File too large" in caplog.text
    assert "it can be written again" in caplog.text


def test_what_a_full_disk_did_not_take_before_the_end_is_lost(tmp_path, caplog):
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def scenario():
        journal = Journal(str(tmp_path), flush=0.01)
        journal.open("5f2c", 0)
        number = opened(journal)
        await until(lambda: journal.held == 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
        for frame in range(5):
            journal.frame(number, FRAME, False, float(frame), frame)
        await until(lambda: "cannot be written" in caplog.text)
        journal.frame(number, FRAME, False, 5.0, 5)
        await journal.close()
        return journal.lost

    try:
        assert asyncio.run(scenario()) == 6
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert "its end could not be written: File too large" in caplog.text


def test_a_journal_that_cannot_begin_says_so(tmp_path):
    (tmp_path / "file").write_text("")

    async def scenario():
        Journal(str(tmp_path / "file")).open("5f2c", 0)

    with pytest.raises(SinkError, match=r"journal: .*file"):
        asyncio.run(scenario())


def test_no_segment_takes_the_place_of_another(tmp_path):
    assert template("folder").startswith("folder/{date}")
    assert template("x/{instance}/{segment}.jsonl.zst") == "x/{instance}/{segment}.jsonl.zst"
    for wrong in ("x/{segment}", "x/{instance}", "x/{instance}{segment}{other}"):
        with pytest.raises(ConfigError, match="field 'other'" if "other" in wrong else "needs {instance} and"):
            template(f"{wrong}.jsonl.zst")
    (tmp_path / "5f2c-000001.jsonl.zst").write_text("somebody's")

    async def scenario():
        Journal(str(tmp_path / "{instance}-{segment}.jsonl.zst")).open("5f2c", 0)

    with pytest.raises(SinkError, match="exist"):
        asyncio.run(scenario())
    assert (tmp_path / "5f2c-000001.jsonl.zst").read_text() == "somebody's"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("x/{instance}/{segment}", "a path ends in .jsonl.zst"),
        ("x/{instance}/{segment}.zst", "a path ends in .jsonl.zst"),
        ("x/journal.jsonl.zst", "x/journal.jsonl.zst: name a folder"),
        ("x/journal.zst", "name a folder"),
    ],
)
def test_a_path_that_a_replay_of_its_folder_would_pass_over_is_refused(place, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        template(place)


# -- what is left after a crash


def segment(folder: Path, pieces: int = 5) -> tuple[Path, list[bytes]]:
    """Write a segment of some pieces, as one that was never ended."""
    segments = Segments(str(folder), "5f2c", lambda number, first: b'{"dir":"journal"}\n', 1 << 30, 1e9)
    segments.open(0)
    lines = [b'{"dir":"journal"}']
    for piece in range(pieces):
        some = [b'{"piece":%d,"line":%d}\n' % (piece, line) for line in range(20)]
        segments.write(some, 0)
        lines += [line.rstrip() for line in some]
    (path,) = folder.glob(f"*{PART}")
    torn = folder / f"torn{SUFFIX}{PART}"
    torn.write_bytes(path.read_bytes())
    segments.close()
    return torn, lines


def as_far(path: Path) -> tuple[list[bytes], str | None]:
    """Return what can be read, and what is said then."""
    lines = []
    try:
        for line in read(path):
            lines.append(line.rstrip())
    except JournalError as error:
        return lines, str(error)
    return lines, None


def test_a_segment_that_was_never_ended_is_read(tmp_path):
    path, lines = segment(tmp_path)
    assert as_far(path) == (lines, None)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_torn_or_damaged_segment_gives_what_was_written_before_and_nothing_wrong(tmp_path_factory, data):
    path, lines = segment(tmp_path_factory.mktemp("torn"))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:at])
    else:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    found_lines, said = as_far(path)
    if said is not None or found_lines != lines:
        assert said is None or str(path) in said
        if found_lines[:1] == lines[:1]:  # else its first bytes are no longer those of a compressed file
            assert found_lines == lines[: len(found_lines)]
            assert (len(found_lines) - 1) % 20 == 0


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(content)
    as_far(path)


# -- whatever stands in it

_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70).filter(lambda n: -(2**63) <= n < 2**64), st.text(max_size=5),
    st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2).filter(
        lambda d: all(abs(value) < 2**63 for value in d.values())
    ),
)  # fmt: skip


def journalled() -> list[dict[str, Any]]:
    """A short journal in which every kind of call stands."""
    limits: dict[str, Any] = {"connects": 3, "requests": 480, "requests_shared": False, "request_bytes": 65000}
    say = {"dir": "say", "venue": "okx", "account": None, "state": "live", "detail": {"why": "not"}, "wall": NS}
    add = {"dir": "add", "group": 1, "inst": "BTC-USDT", "args": [], "account": None, "parsed": True, "keeps": True}
    trade = (
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1","px":"1",'
        '"sz":"1","side":"buy","ts":"1","count":"1","seqId":1}]}'
    )
    ack = '{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}'
    return [
        {"dir": "journal", "journal": 1, "instance": "5f2c", "segment": 1},
        say,
        {"dir": "group", "group": 1, "venue": "okx", "dialect": "okx-v5", "limits": limits, "budget": 1},
        {**add, "channel": "ticker", "canary": True},
        {**add, "channel": "trades", "canary": False},
        {"dir": "open", "conv": 1, "group": 1, "now": 0.0, "wall": NS, "offset": 0, "hint": 3, "asks": True,
         "cap": 1 << 20, "login": False},
        {"dir": "tick", "conv": 1, "now": 0.0, "wall": NS},
        {"dir": "ask", "conv": 1, "now": 0.0},
        {"dir": "send", "conv": 1, "text": "x"},
        {"dir": "recv", "conv": 1, "now": 0.1, "wall": NS, "text": ack},
        {"dir": "recv", "conv": 1, "now": 0.2, "wall": NS, "text": trade},
        {"dir": "recv", "conv": 1, "now": 0.2, "wall": NS, "b64": "AAAA"},
        {"dir": "recv", "conv": 1, "now": 0.2, "wall": NS, "raw": "AAAA"},
        {"dir": "keep", "group": 1, "key": "trades:BTC-USDT"},
        {"dir": "call", "conv": 1, "now": 0.2},
        {"dir": "doubt", "conv": 1},
        {"dir": "lost", "count": 3},
        {"dir": "sampling", "depth": 5, "every": NS},
        {"dir": "sample", "wall": 2 * NS},
        {"dir": "unwant", "conv": 1, "key": "trades:BTC-USDT"},
        {"dir": "want", "conv": 1, "key": "trades:BTC-USDT"},
        {"dir": "tick", "conv": 1, "now": 60.0, "wall": 61 * NS},
        {"dir": "ask", "conv": 1, "now": 60.0},
        {"dir": "answer", "conv": 1, "key": "trades:BTC-USDT", "newer": True, "wall": 61 * NS},
        {"dir": "end", "group": 1, "key": "trades:BTC-USDT", "wall": 61 * NS},
        {"dir": "unwant", "conv": 1, "key": "trades:BTC-USDT"},
        {"dir": "remove", "group": 1, "key": "trades:BTC-USDT"},
        {"dir": "close", "conv": 1, "wall": 62 * NS, "lost": True},
    ]  # fmt: skip


@pytest.mark.parametrize("cap", [-1, 0, 1 << 40])
def test_a_bound_of_messages_that_is_none_is_refused(cap):
    replay, calls = Replay(lambda taken: None), journalled()
    opens = next(at for at, call in enumerate(calls) if "cap" in call)
    for call in calls[:opens]:
        replay.take(orjson.dumps(call))
    with pytest.raises(JournalError, match="its cap"):
        replay.take(orjson.dumps({**calls[opens], "cap": cap}))


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_journal_it_is_taken_or_refused(data):
    calls = [dict(call) for call in journalled()]
    for _ in range(data.draw(st.integers(0, 3))):
        call = data.draw(st.sampled_from(calls))
        match data.draw(st.sampled_from(["change", "leave out", "swap", "repeat"])):
            case "change":
                call[data.draw(st.sampled_from(sorted(call)))] = data.draw(_VALUES)
            case "leave out":
                call.pop(data.draw(st.sampled_from(sorted(call))))
            case "swap":
                calls.remove(call)
                calls.insert(data.draw(st.integers(0, len(calls))), call)
            case "repeat":
                calls.insert(data.draw(st.integers(0, len(calls))), call)
        if not calls or not all(calls):
            return
    taken = []
    replay = Replay(taken.extend)
    with suppress(JournalError):
        for call in calls:
            replay.take(orjson.dumps(call))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=50), st.recursive(_VALUES, lambda some: st.lists(some, max_size=3)).map(orjson.dumps))
)
def test_any_line_is_taken_or_refused(line):
    with pytest.raises(OkstreamError):
        Replay(lambda deliveries: None).take(line)


def test_a_journal_is_read_from_its_first_segment_and_without_a_hole():
    head = journalled()[0]
    replay = Replay(lambda deliveries: None)
    with pytest.raises(JournalError, match="first is missing"):
        replay.make({**head, "segment": 2})
    replay.make(head)
    replay.make({**head, "segment": 2})
    with pytest.raises(JournalError, match="segment 4 of 5f2c, and 2 was the last"):
        replay.make({**head, "segment": 4})
    with pytest.raises(JournalError, match="a newer one wrote it"):
        replay.make({**head, "journal": 99})
    replay.make({**head, "instance": "other"})
    assert replay.instance == "other"


def test_what_a_journal_lost_is_a_gap_of_all_that_could_not_tell():
    """It holds a ticker whose messages do not name the one before."""
    said: list[Any] = []
    replay = Replay(lambda deliveries: said.extend(one for d in deliveries for one in d.statements))
    for call in journalled()[:17]:
        replay.make({**call, "canary": False} if "canary" in call else call)
        if call["dir"] == "recv":
            replay.make({**call, "text": '{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"}}'})
    assert replay.lost == 3
    assert any(one.type == "gap" and one.channel == "ticker" and one.reason == "malformed" for one in said)


def test_virtual_time_and_a_thread_that_writes_go_together(tmp_path):
    async def scenario():
        journal = Journal(str(tmp_path))
        journal.open("5f2c", testing.wall_ns())
        opened(journal)
        await asyncio.sleep(1000)
        await journal.close()

    testing.run(scenario)
    assert kinds(written(tmp_path)) == ["journal", "open"]

"""Journals and recordings as files, played to sinks, to who iterates, and by the command line."""

import asyncio
import base64
import gzip
import hashlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import shell

from okstream import Stream, testing, venues
from okstream.entries import Entry
from okstream.errors import ConfigError, JournalError, RejectedError, SinkError
from okstream.journal import Journal
from okstream.journal.volumes import PART, found, read
from okstream.options import LaneOptions
from okstream.records import Trade
from okstream.replay import Replay
from okstream.replay.playback import Playback
from okstream.replay.recordings import calls
from okstream.zstd import ZstdCompressor, compressor

OKSTREAM = str(Path(sys.executable).with_name("okstream"))
SHARED = os.environ.get("OKSTREAM_RECORDINGS")
FILES = ("okx-v5/2022-05-public.jsonl", "okex-v3/2021-04-public.jsonl", "okcoin-v3/2021-04-public.jsonl")
T = 1_652_459_224.5

recordings = pytest.mark.skipif(SHARED is None, reason="OKSTREAM_RECORDINGS names no folder of recordings")


class Kept:
    """A sink that keeps its lines; `slow` writes take a second each, and it may fail at once."""

    batch_records = 50

    def __init__(self, slow: bool = False, fail: bool = False) -> None:
        self.lines: list[bytes] = []
        self._slow = slow
        self._fail = fail

    async def open(self) -> None:
        pass

    async def write(self, batch: Sequence[Entry]) -> None:
        if self._fail:
            raise SinkError("it cannot")
        if self._slow:
            await asyncio.sleep(1)
        self.lines += [entry.line for entry in batch]

    async def close(self) -> None:
        pass


def journalled(folder: Path, seconds: float = 20.0, wall: Any = testing.wall_ns, **options: Any) -> list[bytes]:
    """Write a journal of the simulated exchange in `folder`; return the lines that were delivered."""

    async def whole() -> list[bytes]:
        sink = Kept()
        journal = Journal(str(folder), flush=0.01, **options)
        async with Stream("sim", sinks=[sink], journal=journal, wall_ns=wall) as stream:
            await stream.subscribe("trades:BTC-USDT")
            await stream.subscribe("book:BTC-USDT")
            await asyncio.sleep(seconds)
        return sink.lines

    return testing.run(whole)


def played(*places: Path, **options: Any) -> tuple[list[bytes], Playback, BaseException | None]:
    """Play `places` to a sink; return its lines, and how it ended."""

    async def whole() -> tuple[list[bytes], Playback, BaseException | None]:
        sink, error = options.pop("sink", None) or Kept(), None
        lane = options.pop("lane", LaneOptions())
        async with Playback(places, [(sink, lane)], **options) as playback:
            try:
                await playback.wait()
            except (JournalError, SinkError) as said:
                error = said
        return sink.lines, playback, error

    return testing.run(whole)


# -- recordings


@recordings
@pytest.mark.parametrize("name", FILES)
def test_a_recording_gives_the_same_bytes_each_time_and_nothing_is_missing(name):
    path = Path(str(SHARED)) / name
    one, other = played(path), played(path)
    assert hashlib.sha256(b"".join(one[0])).digest() == hashlib.sha256(b"".join(other[0])).digest()
    assert one[2] is None
    received = sum(orjson.loads(line)["dir"] == "recv" for line in path.read_bytes().splitlines())
    records = [orjson.loads(line) for line in one[0]]
    data = [record for record in records if record["type"] not in ("gap", "status")]
    assert not [record for record in records if record["type"] in ("gap", "native")]
    assert len(data) >= 0.9 * received
    assert records[0]["state"] == "started"
    assert records[-1]["state"] == "ended"


@recordings
def test_the_exchange_s_own_text_of_a_recording_is_what_came():
    path = Path(str(SHARED)) / FILES[0]
    lines, _, _ = played(path, lane=LaneOptions(form="raw", statements=False))
    texts = [orjson.loads(line)["text"].encode() for line in path.read_bytes().splitlines()]
    assert lines == [text + b"\n" for text in texts if text.startswith(b'{"arg"')]


def push(number: int) -> str:
    row = {"instId": "BTC-USDT", "tradeId": str(number), "px": "1", "sz": "1", "side": "buy", "ts": "1", "count": "1"}
    return orjson.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [row]}).decode()


def recording(path: Path, *events: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps({"t": T + at, **event}) + b"\n" for at, event in enumerate(events)))
    return path


OPEN = {"dir": "open", "url": "wss://ws.okx.com/ws/v5/public"}


def test_a_connection_that_is_opened_anew_leaves_a_gap(tmp_path):
    path = recording(
        tmp_path / "r.jsonl",
        OPEN,
        *({"dir": "recv", "text": push(number)} for number in (1, 2)),
        OPEN,
        *({"dir": "recv", "text": push(number)} for number in (4, 5)),
    )
    records = [orjson.loads(line) for line in played(path)[0]]
    assert [record["id"] for record in records if record["type"] == "trade"] == ["1", "2", "4", "5"]
    gaps = [record for record in records if record["type"] == "gap"]
    assert [(gap["state"], gap["reason"], gap["after"], gap["until"]) for gap in gaps] == [
        ("open", "disconnected", "2", None),
        ("closed", "disconnected", "2", "4"),
    ]


def test_a_recording_of_nowhere_wants_a_venue_and_may_have_one(tmp_path):
    path = recording(tmp_path / "r.jsonl", {"dir": "recv", "text": push(1)})
    assert "--venue" in str(played(path)[2])
    lines, _, error = played(path, venue=venues.find("okx"))
    assert error is None
    assert sum(b'"type":"trade"' in line for line in lines) == 1
    other = recording(tmp_path / "other.jsonl", {"dir": "open", "url": "wss://user:word@example.org/x?key=1"})
    assert "wss://example.org/x;" in str(played(other)[2])
    assert "word" not in str(played(other)[2])


def v1(channel: str, data: str) -> dict[str, Any]:
    return {"dir": "recv", "text": f'[{{"binary":0,"channel":"{channel}","data":{data}}}]'}


def test_a_recording_of_v1_gives_what_the_names_of_its_channels_tell(tmp_path):
    path = recording(
        tmp_path / "r.jsonl",
        {"dir": "open", "url": "wss://real.okex.com:10440/ws/v1"},
        v1("addChannel", '{"result":true,"channel":"ok_sub_spot_btc_usdt_ticker"}'),
        v1("ok_sub_spot_btc_usdt_ticker", '{"last":"9","buy":"8","sell":"10","vol":"1","timestamp":1547966728000}'),
        v1("ok_sub_spot_btc_usdt_deals", '[["7","6395.004","0.0413","14:45:28","ask"]]'),
        v1("ok_sub_futureusd_btc_depth_next_week", '{"asks":[[6409.26,150]],"bids":[[6406.39,18]],"timestamp":1}'),
        v1("ok_sub_spot_eos_usdt_balance", '{"info":{"free":{"usdt":608.1},"freezed":{"usdt":1.2}}}'),
        v1("ok_btccny_ticker", '{"last":"9","buy":"8","sell":"10","vol":"1","timestamp":1547966728000}'),
    )
    records = [orjson.loads(line) for line in played(path)[0]]
    data = [record for record in records if record["type"] not in ("gap", "status")]
    assert [(record["type"], record["channel"], record["inst"], record.get("account")) for record in data] == [
        ("ticker", "ticker", "BTC-USDT", None),
        ("trade", "trades", "BTC-USDT", None),
        ("book", "book", "BTC-USD-NEXT-WEEK", None),
        ("balance", "account", "EOS-USDT", "main"),
        ("ticker", "ok_btccny_ticker", "BTC-CNY", None),
    ]
    live = [(said["channel"], said["inst"]) for said in records if said.get("state") == "live" and said["channel"]]
    assert live[0] == ("ticker", "BTC-USDT")


def test_a_recording_of_v3_has_its_account_and_what_has_no_channel_is_named(tmp_path, caplog):
    """What a user's own software recorded beside it, say."""
    row = '"currency":"ETH","balance":"1","available":"1","hold":"0","timestamp":"2019-01-01T00:00:00.000Z"'
    path = recording(
        tmp_path / "r.jsonl",
        {"dir": "open", "url": "wss://real.okex.com:8443/ws/v3"},
        {"dir": "recv", "text": f'{{"table":"spot/account","data":[{{{row}}}]}}'},
        {"dir": "recv", "text": '{"event":"subscribe","channel":"weather:HK"}'},
    )
    records = [orjson.loads(line) for line in played(path)[0]]
    (balance,) = [record for record in records if record["type"] == "balance"]
    assert (balance["channel"], balance["account"], balance["currency"]) == ("account", "main", "ETH")
    assert f"{path}: what came of weather:HK is left out" in caplog.text


_TEXTS = st.sampled_from([push(1), OPEN["url"], '{"event":"subscribe"}', "wss://[x"])
_FRAMES = st.just(base64.b64encode(zlib.compress(push(2).encode(), wbits=-15)).decode())
_EVENT = st.fixed_dictionaries(
    {},
    optional={
        "dir": st.sampled_from(["open", "send", "recv", "close", "other", 3]),
        "t": st.one_of(st.floats(0, 2e9), st.integers(-1, 2**62), st.text(max_size=2), st.none()),
        "text": st.one_of(_TEXTS, st.text(max_size=9)),
        "url": st.one_of(st.sampled_from([OPEN["url"], "wss://[x", "http://x"]), st.none()),
        "b64": st.one_of(_FRAMES, st.text(max_size=5)),
    },
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_EVENT.map(orjson.dumps) | st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=8))
def test_any_recording_is_played_or_refused(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join([orjson.dumps({**OPEN, "t": T}), *lines]))
    for venue in (None, venues.find("okex-v3"), venues.find("okcoin-v1")):
        replay = Replay(lambda deliveries: None)
        with suppress(JournalError):
            for call in calls(path, venue):
                replay.make(call)


# -- journals


def test_a_journal_of_many_segments_is_played_whole_to_sinks_however_slow(tmp_path):
    live = journalled(tmp_path, segment_bytes=3000)
    assert len(list(tmp_path.iterdir())) > 3
    lines, playback, error = played(tmp_path, sink=Kept(slow=True), lane=LaneOptions(bytes=20_000))
    assert error is None
    assert lines == live
    assert playback.lost == 0


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest", "spill"])
def test_what_a_configuration_says_of_a_full_lane_is_for_what_is_live(tmp_path, policy):
    live = journalled(tmp_path / "journal", segment_bytes=3000)
    spool = tmp_path / "spool" if policy == "spill" else None
    lane = LaneOptions(bytes=20_000, when_full=policy, spool=spool)
    lines, playback, error = played(tmp_path / "journal", sink=Kept(slow=True), lane=lane)
    assert error is None
    assert lines == live
    assert playback.lost == 0
    assert not (tmp_path / "spool").exists()


def test_of_what_a_sink_rejects_of_a_replay_a_gap_is_left_and_a_book_goes_on_from_its_levels(tmp_path):
    class Particular(Kept):
        """Can never hold the thirtieth change of the book."""

        changes = 0

        async def write(self, batch: Sequence[Entry]) -> None:
            bad = {}
            for at, entry in enumerate(batch):
                self.changes += b'"action":"update"' in entry.line
                if self.changes == 30 and b'"action":"update"' in entry.line:
                    bad[at] = "too large"
            await super().write([entry for at, entry in enumerate(batch) if at not in bad])
            if bad:
                raise RejectedError("too large", bad)

    live = journalled(tmp_path)
    lines, playback, error = played(tmp_path, sink=Particular())
    assert (error, playback.lost) == (None, 1)
    books = [orjson.loads(line) for line in lines if b'"channel":"book"' in line]
    (at,) = (at for at, one in enumerate(books) if one.get("state") == "open")
    opened, closed, snapshot, *rest = books[at:]
    assert (opened["reason"], closed["state"]) == ("sink", "closed")
    assert opened["after"] in [one.get("seq") for one in books[:at]]
    assert (snapshot["action"], snapshot["seq"]) == ("snapshot", closed["until"])
    assert [one["prev"] for one in rest] == [one["seq"] for one in (snapshot, *rest)][:-1]
    assert lines[-1] == live[-1]


def test_a_journal_is_iterated_over_record_by_record(tmp_path):
    live = journalled(tmp_path)

    async def whole() -> list[Any]:
        async with Playback([tmp_path]) as playback:
            return [record async for record in playback]

    records = testing.run(whole)
    assert len(records) == len(live)
    assert any(isinstance(record, Trade) for record in records)


@pytest.mark.parametrize(("speed", "takes"), [(1, 20), (4, 5), (None, 0)])
def test_a_journal_is_played_as_fast_as_is_asked_for(tmp_path, speed, takes):
    live = journalled(tmp_path)

    async def whole() -> float:
        began = asyncio.get_running_loop().time()
        sink = Kept()
        async with Playback([tmp_path], [sink], speed=speed) as playback:
            await playback.wait()
            took = asyncio.get_running_loop().time() - began
        assert sink.lines == live
        return took

    assert testing.run(whole) == pytest.approx(takes, abs=1.0)


@pytest.mark.parametrize("step", [7200, -7200])
def test_a_clock_that_was_set_meanwhile_changes_nothing_of_how_fast_a_journal_is_played(tmp_path, step):
    def wall() -> int:
        return testing.wall_ns() + step * 10**9 * (asyncio.get_running_loop().time() - began > 10)

    began = testing.run(_now)
    live = journalled(tmp_path, wall=wall)

    async def whole() -> float:
        begin = asyncio.get_running_loop().time()
        sink = Kept()
        async with Playback([tmp_path], [sink], speed=1) as playback:
            await playback.wait()
        assert sink.lines == live
        return asyncio.get_running_loop().time() - begin

    assert testing.run(whole) == pytest.approx(20, abs=1.0)


async def _now() -> float:
    return asyncio.get_running_loop().time()


def test_what_lies_between_two_journals_is_not_waited_for(tmp_path):
    later = T + 1_000_000
    paths = [
        recording(tmp_path / "1", OPEN, {"dir": "recv", "text": push(1), "t": T + 3}),
        recording(tmp_path / "2", {**OPEN, "t": later}, {"dir": "recv", "text": push(2), "t": later + 4}),
    ]

    async def whole() -> float:
        began = asyncio.get_running_loop().time()
        async with Playback(paths, [Kept()], speed=1) as playback:
            await playback.wait()
            return asyncio.get_running_loop().time() - began

    assert testing.run(whole) == pytest.approx(3 + 4, abs=0.5)


def test_what_was_read_is_told_and_comes_to_the_size_of_the_files(tmp_path):
    journalled(tmp_path / "journal", segment_bytes=3000)
    path = recording(tmp_path / "r.jsonl", OPEN, *({"dir": "recv", "text": push(number)} for number in range(3000)))
    told: list[int] = []
    _, playback, _ = played(tmp_path / "journal", path, progress=told.append)
    assert sum(told) == sum(path.stat().st_size for path in playback.files)
    assert min(told) >= 0
    assert len(told) > len(playback.files)


def test_what_is_before_and_after_the_damage_is_played_and_the_damage_said(tmp_path, caplog):
    first, second = tmp_path / "1", tmp_path / "2"
    live, later = journalled(first), journalled(second)
    (path,) = first.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    lines, _, error = played(first, second)
    assert str(path) in str(error)
    assert f"{path}: it ends in the middle" in caplog.text
    assert lines[-len(later) :] == later
    before = lines[: -len(later)]
    assert before == live[: len(before)]
    assert len(before) > 10


@pytest.mark.parametrize("wrong", [b'{"dir":"recv"}', b'{"dir":"recv","conv":9,"now":1.0,"wall":1,"text":""}', b"{"])
def test_what_cannot_be_played_is_named_by_its_line_and_all_before_it_is_played(tmp_path, wrong):
    live = journalled(tmp_path / "journal")
    lines = [line for path in found([tmp_path / "journal"]) for line in read(path)]
    received = [at for at, line in enumerate(lines) if b'"dir":"recv"' in line]
    # In the middle of what one read brought, as far as its times tell.
    at = received[len(received) // 2]
    now = orjson.loads(lines[at])
    same = [orjson.dumps({**orjson.loads(line), "now": now["now"], "wall": now["wall"]}) for line in lines[at : at + 2]]
    path = tmp_path / "wrong.jsonl"
    path.write_bytes(b"\n".join([*(line.strip() for line in lines[:at]), same[0], wrong, same[1]]))
    played_again, _, error = played(path)
    assert f"{path}:{at + 2}: " in str(error)
    assert played_again == live[: len(played_again)]
    assert len(played_again) > len(live) // 4


def test_a_missing_segment_ends_that_journal_and_is_said_once(tmp_path, caplog):
    live = journalled(tmp_path, segment_bytes=3000)
    files = found([tmp_path])
    files[1].unlink()
    lines, _, error = played(tmp_path)
    assert f"{len(files) - 2} of {len(files) - 1} files" in str(error)
    (said,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "it is segment 3" in said
    assert lines == live[: len(lines)]
    assert 0 < len(lines) < len(live)


def test_a_sink_that_fails_ends_a_replay_and_no_file_is_refused_at_once(tmp_path):
    journalled(tmp_path)
    _, playback, error = played(tmp_path, sink=Kept(fail=True))
    assert isinstance(error, SinkError)
    assert playback.lost > 0
    with pytest.raises(ConfigError, match="no such file"):
        Playback([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no journal"):
        Playback([tmp_path / "empty"])
    with pytest.raises(ConfigError, match="speed"):
        Playback([tmp_path], speed=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"type":"status","venue":"okx","channel":null,"inst":null,"ts":null,"recv":1}\n', "delivered already"),
        (b'{"manifest":1,"segment":"x.jsonl"}\n', "manifest"),
        (b'{"state":1,"sink":"a","template":"x.jsonl"}\n{"lasts":[]}\n', "what a file sink remembers"),
        (b'{"time":1,"sink":"a","reason":"b","record":{"identity":"a","type":"trade","line":""}}\n', "dead letters"),
        (b'{"arg":{"channel":"trades"},"data":[]}\n', "not when each came"),
        (b'[{"channel":"ok_sub_spot_btc_usdt_ticker","data":{}}]\n', "not when each came"),
        (gzip.compress(b"{}", mtime=0), "unpack it first"),
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"[1]\n", "no journal and no recording"),
        (b"[[1]]\n", "no journal and no recording"),
        (b"[source]\n", "no journal and no recording"),
        (bytes(99), "no text"),
        (b"\x28\xb5", "no text"),
        (b'{"dir":"journal"}\n', "segment is not what it should be"),
    ],
)
def test_what_is_no_journal_is_called_what_it_is(tmp_path, content, said):
    path = tmp_path / "any"
    path.write_bytes(content)
    lines, _, error = played(path)
    assert lines == []
    assert str(error).startswith(f"{path}:")
    assert said in str(error)


def test_what_is_no_file_is_refused_before_anything_is_played(tmp_path):
    (tmp_path / "a.jsonl").touch()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place, said in (("-", "not stdin"), (pipe, "a pipe"), ("/dev/null", "a device"), (tmp_path, "one by one")):
        with pytest.raises(ConfigError, match=said):
            Playback([place])


def test_segments_follow_each_other_however_their_files_are_named_and_each_is_played_once(tmp_path):
    one, other = (journalled(tmp_path / name, segment_bytes=3000) for name in ("1", "2"))
    for number, path in enumerate(found([tmp_path / "2", tmp_path / "1"])):
        path.rename(tmp_path / "1" / f"{7 * number % 100:02}.jsonl.zst")
    files = sorted((tmp_path / "1").iterdir())
    assert len(files) > 6
    lines, _, error = played(files[3], *reversed(files), tmp_path / "1")
    assert error is None
    assert sorted([lines[: len(one)], lines[len(one) :]]) == sorted([one, other])


def test_of_several_copies_of_a_segment_the_whole_one_is_played(tmp_path):
    """As in a backup: copied while it was written, and again when it was whole."""
    live = journalled(tmp_path / "journal", segment_bytes=3000)
    whole = found([tmp_path / "journal"])
    assert len(whole) > 3
    backup = tmp_path / "backup"
    shutil.copytree(tmp_path / "journal", backup)
    for path in whole[1:]:
        (backup / f"{path.name}.part").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (backup / f"{whole[0].name}.part").write_bytes(whole[0].read_bytes())
    assert found([backup]) == [backup / path.name for path in whole]
    for places in ([backup], [tmp_path / "journal", backup], [backup, tmp_path / "journal"]):
        lines, _, error = played(*places)
        assert (lines, error) == (live, None)


def test_of_a_folder_only_journals_are_played_unless_it_has_none(tmp_path):
    live = journalled(tmp_path / "journal")
    record = tmp_path / "out" / "BTC-USDT.000001.jsonl.zst"
    record.parent.mkdir()
    record.write_bytes(compressor(3).compress(live[0], ZstdCompressor.FLUSH_FRAME))
    lines, _, error = played(tmp_path)
    assert (lines, error) == (live, None)
    with pytest.raises(ConfigError, match="delivered already"):
        Playback([tmp_path / "out"])


def test_of_several_files_each_is_said_that_cannot_be_played_to_its_end(tmp_path, caplog):
    live = journalled(tmp_path / "journal")
    texts = [tmp_path / "1", tmp_path / "2"]
    for text in texts:
        text.write_text("hello\n")
    lines, _, error = played(texts[0], tmp_path / "journal", texts[1])
    assert lines == live
    assert str(error) == f"2 of 3 files could not be played to their end, the first of them {texts[0]}"
    assert [record.message.partition(": ")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        str(text) for text in texts
    ]


# -- the command line


def ran(*arguments: str | Path) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([OKSTREAM, *map(str, arguments)], capture_output=True, timeout=60, check=False)


def test_record_and_replay_from_the_command_line(tmp_path):
    done = ran("record", "--venue", "sim", "-o", tmp_path / "j", "--duration", "2s", "trades:BTC-USDT", "book:BTC-USDT")
    assert (done.returncode, done.stdout) == (0, b"")
    size = sum(path.stat().st_size for path in (tmp_path / "j").iterdir())
    assert done.stderr.decode() == f"okstream: journal: 1 segment, {-(-size // 1024)} KiB, in {tmp_path / 'j'}\n"
    one, other = ran("replay", tmp_path / "j"), ran("replay", *sorted((tmp_path / "j").iterdir()))
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout
    states = [orjson.loads(line).get("state") for line in one.stdout.splitlines()]
    assert (states[0], states[-1]) == ("started", "ended")
    assert b'"trade"' in one.stdout
    data = ran("replay", "--data-only", tmp_path / "j").stdout
    assert data
    assert b'"status"' not in data
    config, count = tmp_path / "c.toml", data.count(b"\n")
    source = '[[source]]\nvenue = "sim"\nsubscriptions = ["ticker:BTC-USDT"]\n'
    config.write_text(f'{source}[sink.out]\ntype = "file"\npath = "{tmp_path / "out.jsonl"}"\n')
    filed = ran("replay", "--config", config, tmp_path / "j")
    assert filed.stderr.decode().endswith(f"okstream: sink out: {count} records written, 0 lost\n")
    assert ran("replay", "-q", "--config", config, tmp_path / "j").stderr == b""


@pytest.mark.parametrize("more", [(), ("--segment-time", "1s")], ids=["one", "several"])
def test_record_names_the_files_that_a_path_with_fields_came_to(tmp_path, more):
    place = tmp_path / "{instance}" / "day-{segment}.jsonl.zst"
    done = ran("record", "--venue", "sim", "-o", place, "--duration", "2500ms", *more, "trades:BTC-USDT")
    written = sorted(str(path) for path in tmp_path.rglob("*.zst"))
    assert (len(written) > 1) == bool(more)
    names = " to ".join(dict.fromkeys((written[0], written[-1])))
    assert re.fullmatch(rf"okstream: journal: {len(written)} segments?, \d+ KiB, in {names}\n", done.stderr.decode())


def test_a_replay_that_a_full_disk_ends_does_not_count_what_it_has_not_read(tmp_path):
    command = ["record", "--venue", "sim", "-o", tmp_path / "j", "--duration", "2s", "book:*-USDT", "trades:*-USDT"]
    assert ran(*command).returncode == 0
    said = shell('"$OKSTREAM" replay j > /dev/full', cwd=tmp_path).stderr
    since = r"since 20\d\d-\S+Z"
    some = rf"(\d+ records? (was|were) lost, and all {since}|all records {since} were lost)"
    assert re.fullmatch(rf"okstream: stdout failed: No space left on device\nokstream: stdout: {some}\n", said)


def test_what_a_killed_record_leaves_is_replayed(tmp_path):
    command = [OKSTREAM, "record", "--venue", "sim", "-o", str(tmp_path), "ticker:BTC-USDT", "trades:BTC-USDT"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 40
        while sum(b'"dir":"recv"' in line for path in tmp_path.iterdir() for line in _readable(path)) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(PART)
    done = ran("replay", tmp_path)
    assert done.returncode in (0, 4)
    assert b'"ticker"' in done.stdout


def _readable(path: Path) -> list[bytes]:
    lines: list[bytes] = []
    with suppress(JournalError):
        lines.extend(read(path))
    return lines


def test_what_cannot_be_replayed_has_an_exit_code(tmp_path):
    missing = ran("replay", tmp_path / "none")
    assert (missing.returncode, missing.stdout) == (2, b"")
    text = tmp_path / "text"
    text.write_text("hello\n")
    done = ran("replay", text)
    assert done.returncode == 4
    assert done.stderr.decode().startswith(f"okstream: {text}: it is no journal and no recording; a replay takes")
    assert done.stderr.count(b"\n") == 1
    for speed in ("fast", "x0", "x1e-9"):
        assert ran("replay", "--speed", speed, text).returncode == 2
    config = tmp_path / "c.toml"
    config.write_text('[[source]]\nvenue = "sim"\nsubscriptions = ["ticker:BTC-USDT"]\n')
    for options in (["--format", "json"], ["--data-only"]):
        both = ran("replay", "--config", config, *options, text)
        assert both.returncode == 2
        assert f"{options[0]} is for stdout; with --config" in both.stderr.decode()
    taken = ran("record", "--venue", "sim", "-o", text, "ticker:BTC-USDT")
    assert taken.returncode == 5
    assert taken.stderr.decode().startswith(f"okstream: journal: {text}: there is a file, and a journal is a folder")
    assert ran("record", "--venue", "sim", "-o", "x/{segment}", "ticker:BTC-USDT").returncode == 2


def test_on_a_terminal_what_is_said_stands_above_the_progress_and_not_in_it(tmp_path):
    journalled(tmp_path / "journal")
    text = tmp_path / "text"
    text.write_text("hello\n")
    terminal, stderr = pty.openpty()
    command = [OKSTREAM, "replay", str(text), str(tmp_path / "journal")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        os.close(stderr)
        said = b""
        with suppress(OSError):  # how Linux says that nobody holds the other end any more
            while piece := os.read(terminal, 65536):
                said += piece
        assert process.wait(60) == 4
    os.close(terminal)
    lines = re.split(rb"[\r\n]+", re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", said))
    words = [line for line in lines if b"okstream: " in line]
    assert len(words) == 2
    assert all(line.startswith(b"okstream: ") for line in words)
    assert len(lines) > len(words)

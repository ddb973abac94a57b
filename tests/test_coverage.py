"""What is complete and what is not: as intervals of records and gaps, and of files as they are found."""

import asyncio
import os
import shutil
import subprocess
import sys
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.filed import DAY, SECOND, START, crash, finished, gap, held, order, status, ticker, trade, unfinished

from okstream.coverage import Part, coverage, intervals
from okstream.errors import RetryError
from okstream.fanout.deadletters import DeadLetters
from okstream.files.evidence import found, read, read_all, sources
from okstream.journal import Journal
from okstream.sinks.file import File
from okstream.stitching import OVERLAP, Interval, stitched

SUB = ("okx", "trades", "BTC-USDT", None)
TIMEOUT = 30


def at(seconds):
    return START + int(seconds * SECOND)


def said(name, state, seconds, **more):
    return gap(name, state, at(seconds), **more)


def served(state, seconds):
    return status(state, at(seconds), "trades", "BTC-USDT")


def data(*seconds, inst="BTC-USDT"):
    return [trade(int(second * 1000), inst, at(second)) for second in seconds]


def part(*entries):
    made = Part()
    for entry in entries:
        made.take(entry.fields)
    return made


def shown(covered, sub=SUB):
    """Return intervals in seconds, with why where they are not complete."""
    [one] = [one for one in covered if one.sub == sub]
    seconds = [((i.since - START) / SECOND, (i.until - START) / SECOND) for i in one.intervals]
    return [(*span, *i.reasons) for span, i in zip(seconds, one.intervals, strict=True)]


def judged(*entries):
    return shown(coverage({"one": [part(*entries)]}))


def test_records_with_nothing_said_between_them_are_complete():
    assert judged(*data(1, 2, 3)) == [(1, 3)]
    assert judged(*data(1)) == [(1, 1)]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([*data(1, 2), said("a-1", "open", 3), said("a-1", "closed", 5), *data(5, 6)],
         [(1, 2), (2, 5, "disconnected"), (5, 6)]),
        ([*data(1, 2), said("a-1", "open", 3), said("a-1", "closed", 5, lost=0), *data(5, 6)], [(1, 6)]),
        ([*data(1, 2), said("a-1", "open", 3), said("a-1", "closed", 5), said("a-1", "recovered", 7), *data(5, 6, 8)],
         [(1, 8)]),
        ([*data(1, 2), said("a-1", "open", 3)], [(1, 2), (2, 3, "disconnected")]),
        ([*data(1, 2), said("a-1", "open", 3), *data(9, inst="ETH-USDT")], [(1, 2), (2, 9, "disconnected")]),
        ([said("a-1", "open", 1), said("a-1", "closed", 5), *data(5, 6)], [(1, 5, "disconnected"), (5, 6)]),
        ([said("b-1", "open", 4, reason="start", after_ts=at(1) // 10**6), said("b-1", "closed", 5), *data(5, 6)],
         [(1, 5, "start", "disconnected"), (5, 6)]),
        ([*data(1, 2), said("a-1", "open", 2, reason="overflow"), said("a-1", "closed", 2), *data(2, 3)],
         [(1, 2), (2, 2, "overflow", "disconnected"), (2, 3)]),
        ([*data(1), said("a-1", "open", 2), said("a-1", "closed", 3), said("a-2", "open", 4, reason="sequence"),
          said("a-2", "closed", 5, reason="sequence"), *data(5)], [(1, 1), (1, 5, "disconnected", "sequence"), (5, 5)]),
        ([*data(1, 2), said("a-l1", "open", 9, reason="start"), said("a-l1", "closed", 9, reason="start"), *data(5, 6)],
         [(1, 2), (2, 5, "start"), (5, 6)]),
        ([*data(1, 2), status("started", at(4)), *data(5, 6)], [(1, 2), (2, 5, "restart"), (5, 6)]),
        ([*data(1, 2), said("a-1", "open", 3), status("started", at(4)), *data(5, 6)],
         [(1, 2), (2, 5, "disconnected"), (5, 6)]),
        ([*data(1, 2), status("started", at(4)), said("b-1", "open", 4, reason="start"),
          said("b-1", "closed", 5, reason="start"), *data(5, 6)], [(1, 2), (2, 5, "start"), (5, 6)]),
        ([*data(1, 2), said("a-1", "open", 3), *data(4, 5), said("a-1", "closed", 6), *data(7)],
         [(1, 2), (2, 7, "disconnected"), (7, 7)]),
        ([*data(1, 2), said("a-1", "open", 2), served("ended", 3), *data(5, 6)],
         [(1, 2), (2, 5, "disconnected", "ended"), (5, 6)]),
        ([*data(1, 2), served("ended", 3), said("a-1", "open", 3), served("live", 4), *data(5, 6)],
         [(1, 2), (2, 5, "disconnected", "ended"), (5, 6)]),
        ([*data(1, 2), served("ended", 3), served("live", 4), said("a-1", "open", 4), *data(5, 6)],
         [(1, 2), (2, 6, "ended", "disconnected")]),
        ([*data(1, 2), said("a-1", "open", 3), served("live", 4), *data(5, 6)], [(1, 2), (2, 6, "disconnected")]),
        ([*data(1, 2), served("ended", 3), status("started", at(4)), said("b-1", "open", 4, reason="start"),
          served("live", 4), *data(5, 6)], [(1, 2), (2, 6, "start")]),
        ([*data(1, 2), served("ended", 3), said("b-1", "open", 4, reason="start"), served("live", 4), *data(5, 6)],
         [(1, 2), (2, 6, "start")]),
        ([*data(1, 2), served("ended", 3), served("live", 4), *data(5, 6)], [(1, 2), (2, 5, "ended"), (5, 6)]),
        ([*data(1, 2), served("ended", 3), *data(5, 6)], [(1, 2), (2, 5, "ended"), (5, 6)]),
        ([*data(1, 2), served("ended", 3), served("live", 4)], [(1, 2), (2, 4, "ended")]),
        ([*data(1, 2), served("live", 2), *data(3), served("ended", 4)], [(1, 3)]),
        ([served("ended", 1), served("live", 2), *data(5, 6)], [(5, 6)]),
        ([*data(1, 2), served("ended", 3), status("started", at(4)), served("live", 5), *data(6)],
         [(1, 2), (2, 6, "restart"), (6, 6)]),
    ],
)  # fmt: skip
def test_what_may_be_missing_lies_between_the_records_around_it(entries, expected):
    assert judged(*entries) == expected


def test_a_gap_without_an_instrument_is_about_each_of_its_channel_and_account():
    opened = gap("a-1", "open", at(3), None, "orders", "main")
    closed = gap("a-1", "closed", at(4), None, "orders", "main")
    before, after = [order(1000, "A"), order(2000, "B", "other")], [order(5000, "A"), order(6000, "B", "other")]
    covered = coverage({"one": [part(*before, opened, closed, *after)]})
    assert {one.sub[2:]: one.complete for one in covered} == {("A", "main"): False, ("B", "other"): True}


def test_a_gap_told_again_in_the_next_file_is_the_same_gap():
    opened, closed = said("a-1", "open", 3), said("a-1", "closed", 5)
    parts = [part(*data(1, 2), opened), part(opened, closed, *data(5, 6))]
    assert shown(coverage({"one": parts})) == shown(coverage({"one": parts[::-1]}))
    assert shown(coverage({"one": parts})) == [(1, 2), (2, 5, "disconnected"), (5, 6)]


def test_a_gap_behind_the_end_that_later_files_begin_with_is_over():
    opened = said("a-1", "open", 3, reason="overflow")
    parts = [part(*data(1, 2), served("ended", 3), opened, served("live", 4), *data(5, 6)), part(opened, *data(7, 8))]
    assert shown(coverage({"one": parts})) == [(1, 2), (2, 5, "overflow", "ended"), (5, 8)]


def test_a_gap_of_a_subscription_that_is_live_again_lasts_though_it_is_live_in_another_file():
    ended = part(*data(1, 2), served("ended", 3))
    live = part(served("live", 4), said("a-1", "open", 5), *data(9, inst="ETH-USDT"))
    assert shown(coverage({"one": [ended, live]})) == [(1, 2), (2, 9, "ended", "disconnected")]


def test_the_end_of_all_instruments_is_the_end_of_each():
    ended = status("ended", at(4), "trades")
    opened = gap("a-1", "open", at(3), None)
    assert judged(*data(1, 2), opened, ended, *data(5, 6)) == [(1, 2), (2, 5, "disconnected", "ended"), (5, 6)]


@pytest.mark.parametrize("name", ["{inst}.jsonl", "{inst}.jsonl.zst"])
async def test_a_copy_of_a_segment_from_before_it_was_finished_is_not_another_one(tmp_path, name):
    sink = File(path=f"{tmp_path}/data/{name}")
    await sink.open()
    await sink.write(data(1, 2))
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    await sink.write(data(3))
    await sink.close()
    shutil.copytree(tmp_path / "data", tmp_path / "backup", dirs_exist_ok=True)
    [part_of_it] = unfinished(tmp_path / "backup")
    files = read_all(found([tmp_path / "backup"]))
    assert ([file.problem for file in files], coverage(sources(files))[0].records) == ([None], 3)
    part_of_it.write_bytes(b"".join(entry.line for entry in data(7)))
    files = read_all(found([tmp_path / "backup"]))
    assert sorted(file.problem is not None for file in files) == [False, True]


NOBODY_S = [
    {"inst": []}, {"inst": 7}, {"account": {}}, {"venue": None}, {"channel": [1]}, {"recv": 1.5}, {"type": 3},
    {"type": "status", "state": "live", "inst": {}}, {"type": "status", "state": ["live"]},
    {"type": "gap", "gap": None, "state": 1, "reason": [], "after_ts": "12", "inst": [1]},
]  # fmt: skip


@pytest.mark.parametrize("said", NOBODY_S)
def test_what_is_no_record_of_ours_is_passed_over(said):
    made = part(*data(1))
    made.take({"type": "trade", "venue": "okx", "channel": "trades", "inst": "BTC-USDT", "recv": at(2)} | said)
    made.take(data(3)[0].fields)
    assert shown(coverage({"one": [made]})) == [(1, 3)]


def test_a_gap_whose_times_are_none_is_one():
    opened = {"type": "gap", "venue": "okx", "channel": "trades", "inst": "BTC-USDT", "recv": at(2), "after_ts": "12"}
    made = part(*data(1))
    made.take(opened | {"gap": 7, "state": "open", "reason": "sequence", "lost": "many"})
    assert shown(coverage({"one": [made]})) == [(1, 1), (1, 2, "sequence")]


def test_what_one_instance_lacks_another_may_have():
    lacking = part(*data(1, 10), said("a-1", "open", 11), said("a-1", "closed", 12), *data(12, 20))
    assert shown(coverage({"a": [lacking], "b": [part(*data(2, 19))]})) == [(1, 20)]
    assert shown(coverage({"a": [lacking], "b": [part(*data(2, 11.5))]})) == [
        (1, 11.5),
        (11.5, 12, "disconnected"),
        (12, 20),
    ]
    assert shown(coverage({"a": [part(*data(1, 5))], "b": [part(*data(7, 9))]})) == [(1, 5), (5, 7, "absent"), (7, 9)]


def test_a_gap_that_is_said_again_after_a_restart_is_open_again():
    opened, closed = said("a-1", "open", 3), said("a-1", "closed", 6)
    going_on = part(opened, *data(4), closed, *data(7))
    going_on.begun([SUB])
    assert shown(coverage({"one": [part(*data(1, 2), opened), going_on]})) == [(1, 2), (2, 7, "disconnected"), (7, 7)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["open", "closed"]), st.integers(1, 3)),
        st.tuples(st.sampled_from(["broken", "detached", "started", "live", "ended"]), st.just(0)),
        st.tuples(st.just("back"), st.integers(1, 5)),
    ),
    max_size=30,
)


def told(steps):
    """Return the part that `steps` make: time passes with each, and sometimes goes back."""
    made, now = Part(), 100
    for what, value in steps:
        now += -value if what == "back" else 1
        if what == "data":
            made.take(trade(now, at=START + now).fields)
            now += value
        elif what in {"open", "closed"}:
            made.take(gap(f"a-{value}", what, START + now).fields)
        elif what == "broken":
            made.broken("torn")
        elif what == "detached":
            made.detached("missing")
        elif what == "started":
            made.take(status("started", START + now).fields)
        elif what in {"live", "ended"}:
            made.take(status(what, START + now, "trades", "BTC-USDT").fields)
    return made


def whole(found_intervals):
    """Each begins where the last one ended, and complete ones are parted by others."""
    for one, other in pairwise(found_intervals):
        assert one.until == other.since
        assert not (one.complete and other.complete)
    assert all(one.since <= one.until for one in found_intervals)
    assert all(one.complete != bool(one.reasons) for one in found_intervals)


@given(STEPS)
def test_complete_and_incomplete_together_are_all_there_is_and_share_nothing(steps):
    made = told(steps)
    items = made.items[SUB]
    result = intervals([items], made.last)
    whole(result)
    times = [value for (what, value) in steps if what == "data"]
    if times:
        recvs = [item.at for item in items if hasattr(item, "records")]
        assert result[0].since <= recvs[0]
        assert result[-1].until >= max(item.until for item in items if hasattr(item, "records"))


@given(STEPS)
def test_more_said_is_never_more_complete(steps):
    """Leaving out all data after some gap that stays open leaves nothing complete there."""
    made = told(steps)
    made.take(status("live", made.last, "trades", "BTC-USDT").fields)
    made.take(gap("z-9", "open", made.last + 1).fields)
    made.take(trade(1, at=made.last + 5).fields)
    result = intervals([made.items[SUB]], made.last)
    whole(result)
    assert not result[-1].complete


SPANS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans()), min_size=1, max_size=8)


def walked(spans, begin):
    made, now, before = [], begin, None
    for wait, length, complete in spans:
        complete = complete and before is not True
        if not made or made[-1].complete != complete:
            made.append(Interval(now, now + length * OVERLAP, complete, () if complete else ("r",)))
            now, before = made[-1].until, complete
        now += 0 * wait
    return made


@given(st.lists(st.tuples(SPANS, st.integers(0, 20)), min_size=1, max_size=3))
def test_several_sources_together_are_as_whole_as_the_best_of_them_and_no_better(given_sources):
    made = [walked(spans, begin * OVERLAP) for spans, begin in given_sources]
    result = stitched(made)
    whole(result)
    assert (result[0].since, result[-1].until) == (min(m[0].since for m in made), max(m[-1].until for m in made))
    for one in result:
        inside = (one.since + one.until) / 2
        if one.since < one.until:
            covering = [i for source in made for i in source if i.complete and i.since <= inside <= i.until]
            assert one.complete <= bool(covering)


# ------ files


async def write(folder, batches, path="{inst}/{date}.jsonl.zst"):
    sink = File(path=f"{folder}/{path}")
    await sink.open()
    for batch in batches:
        await sink.write(batch)
    await sink.close()


def of_files(*names):
    files = read_all(found(map(str, names)))
    return shown(coverage(sources(files))), {str(file.path.name): file.problem for file in files if file.problem}


def days(*numbers):
    return [[trade(day, at=START + day * DAY), trade(day, at=START + day * DAY + SECOND)] for day in numbers]


def in_days(spans):
    return [(round(since * SECOND / DAY, 3), round(until * SECOND / DAY, 3), *why) for since, until, *why in spans]


@pytest.mark.parametrize(
    ("fault", "expected", "problem"),
    [
        (lambda path, manifest: None, [(0, 3)], None),
        (lambda path, manifest: (path.unlink(), manifest.unlink()), [(0, 0), (0, 2, "missing"), (2, 3)], None),
        (lambda path, manifest: path.unlink(), [(0, 0), (0, 2, "missing"), (2, 3)], "missing"),
        (lambda path, manifest: manifest.unlink(),
         [(0, 0), (0, 1, "no manifest"), (1, 1), (1, 2, "no manifest", "missing"), (2, 3)], "no manifest"),
        (lambda path, manifest: os.truncate(path, 50), [(0, 0), (0, 2, "torn"), (2, 3)], "torn: 50 of"),
        (lambda path, manifest: path.write_bytes(path.read_bytes()[:-1] + b"!"), [(0, 0), (0, 2, "corrupt"), (2, 3)],
         "corrupt: not what its manifest says"),
    ],
)  # fmt: skip
def test_a_segment_that_is_missing_torn_or_changed_is_found(tmp_path, fault, expected, problem):
    asyncio.run(write(tmp_path, days(0, 1, 2, 3)))
    [path] = tmp_path.rglob("2026-08-15*.zst")
    fault(path, path.with_name(f"{path.name}.manifest.json"))
    spans, problems = of_files(tmp_path)
    assert [(round(a), round(b), *why) for a, b, *why in in_days(spans)] == expected
    assert [text[: len(problem or "")] for text in problems.values()] == ([problem] if problem else [])


def test_the_last_segment_is_missed_where_its_manifest_is_left(tmp_path):
    asyncio.run(write(tmp_path, days(0, 1)))
    os.truncate(finished(tmp_path)[-1], 10)
    assert in_days(of_files(tmp_path)[0])[-1][2:] == ("torn",)


def test_segments_of_a_killed_run_are_read_as_far_as_they_are_whole(tmp_path):
    async def killed():
        sink = File(path=f"{tmp_path}/{{date}}.jsonl.zst")
        await sink.open()
        await sink.write(data(1, 2))
        await sink.write(data(3, 4))
        [part_path] = unfinished(tmp_path)
        spans, problems = of_files(tmp_path)
        assert (spans, problems) == ([(1, 4)], {})
        os.truncate(part_path, part_path.stat().st_size - 1)
        assert of_files(tmp_path) == ([(1, 2)], {}), "while it is written, its end is no damage"
        crash(tmp_path)

    asyncio.run(killed())
    spans, problems = of_files(tmp_path)
    assert spans == [(1, 2), (2, 2, "torn")]
    assert list(problems.values()) == ["torn: the last frame is torn"]
    again = [said("b-1", "open", 6, reason="start"), said("b-1", "closed", 7, reason="start"), *data(7, 8)]
    asyncio.run(write(tmp_path, [again], "{date}.jsonl.zst"))
    assert of_files(tmp_path) == ([(1, 2), (2, 7, "start"), (7, 8)], {})


async def begun(folder, batches, path):
    """Write without an end, and return the coverage of `folder` while all is still unfinished, and without a state."""
    sink = File(path=f"{folder}/{path}")
    await sink.open()
    for batch in batches:
        await sink.write(batch)
    known = of_files(folder)[0]
    for state in folder.glob(".okstream-*.state"):
        state.unlink()
    return known, of_files(folder)[0]


def test_what_is_unfinished_under_another_template_does_not_go_on_with_what_was_before(tmp_path):
    asyncio.run(write(tmp_path, [data(1, 2)], "{date}.jsonl.zst"))
    known, unknown = asyncio.run(begun(tmp_path, [data(6, 7)], "{date}-{hour}.jsonl.zst"))
    assert known == unknown == [(1, 2), (2, 6, "absent"), (6, 7)]


def test_what_is_unfinished_goes_on_with_its_own_run_and_with_no_other(tmp_path):
    batches = [data(1, 2), [trade(1, at=START + DAY)], [trade(2, at=START + DAY + 3 * SECOND)]]
    known, unknown = asyncio.run(begun(tmp_path / "a", batches, "{date}.jsonl.zst"))
    assert len(finished(tmp_path / "a")) == len(unfinished(tmp_path / "a")) == 1
    assert in_days(known) == [(0, 1)]
    assert [why for _, _, *why in unknown] == [[], ["restart"], []]
    asyncio.run(write(tmp_path / "b", [data(1, 2)], "{date}.jsonl.zst"))
    assert (
        asyncio.run(begun(tmp_path / "b", [data(6, 7)], "{date}.jsonl.zst"))
        == ([(1, 2), (2, 6, "restart"), (6, 7)],) * 2
    )


def test_of_unfinished_files_of_which_nothing_is_known_none_goes_on_with_another(tmp_path):
    asyncio.run(begun(tmp_path, [data(1, 2)], "{date}.jsonl.zst"))
    crash(tmp_path)
    known, unknown = asyncio.run(begun(tmp_path, [data(6, 7)], "{date}-{hour}.jsonl.zst"))
    assert known == [(1, 2), (2, 6, "absent"), (6, 7)]
    assert unknown == [(1, 2), (2, 6, "restart"), (6, 7)]


@pytest.mark.parametrize("named", ["before the names are looked for", "before it is read", "never"])
def test_what_is_finished_while_the_verb_reads_is_there_once(tmp_path, named):
    async def finishing():
        sink = File(path=f"{tmp_path}/{{date}}.jsonl.zst")
        await sink.open()
        await sink.write(data(1, 2))
        [part_path] = unfinished(tmp_path)
        paths = found([str(tmp_path)])
        await sink.close()
        [path] = finished(tmp_path)
        match named:
            case "before the names are looked for":  # it has both for a moment
                os.link(path, part_path)
                paths = found([str(tmp_path)])
                assert paths == [path, part_path]
            case "never":
                path.unlink()
        return read_all(paths)

    [file] = asyncio.run(finishing())
    assert file.path == tmp_path / "2026-08-14.000001.jsonl.zst"
    assert file.problem == ("missing" if named == "never" else None)
    [covered] = coverage(sources([file]))
    assert (covered.records, covered.complete) == ((0, False) if named == "never" else (2, True))


def test_what_a_kill_left_is_found_without_a_state_however_the_template_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = ".//data/./{inst}/{date}.jsonl.zst"
    asyncio.run(write(".", [data(1, 2)], path))

    async def killed():
        sink = File(path=path)
        await sink.open()
        await sink.write(data(6, 7))
        crash(tmp_path)
        [state] = tmp_path.glob("data/.okstream-*.state")
        state.unlink()

    async def again():
        sink = File(path=path)
        await sink.open()
        proven = [one.identity for one in sink.proven()]
        await sink.close()
        return proven

    asyncio.run(killed())
    assert asyncio.run(again()) == [data(7)[0].identity]
    assert (len(finished("data")), unfinished("data")) == (2, [])
    for text in tmp_path.rglob("*.manifest.json"):  # as another version wrote it
        text.write_bytes(text.read_bytes().replace(b'"data/{inst}', b'"./data/{inst}'))
    [state] = tmp_path.glob("data/.okstream-*.state")
    state.unlink()
    assert asyncio.run(again()) == [data(7)[0].identity]


def test_where_its_folder_was_removed_a_sink_still_keeps_others_away_and_is_kept_away(tmp_path):
    folder = tmp_path / "data"
    one, other = (File(path=f"{folder}/{{date}}.jsonl.zst") for _ in range(2))

    async def removed():
        await one.open()
        await one.write(data(1))
        shutil.rmtree(folder)
        with pytest.raises(RetryError, match="removed"):
            await one.write(data(2))
        await one.write(data(2))
        with pytest.raises(RetryError, match="another sink of this process writes there"):
            await other.open()
        shutil.rmtree(folder)
        await other.open()
        await other.write(data(3))
        with pytest.raises(RetryError, match="removed"):
            await one.write(data(4))
        for _ in range(2):
            with pytest.raises(RetryError, match="another sink of this process writes there"):
                await one.write(data(4))
        await other.close()
        await one.write(data(4))
        await one.close()

    asyncio.run(removed())
    assert held(folder) == [entry.line for entry in data(3, 4)]


def test_runs_without_a_gap_between_them_are_not_one(tmp_path):
    asyncio.run(write(tmp_path, [data(1, 2)]))
    asyncio.run(write(tmp_path, [data(3, 4)]))
    assert of_files(tmp_path)[0] == [(1, 2), (2, 3, "restart"), (3, 4)]


def test_two_instances_into_folders_of_their_own_make_up_for_each_other(tmp_path):
    lacking = [*data(1, 5), said("a-1", "open", 6), said("a-1", "closed", 7), *data(7, 20)]
    asyncio.run(write(tmp_path / "a", [lacking]))
    asyncio.run(write(tmp_path / "b", [data(2, 19)]))
    assert of_files(tmp_path / "a")[0] == [(1, 5), (5, 7, "disconnected"), (7, 20)]
    assert of_files(tmp_path)[0] == [(1, 20)]


def test_a_shells_file_is_read_too_and_a_line_that_is_none_is_a_fault(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(entry.line for entry in data(1, 2)) + b'{"type":"tra\n' + data(3)[0].line)
    spans, problems = of_files(path)
    assert spans == [(1, 2), (2, 3, "corrupt"), (3, 3), (3, 3, "torn")]
    assert list(problems.values()) == ["torn: a line is no JSON"]


JUNK = st.recursive(
    st.none() | st.integers(-5, 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["venue", "channel", "inst", "account", "type", "records", "last", "previous",
                                       "first_recv", "last_recv"]), inner),
    max_leaves=20,
)  # fmt: skip


def cli(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "okstream", "coverage", *map(str, arguments)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_verb_prints_a_table_or_json_and_its_exit_code_says_whether_something_is_missing(tmp_path):
    entries = [*data(1, 5), said("a-1", "open", 6), ticker(2000), said("a-1", "closed", 7), *data(7, 20)]
    asyncio.run(write(tmp_path, [entries], "{venue}/{channel}/{inst}.jsonl.zst"))
    code, text, _ = cli(tmp_path)
    assert code == 4
    assert text.splitlines() == [
        "okx ticker BTC-USDT  2026-08-14T00:00:02.000000Z .. 2026-08-14T00:00:02.000000Z  1 record  complete",
        "okx trades BTC-USDT  2026-08-14T00:00:01.000000Z .. 2026-08-14T00:00:20.000000Z  4 records  1 gap, 2.000 s",
        "    2026-08-14T00:00:05.000000Z .. 2026-08-14T00:00:07.000000Z  disconnected (a-1)",
        "2 subscriptions, 1 of them not complete",
    ]
    code, text, _ = cli("--json", f"{tmp_path}/okx/tra*/*.zst")
    assert code == 4
    [told_of] = map(orjson.loads, text.splitlines())
    assert told_of == {
        "venue": "okx", "channel": "trades", "inst": "BTC-USDT", "account": None, "records": 4, "complete": False,
        "intervals": [
            {"from": at(1), "until": at(5), "complete": True},
            {"from": at(5), "until": at(7), "complete": False, "reasons": ["disconnected"], "gaps": ["a-1"]},
            {"from": at(7), "until": at(20), "complete": True},
        ],
    }  # fmt: skip
    shutil.rmtree(tmp_path / "okx" / "trades")
    assert cli(tmp_path)[0] == 0


WANTED = """
[[source]]
venue = "okx"
subscriptions = ["trades:BTC-USDT,ETH-USDT", "ticker:BTC-USDT,ETH-USDT", "orders:instType=SPOT", "book:*-USDT",
                 "bbo:BTC-USDT"]
[account.main]
[sink.files]
type = "file"
path = "data/{inst}"
channels = ["trades", "ticker", "orders", "book"]
"""


def test_with_its_configuration_the_verb_names_what_never_reached_the_disk(tmp_path):
    entries = [status("live", at(0), "ticker", "ETH-USDT"), *data(1, 5), order(2000, "BTC-USDT")]
    asyncio.run(write(tmp_path / "data", [entries], "{channel}/{inst}.jsonl.zst"))
    config = tmp_path / "okstream.toml"
    config.write_text(WANTED)
    assert cli(tmp_path / "data")[0] == 0
    code, text, _ = cli("--config", config, tmp_path / "data")
    assert code == 4
    assert [line for line in text.splitlines() if "nothing" in line] == [
        "okx trades ETH-USDT  nothing of it is there",
        "okx ticker BTC-USDT  nothing of it is there",
    ]
    assert text.endswith("4 subscriptions, 2 of them not complete\n")
    code, text, _ = cli("--json", "--config", config, tmp_path / "data")
    absent = [one for one in map(orjson.loads, text.splitlines()) if not one["intervals"]]
    assert [(one["inst"], one["records"], one["complete"]) for one in absent] == [
        ("ETH-USDT", 0, False), ("BTC-USDT", 0, False),
    ]  # fmt: skip
    assert cli("--config", tmp_path / "none.toml", tmp_path / "data")[0] == 2


def test_what_nobody_finishes_is_no_complete_day_until_it_is_finished(tmp_path):
    async def left():
        sink = File(path=f"{tmp_path}/{{inst}}/{{date}}.jsonl", open_files=1)
        await sink.open()
        await sink.write([trade(1), trade(2, "ETH-USDT")])
        assert of_files(tmp_path)[1] == {}, "it is written, though not all is held open"
        crash(tmp_path)

    asyncio.run(left())
    code, text, _ = cli(tmp_path)
    assert code == 4
    assert text.count(".part: unfinished: what came after it may be lost") == 2
    assert text.endswith("all 2 complete as far as they go, but 2 files are not whole\n")
    asyncio.run(write(tmp_path, [], "{inst}/{date}.jsonl"))
    assert cli(tmp_path)[0] == 0


def test_a_journal_is_told_from_a_folder_without_records(tmp_path):
    assert "there are no records in there" in cli(tmp_path)[2]

    async def recorded():
        journal = Journal(str(tmp_path / "journal"))
        journal.open("instance", START)
        await journal.close()

    asyncio.run(recorded())
    code, _, complaint = cli(tmp_path / "journal")
    assert (code, "a journal holds no records; okstream replay" in complaint) == (2, True)


def test_a_journal_beside_the_files_is_none_of_them_whether_whole_or_not(tmp_path):
    asyncio.run(write(tmp_path, [data(1, 2)]))

    async def recorded():
        for instance in ("whole", "killed"):
            journal = Journal(str(tmp_path / "journal"))
            journal.open(instance, START)
            await journal.close()

    asyncio.run(recorded())
    (killed,) = (tmp_path / "journal").glob("*killed*")
    killed.rename(f"{killed}.part")
    code, text, _ = cli(tmp_path)
    assert (code, "journal" in text) == (0, False)


def test_dead_letters_beside_the_files_are_no_records_of_theirs(tmp_path):
    asyncio.run(write(tmp_path, [data(1, 2), [said("b-1", "open", 6, reason="start")], data(7, 8)]))
    without = of_files(tmp_path)
    letters = DeadLetters(tmp_path / "dead.jsonl", 1 << 20, "store")
    letters_of = [(entry, "too large") for entry in data(3, 4, 5)]
    assert asyncio.run(letters.add(letters_of, at(9))) == 3
    assert of_files(tmp_path) == of_files(*tmp_path.glob("*")) == without
    assert tmp_path / "dead.jsonl" not in found([str(tmp_path)])
    assert "there are no records in there" in cli(tmp_path / "dead.jsonl")[2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"no record\nin sight"),
        ("records.jsonl.gz", b"\x1f\x8b\x08\0"),
        ("program", b"\x7fELF" + bytes(99)),
    ],
)
def test_what_is_neither_called_nor_like_a_file_of_records_is_none_that_is_torn(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert cli(tmp_path / name) == (2, "", f"okstream: {tmp_path / name}: there are no records in there\n")


@pytest.mark.parametrize("name", ["nothing", "no*thing", "."])
def test_where_there_is_nothing_to_read_the_verb_says_so(tmp_path, name):
    code, text, complaint = cli(tmp_path / name)
    assert (code, text) == (2, "")
    assert str(tmp_path) in complaint


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_read_or_are_a_fault(tmp_path_factory, noise, after):
    folder = tmp_path_factory.mktemp("noise")
    path = folder / "x.jsonl"
    path.write_bytes(data(1)[0].line + noise if after else noise)
    file = read(path)
    coverage(sources([file]))


@given(st.dictionaries(st.sampled_from(["bytes", "sha256", "subscriptions", "gaps", "run", "sink", "x"]), JUNK))
def test_a_manifest_that_is_none_is_as_if_it_were_not_there(tmp_path_factory, junk):
    folder = tmp_path_factory.mktemp("junk")
    path = folder / "x.000001.jsonl"
    path.write_bytes(data(1)[0].line)
    path.with_name(f"{path.name}.manifest.json").write_bytes(orjson.dumps(junk))
    file = read(path)
    assert file.problem is not None
    coverage(sources([file]))

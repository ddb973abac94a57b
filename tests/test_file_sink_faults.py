"""The file sink when things go wrong: nothing torn is left, nothing accepted is lost, nothing comes twice."""

import asyncio
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.filed import DAY, START, crash, finished, gap, held, lines, manifest, of, trade, unfinished

from okstream.errors import RetryError
from okstream.files.growing import Growing
from okstream.files.names import Template
from okstream.files.reading import LONGEST_LINE
from okstream.files.writer import Writer
from okstream.sinks.file import File

TIMEOUT = 30
FORMS = ("all.jsonl", "all.jsonl.zst", "{inst}.jsonl", "{inst}.jsonl.zst")


def files(folder, name="{inst}.jsonl", **options):
    """Return what writes there, as a File has it."""
    level = 3 if name.endswith(".zst") else None
    if "{" not in name:
        return Growing(Path(folder, name), level=level, sync=False)
    known = {"rotate_bytes": None, "rotate_ns": None, "open_files": 16, "sync": True} | options
    return Writer(Template(f"{folder}/{name}"), level=level, **known)


def reopened(folder, name):
    """Open and close it, so that everything is mended and finished; return what it proved."""
    writer = files(folder, name)
    writer.open()
    proven = {one.inst: one.after for one in writer.proven()}
    writer.close()
    return proven


@contextmanager
def limited(what, limit):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@pytest.mark.parametrize("name", FORMS[1::2])
def test_a_batch_of_any_size_is_read_again_whole(tmp_path, name):
    """Larger than what a reader takes for a frame of ours."""
    about = trade(1).about
    batch = [of(replace(about, id=str(number), size="1" * (8 << 20))) for number in range(9)]
    assert sum(len(entry.line) for entry in batch) > LONGEST_LINE
    writer = files(tmp_path, name)
    writer.open()
    writer.write(batch)
    crash(tmp_path)
    assert reopened(tmp_path, name) == {"BTC-USDT": "8"}
    assert held(tmp_path) == [entry.line for entry in batch]


@pytest.mark.parametrize("name", FORMS)
def test_a_file_torn_at_any_byte_loses_what_was_torn_and_no_more(tmp_path, name):
    """Plain: one line. zstd: one flush."""
    batches = [[trade(batch * 3 + number) for number in range(3)] for batch in range(3)]
    writer = files(tmp_path / "whole", name)
    writer.open()
    ends = [0]
    for batch in batches:
        writer.write(batch)
        ends.append(max(path.stat().st_size for path in (tmp_path / "whole").glob("[!.]*")))
    crash(tmp_path / "whole")
    entries = [entry for batch in batches for entry in batch]
    if not name.endswith(".zst"):
        ends = [0] + [len(b"".join(entry.line for entry in entries[: count + 1])) for count in range(9)]
    for size in range(ends[-2] - 2, ends[-1] + 1):
        folder = tmp_path / f"torn-{size}"
        shutil.copytree(tmp_path / "whole", folder)
        [torn] = folder.glob("[!.]*")
        os.truncate(torn, size)
        proven = reopened(folder, name)
        whole = sum(size >= end for end in ends[1:]) * (3 if name.endswith(".zst") else 1)
        if size + 1 in ends and name == "all.jsonl":
            whole += 1  # only its newline was missing
        assert held(folder) == [entry.line for entry in entries[:whole]], size
        assert proven == {"BTC-USDT": str(whole - 1)}
        assert not unfinished(folder)


@pytest.mark.parametrize("name", FORMS[2:])
def test_what_a_power_cut_left_as_zeros_is_cut_off(tmp_path, name):
    writer = files(tmp_path, name)
    writer.open()
    writer.write([trade(1)])
    writer.write([trade(2)])
    crash(tmp_path)
    [part] = unfinished(tmp_path)
    with part.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(bytes(200) + b"\n" + bytes(200))
    assert reopened(tmp_path, name) == {"BTC-USDT": "1"}
    assert held(tmp_path) == [trade(1).line]


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.zst"])
def test_what_is_remembered_of_a_file_that_was_cut_and_grew_again_is_not_believed(tmp_path, name):
    """Otherwise it would prove a record that is gone, or be read from the middle of what it holds now."""
    writer = files(tmp_path, name)
    writer.open()
    writer.write([trade(1, "A"), trade(2, "B")])
    writer.close()
    writer.open()
    os.truncate(tmp_path / name, 0)
    writer.write([trade(number, "C") for number in range(3, 13)])
    crash(tmp_path)
    assert reopened(tmp_path, name) == {"C": "12"}
    assert held(tmp_path) == [trade(number, "C").line for number in range(3, 13)]


@pytest.mark.parametrize("before", ["none", "zstd"])
def test_the_manifest_of_what_a_crash_left_says_how_that_is_compressed(tmp_path, before):
    level = {"none": None, "zstd": 3}
    after = next(form for form in level if form != before)
    for form in (before, after):
        writer = Writer(
            Template(f"{tmp_path}/{{inst}}.jsonl"), level=level[form],
            rotate_bytes=None, rotate_ns=None, open_files=16, sync=True,
        )  # fmt: skip
        writer.open()
        writer.write([trade(1)])
        if form == before:
            crash(tmp_path)
        else:
            writer.close()
    assert [manifest(path)["compress"] for path in finished(tmp_path)] == [before, after]


def test_a_segment_of_yesterday_that_is_mended_after_one_of_today_proves_nothing_old(tmp_path):
    """It waits for what comes late while the one of today has reached its size already."""
    writer = files(tmp_path, "{inst}-{date}.jsonl", rotate_bytes=300)
    writer.open()
    writer.write([trade(1, "A", at=START)])
    writer.write([trade(number, "A", at=START + DAY + number) for number in (2, 3)])
    crash(tmp_path)
    assert len(finished(tmp_path)) == len(unfinished(tmp_path)) == 1
    assert reopened(tmp_path, "{inst}-{date}.jsonl") == {"A": "3"}
    yesterday, today = (manifest(path)["subscriptions"][0] for path in finished(tmp_path))
    assert (yesterday["previous"], today["previous"]) == (None, "okx:trades::A:1")


def test_a_segment_that_had_its_name_already_is_neither_lost_nor_doubled(tmp_path):
    """Killed between the two names, and between the name and the memory of it."""
    for both in (True, False):
        folder = tmp_path / str(both)
        writer = files(folder)
        writer.open()
        writer.write([trade(1)])
        memory = next(folder.glob(".*.state")).read_bytes()
        writer.close()
        next(folder.glob(".*.state")).write_bytes(memory)
        [path] = finished(folder)
        if both:
            os.link(path, f"{path}.part")
        assert reopened(folder, "{inst}.jsonl") == {"BTC-USDT": "1"}
        assert finished(folder) == [path]
        assert not unfinished(folder)


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("name", FORMS)
def test_a_full_disk_leaves_nothing_torn_and_what_is_tried_again_stands_once(tmp_path, name, sync):
    writer = files(tmp_path, name, **({"sync": sync} if "{" in name else {}))
    writer.open()
    writer.write([trade(1)])
    size = max(path.stat().st_size for path in tmp_path.glob("[!.]*"))
    batch = [trade(2), trade(3), gap("a-1", "open", START)]
    with limited(resource.RLIMIT_FSIZE, size + 100), pytest.raises(RetryError, match="File too large") as raised:
        writer.write(batch)
    assert raised.value.pending in (None, [0, 1, 2])
    assert max(path.stat().st_size for path in tmp_path.glob("[!.]*") if path.suffix != ".json") == size
    writer.write(batch)
    writer.close()
    assert held(tmp_path) == [trade(1).line, *(entry.line for entry in batch)]


def test_where_some_files_fail_the_others_are_written_and_only_the_rest_is_pending(tmp_path):
    writer = files(tmp_path, "{inst}/{date}.jsonl")
    writer.open()
    opened, closed = (gap("a-1", state, START, None) for state in ("open", "closed"))
    writer.write([trade(1, "A"), trade(2, "B"), trade(3, "C")])
    shutil.move(tmp_path / "B", tmp_path / "B2")
    (tmp_path / "B").write_text("in the way")
    batch = [trade(4, "A"), opened, trade(5, "B", at=START + DAY), closed, trade(6, "C")]
    with pytest.raises(RetryError) as raised:
        writer.write(batch)
    assert raised.value.pending == [2, 3]
    (tmp_path / "B").unlink()
    shutil.move(tmp_path / "B2", tmp_path / "B")
    writer.write([batch[2], batch[3]])
    writer.close()
    said = [opened.line, closed.line]
    assert held(tmp_path / "A") == [trade(1, "A").line, batch[0].line, *said]
    assert held(tmp_path / "B") == [trade(2, "B").line, said[0], said[0], batch[2].line, said[1]]
    assert held(tmp_path / "C") == [trade(3, "C").line, *said, batch[4].line]


def test_a_statement_that_stands_in_some_of_its_files_is_not_repeated_there(tmp_path):
    writer = files(tmp_path, "{inst}/{date}.jsonl")
    writer.open()
    writer.write([trade(1, "A"), trade(2, "B")])
    opened = gap("a-1", "open", START + DAY, None)
    (tmp_path / "B").rename(tmp_path / "B2")
    (tmp_path / "B").write_text("in the way")
    with pytest.raises(RetryError) as raised:
        writer.write([opened])
    assert raised.value.pending == [0]
    (tmp_path / "B").unlink()
    (tmp_path / "B2").rename(tmp_path / "B")
    writer.write([opened])
    writer.close()
    assert [held(tmp_path / inst)[-1:] for inst in "AB"] == [[opened.line]] * 2
    assert [len(held(tmp_path / inst)) for inst in "AB"] == [2, 2]


def test_a_folder_that_is_removed_is_made_again_and_what_was_in_it_is_missed(tmp_path, caplog):
    data = tmp_path / "data"
    writer = files(data, "{inst}/{date}.jsonl")
    writer.open()
    writer.write([trade(1)])
    shutil.rmtree(data)
    with pytest.raises(RetryError) as raised:
        writer.write([trade(2)])
    assert raised.value.pending == [0]
    writer.write([trade(2)])
    writer.close()
    assert held(data) == [trade(2).line]
    assert "1 lines were in it" in caplog.text
    assert manifest(finished(data)[0])["subscriptions"][0]["previous"] == "okx:trades::BTC-USDT:1"


def test_without_descriptors_it_makes_do_with_fewer_or_says_so(tmp_path):
    instruments = [f"I{number}" for number in range(40)]
    writer = files(tmp_path, open_files=1000)
    writer.open()
    writer.write([trade(1, inst) for inst in instruments])
    taken = []
    with limited(resource.RLIMIT_NOFILE, 200):
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        writer.write([trade(2, inst) for inst in instruments])
        batch = [trade(3, "another"), *(trade(3, inst) for inst in instruments)]
        for _ in range(10):  # each time half of those that are open are closed
            try:
                writer.write(batch)
                break
            except RetryError as error:
                batch = [batch[position] for position in error.pending]
        for descriptor in taken:
            os.close(descriptor)
    writer.close()
    assert sorted(held(tmp_path)) == sorted(
        [trade(number, inst).line for number in (1, 2, 3) for inst in instruments] + [trade(3, "another").line]
    )


def test_what_cannot_be_finished_is_finished_later(tmp_path, caplog):
    writer = files(tmp_path, "all-{hour}.jsonl")
    writer.open()
    writer.write([trade(1, at=START)])
    [part] = unfinished(tmp_path)
    blocker = part.with_name(f".{part.name.removesuffix('.part')}.manifest.json.new")
    blocker.mkdir()
    writer.write([trade(2, at=START + DAY)])
    assert "not finished yet" in caplog.text
    blocker.rmdir()
    writer.tick(START + DAY + 60 * 10**9)
    assert held(tmp_path) == [trade(1, at=START).line]
    writer.close()
    assert held(tmp_path) == [trade(1, at=START).line, trade(2, at=START + DAY).line]


KILLED = """
import asyncio, sys
from okstream.sinks.file import File
from support.filed import trade
async def main():
    sink = File(path=sys.argv[1], rotate_mib=0.01)
    await sink.open()
    for batch in range(10**6):
        await sink.write([trade(batch * 10 + number) for number in range(10)])
        print(batch, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["all-{date}.jsonl", "all-{date}.jsonl.zst"])
def test_what_was_accepted_survives_sigkill(tmp_path, name):
    """The process is killed while it writes, so the last thing it wrote may be known to nobody."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", KILLED, f"{tmp_path}/{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        accepted = 0
        while accepted < 100:
            accepted = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        accepted = max([accepted, *map(int, process.stdout.read().split())])
    assert process.returncode == -signal.SIGKILL
    proven = reopened(tmp_path, name)
    found = held(tmp_path)
    assert len(found) >= (accepted + 1) * 10
    assert len(found) - (accepted + 1) * 10 <= 10, "at most the batch that was being written"
    assert found == [trade(number).line for number in range(len(found))]
    assert proven == {"BTC-USDT": str(len(found) - 1)}
    assert not unfinished(tmp_path)
    assert len(finished(tmp_path)) > 1


STEP = st.one_of(
    st.tuples(st.just("write"), st.lists(st.sampled_from("ABC"), min_size=1, max_size=6)),
    st.tuples(st.just("day"), st.none()),
    st.tuples(st.just("full"), st.lists(st.sampled_from("ABC"), min_size=1, max_size=6)),
    st.tuples(st.just("crash"), st.integers(0, 40)),
    st.tuples(st.just("close"), st.none()),
)


@settings(max_examples=200)
@given(st.lists(STEP, max_size=25), st.sampled_from([*FORMS, "{date}.jsonl.zst", "{inst}-{date}.jsonl"]))
def test_whatever_happens_each_accepted_record_stands_once_and_the_last_one_is_proven(steps, name):
    """A crash may tear what was written last, at most the last batch of a file; what is proven is what is there."""
    folder = Path(tempfile.mkdtemp(prefix="okstream-"))
    try:
        model, number, at = {"A": [], "B": [], "C": []}, 0, START
        options = {"rotate_bytes": 1500, "open_files": 1} if "{" in name else {}
        writer = files(folder, name, **options)
        writer.open()
        for what, value in steps:
            if what in {"write", "full"}:
                batch = [trade(number + index, inst, at=at + number + index) for index, inst in enumerate(value)]
                number += len(batch)
                pending = range(len(batch))
                if what == "full":
                    with limited(resource.RLIMIT_FSIZE, 300):
                        try:
                            writer.write(batch)
                            pending = []
                        except RetryError as error:
                            pending = pending if error.pending is None else error.pending
                if pending:
                    writer.write([batch[position] for position in pending])
                for entry in batch:
                    model[entry.inst].append(entry.line)
            elif what == "day":
                at += DAY
            else:
                if what == "crash":
                    crash(folder)
                    _tear(folder, value)
                    writer = files(folder, name, **options)
                else:
                    writer.close()
                writer.open()
                present = _present(folder)
                for inst, expected in model.items():
                    assert present[inst] == expected[: len(present[inst])]
                    assert what == "crash" or present[inst] == expected
                    model[inst] = present[inst]
                proven = {one.inst: one.after for one in writer.proven()}
                last = {inst: these[-1] for inst, these in model.items() if these}
                assert proven == {inst: orjson.loads(line)["id"] for inst, line in last.items()}
        writer.close()
        assert _present(folder) == model
    finally:
        crash(folder)
        shutil.rmtree(folder)


def _tear(folder, count):
    """Cut so many bytes off what was written last: off the newest of each series, unless that is finished."""
    newest = {}
    for path in sorted([*finished(folder), *unfinished(folder)]):
        newest[path.name[0]] = path
    for path in newest.values():
        if path.name.endswith(".part") or path.name.startswith("all.jsonl"):
            os.truncate(path, max(0, path.stat().st_size - count))


def _present(folder):
    present = {"A": [], "B": [], "C": []}
    found = [[(orjson.loads(line), line) for line in lines(path)] for path in finished(folder)]
    for record, line in sorted((one for these in found for one in these), key=lambda one: one[0]["recv"]):
        present[record["inst"]].append(line)
    return present


async def test_a_write_that_is_given_up_is_done_or_not_and_the_sink_can_be_closed(tmp_path):
    sink = File(path=f"{tmp_path}/{{inst}}.jsonl", rotate_mib=1)
    await sink.open()
    task = asyncio.create_task(sink.write([trade(1)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await sink.close()
    assert held(tmp_path) in ([], [trade(1).line])


def test_an_error_names_the_file_and_what_to_do_and_many_are_one_line(tmp_path, caplog):
    writer = files(tmp_path, "{inst}-{hour}.jsonl")
    writer.open()
    instruments = [f"SIM{number:03}-USDT" for number in range(40)]
    advice = r"File too large \(.*ulimit -f.*\)"
    with limited(resource.RLIMIT_FSIZE, 100), pytest.raises(RetryError, match=rf"/\.okstream-.*\.state: {advice}$"):
        writer.write([trade(1, inst) for inst in instruments])
    writer.write([trade(1, inst) for inst in instruments])
    with (
        limited(resource.RLIMIT_FSIZE, 100),
        pytest.raises(RetryError, match=rf"/SIM000-USDT-.*\.part: {advice}, and 39 more files$"),
    ):
        writer.write([trade(2, inst) for inst in instruments])
    blocked = [part.with_name(f".{part.name.removesuffix('.part')}.manifest.json.new") for part in unfinished(tmp_path)]
    for blocker in blocked:
        blocker.mkdir()
    caplog.clear()
    writer.close()
    [line] = [record.message for record in caplog.records if "not finished yet" in record.message]
    assert re.search(rf": Is a directory, and {len(instruments) - 1} more files$", line)


def test_a_template_that_another_process_writes_names_it(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", KILLED, f"{tmp_path}/{{date}}.jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as other:
        try:
            other.stdout.readline()
            with pytest.raises(RetryError, match=rf"another okstream writes there, process {other.pid}$"):
                files(tmp_path, "{date}.jsonl").open()
        finally:
            other.kill()

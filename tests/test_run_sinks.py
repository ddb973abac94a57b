"""`okstream run` with several sinks, as its users meet it: real processes, files, pipes and a real broker."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from nats_server import free_port, nats_server
from support.commands import OKSTREAM, TIMEOUT, calm, clean_environment, okstream, records

from okstream.version import VERSION

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
SOURCE = '[[source]]\nvenue = "sim"\nsubscriptions = ["trades:BTC-USDT", "book:BTC-USDT-SWAP"]\n'

SINKS = """
import asyncio
from okstream.errors import RetryError, SinkError


class Sink:
    def __init__(self, *, after: int = 0, name_in_errors: str = "own") -> None:
        self.left, self.name = after, name_in_errors

    async def open(self):
        pass

    async def write(self, batch):
        pass

    async def close(self):
        pass


class Stuck(Sink):
    async def write(self, batch):
        await asyncio.Event().wait()


class Opening(Sink):
    async def open(self):
        open("opening", "w").close()
        await asyncio.Event().wait()


class Failing(Sink):
    async def write(self, batch):
        self.left -= len(batch)
        if self.left < 0:
            raise SinkError("the paper is out")


class Down(Sink):
    async def write(self, batch):
        raise RetryError("the line is engaged")


class Wrong(Sink):
    async def write(self, batch):
        raise ZeroDivisionError("oh")


class Quitting(Sink):
    async def write(self, batch):
        raise SystemExit(9)


class QuittingApart(Quitting):
    threaded = True
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mysinks.py").write_text(SINKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def configured(folder, text, top=""):
    path = folder / "config.toml"
    path.write_text(f"{top}\n{SOURCE}{text}")
    return str(path)


@contextmanager
def running(folder, text, *arguments, top="", verb="run"):
    """`okstream run` with a configuration, ended in any case."""
    config = configured(folder, text, top)
    with subprocess.Popen(
        [OKSTREAM, verb, "--config", config, *arguments], cwd=folder, text=True, env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ended(process):
    """Ask it to end; return what it says then, and its exit code."""
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=TIMEOUT)
    return out, calm(errors), process.returncode


def wait_for(process, path, word):
    while not path.exists() or word not in path.read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def line_with(stream, word):
    """Read lines until one has `word`."""
    for line in stream:
        if word in line:
            return line
    raise AssertionError(f"{word} is in none of them")


FILE = '[sink.kept]\ntype = "file"\npath = "kept.jsonl"\n'


def test_sinks_get_the_same_each_in_its_form_and_by_its_filters(folder):
    text = FILE + 'channels = ["trades"]\n[sink.pipe]\ntype = "stdout"\nchannels = ["book"]\ndata_only = true\n'
    with running(folder, text) as process:
        wait_for(process, folder / "kept.jsonl", '"trade"')
        out, errors, code = ended(process)
    assert (code, errors) == (0, "")
    assert {record["type"] for record in records(out)} == {"book"}
    kept = records((folder / "kept.jsonl").read_text())
    assert {record["type"] for record in kept} == {"trade", "status"}
    assert (kept[0]["state"], kept[-1]["state"]) == ("started", "ended")


def test_the_reader_of_one_sink_may_leave(folder):
    with running(folder, FILE + '[sink.pipe]\ntype = "stdout"\n') as process:
        process.stdout.readline()
        process.stdout.close()
        before = (folder / "kept.jsonl").read_text().count("\n")
        while (folder / "kept.jsonl").read_text().count("\n") < before + 30:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
        assert calm(process.stderr.read()) == ""


@pytest.mark.parametrize(
    ("sink", "says"),
    [
        ("Failing", "broken failed: the paper is out"),
        ("Wrong", "broken failed, which is a mistake"),
        ("Quitting", "broken failed, which is a mistake"),
        ("QuittingApart", "broken failed, which is a mistake"),
    ],
)
def test_a_sink_that_fails_is_named_and_the_others_go_on(folder, sink, says):
    with running(folder, FILE + f'[sink.broken]\ntype = "mysinks:{sink}"\n') as process:
        assert says in line_with(process.stderr, " failed")
        before = (folder / "kept.jsonl").read_text().count("\n")
        while (folder / "kept.jsonl").read_text().count("\n") < before + 30:
            assert process.poll() is None
            time.sleep(0.02)
        _, errors, code = ended(process)
    assert code == 5
    assert re.fullmatch(
        rf"{TIME} ERROR okstream: broken: (\d+ records? (was|were) lost, and )?all.* since {TIME}.*\n", errors
    )
    assert records((folder / "kept.jsonl").read_text())[-1]["state"] == "ended"


def test_the_last_sink_that_fails_ends_the_stream(folder):
    text = '[sink.a]\ntype = "mysinks:Failing"\n[sink.b]\ntype = "mysinks:Failing"\nafter = 30\n'
    with running(folder, text) as process:
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 5
    assert [line.split("okstream")[1] for line in errors.splitlines() if "failed" in line] == [
        ": a failed: the paper is out",
        ": b failed: the paper is out",
    ]


def test_what_a_sink_did_not_take_to_the_end_is_said_by_its_name(folder):
    text = FILE + '[sink.slow]\ntype = "mysinks:Stuck"\n'
    with running(folder, text, top="drain = 0.7") as process:
        wait_for(process, folder / "kept.jsonl", '"trade"')
        _, errors, code = ended(process)
    assert code == 4
    waiting, lost = errors.splitlines()
    assert re.search(r"WARNING okstream: waiting up to 1 s for slow \(\d+ records\); Ctrl-C ends at once$", waiting)
    assert re.fullmatch(rf"{TIME} WARNING okstream: slow: \d+ records were lost: it could not keep up", lost)
    assert records((folder / "kept.jsonl").read_text())[-1]["state"] == "ended"


def test_a_sink_that_is_down_to_the_end_is_said_with_the_reason(folder):
    with running(folder, FILE + '[sink.line]\ntype = "mysinks:Down"\n', top="drain = 0.1") as process:
        line_with(process.stderr, "line is tried again until it works: the line is engaged")
        wait_for(process, folder / "kept.jsonl", '"trade"')
        _, errors, code = ended(process)
    assert code == 4
    assert re.search(r"okstream: line: \d+ records were lost: the line is engaged\n$", errors)


def test_the_last_sink_that_fails_by_its_own_mistake_is_told_once_and_is_an_output_that_failed(folder):
    with running(folder, '[sink.broken]\ntype = "mysinks:Wrong"\n') as process:
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 5
    assert errors.count("ZeroDivisionError: oh\n") == errors.count("Traceback") == 1


def test_stats_name_the_sinks_that_are_not_well_and_begin_with_the_time(folder):
    with running(folder, FILE + '[sink.line]\ntype = "mysinks:Down"\n', top='stats = "100ms"') as process:
        line = line_with(process.stderr, "sink line recovering")
        process.kill()
        process.communicate()
    assert re.fullmatch(
        rf"{TIME} WARNING okstream: sink line recovering, \d+ waiting, 0 dropped: the line is engaged\n",
        line,
    )


LOGGED = re.compile(rf"{TIME} (INFO|WARNING|ERROR) okstream: .+")


def test_the_log_tells_how_a_run_begins_and_ends_and_what_it_finds_of_a_run_that_was_killed(folder):
    text = """
[sink.days]
type = "file"
path = "days/{channel}/{date}.jsonl"
[sink.line]
type = "mysinks:Down"
spool = "spool"
spool_always = true
"""
    kept = folder / "days" / "trades"
    with running(folder, text, top='log_level = "info"\nstats = "100ms"\ndrain = 0.1') as process:
        line_with(process.stderr, "records/s, 1/1 links")
        while not any('"trade"' in path.read_text() for path in kept.glob("*.part")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate()
    with running(folder, text, top='log_level = "info"\nstats = "100ms"\ndrain = 0.1') as process:
        begun = ""
        while "memory" not in begun or "sim public: connected\n" not in begun:
            begun += (line := process.stderr.readline())
            assert line
        _, over, code = ended(process)
    assert code in (0, 4)
    assert all(LOGGED.fullmatch(line) for line in (begun + over).splitlines())
    assert re.search(rf"^\S+ INFO okstream: {re.escape(VERSION)}, instance [0-9a-f]{{8}}, .*config\.toml\n", begun)
    assert re.search(r"INFO okstream: finished what a run before left: days/.*\.jsonl, and \d+ more files\n", begun)
    assert re.search(rf"days/.*: goes on after {TIME}, of \d+ subscriptions?: .* is a gap \(start\)\n", begun)
    assert "sink days: open\n" in begun
    assert re.search(r"sink line: open, \d+ records of a run before in its spool\n", begun)
    assert over.count("stopping: SIGTERM\n") == 1
    assert re.search(r"sink days: \d+ records? written, 0 lost\n", over)
    assert re.search(r"sink line: 0 records written, \d+ lost, \d+ records in its spool for the next start\n", over)
    assert over.endswith(" INFO okstream: stopped\n")


FULL = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
sys.argv = ["okstream", "run", "--config", "config.toml"]
runpy.run_module("okstream", run_name="__main__")
"""


def test_what_a_full_disk_did_not_take_is_a_gap_in_the_files_after_the_next_start(folder):
    text = '[sink.days]\ntype = "file"\npath = "days/{channel}/{date}.jsonl"\n'
    configured(folder, text, "drain = 0.1")
    with subprocess.Popen(
        [sys.executable, "-c", FULL], cwd=folder, env=clean_environment(), text=True, stderr=subprocess.PIPE
    ) as process:
        line_with(process.stderr, "File too large")
        _, errors, code = ended(process)
    assert (code, bool(re.search(r"days: \d+ records were lost", errors))) == (4, True)
    with running(folder, text) as process:
        while not any('"reason":"start"' in path.read_text() for path in folder.glob("days/*/*.part")):
            assert process.poll() is None
            time.sleep(0.02)
        ended(process)
    done = okstream("coverage", "days", cwd=folder)
    assert done.returncode == 4
    assert re.search(r" start \(", done.stdout)
    assert re.search(r"2 subscriptions, [12] of them not complete\n$", done.stdout)


@pytest.mark.parametrize(("on_start", "code"), [("fail", 5), ("ignore", 0)])
def test_a_sink_that_cannot_be_opened_means_what_it_is_told_to_mean(folder, on_start, code):
    text = FILE + f'[sink.lost]\ntype = "file"\npath = "mysinks.py/x.jsonl"\non_start = "{on_start}"\n'
    with running(folder, text) as process:
        line = line_with(process.stderr, "mysinks.py")
        if on_start == "ignore":
            wait_for(process, folder / "kept.jsonl", '"trade"')
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == code, line


@pytest.mark.parametrize("verb", ["run", "replay"])
def test_a_run_ends_when_told_to_also_while_a_sink_is_opened(folder, verb):
    okstream("record", "--venue", "sim", "-o", "journal", "--duration", "500ms", "trades:BTC-USDT", cwd=folder)
    text = '[sink.hall]\ntype = "mysinks:Opening"\n' + FILE
    with running(folder, text, *["journal"] * (verb == "replay"), verb=verb) as process:
        wait_for(process, folder / "opening", "")
        _, errors, code = ended(process)
    assert code == 0
    assert errors.endswith("okstream: ended before it began: hall was not open yet\n")


def test_a_broker_that_never_came_is_named_at_the_end(folder):
    text = f'{FILE}[sink.bus]\ntype = "nats"\nservers = "nats://127.0.0.1:{free_port()}"\non_start = "retry"\n'
    with running(folder, text, top="drain = 0.1") as process:
        line_with(process.stderr, "bus cannot be opened yet")
        wait_for(process, folder / "kept.jsonl", '"trade"')
        _, errors, code = ended(process)
    assert code == 4
    assert re.search(r"okstream: bus: \d+ records were lost: nats://127.0.0.1:\d+: .*Connection refused\n", errors)


def test_check_prints_each_sink_and_what_it_may_hold(folder):
    text = """
[sink.all]
type = "file"
path = "data/{channel}.jsonl"
spool = "spool/all"
spool_mib = 10
dead_letters = "dead.jsonl"
[sink.some]
type = "nats"
channels = ["book*"]
venues = ["okx", "sim"]
data_only = true
form = "json"
lane_mib = 3
lane_records = 5000
when_full = "drop_newest"
[sink.own]
type = "mysinks:Sink"
form = "json"
spool = "spool/own"
spool_always = true
spool_full = "stop"
"""
    path = configured(folder, text)
    done = okstream("run", "--config", path, "--check", cwd=folder)
    odd = f"okstream: {path}: sink.some.venues: nothing that is subscribed to is 'okx'\n"
    assert (done.returncode, done.stderr) == (0, odd)
    assert done.stdout.splitlines() == [
        "link: in this process: 2 subscriptions, 1 request",
        "sink all: file data/{channel}.jsonl; json; 64 MiB in memory, then 10 MiB in spool/all, then drop",
        "sink some: nats okstream.{venue}.{channel}.{inst} at nats://127.0.0.1:4222, in OKSTREAM; "
        "json without gaps and statuses of channels book* and venues okx, sim; "
        "3 MiB or 5000 records in memory, then drop_newest",
        "sink own: mysinks:Sink; json; all through 1024 MiB in spool/own, then stop",
        "memory: 180 MiB of buffers at most",
        "disk: 1098 MiB of spools and dead letters at most",
    ]
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"config.toml", "mysinks.py"}


def test_the_three_sinks_of_the_readme_work_side_by_side(folder):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    [text] = [block for block in re.findall(r"^```toml\n(.*?)^```", readme, re.M | re.S) if "nats" in block]
    with nats_server(folder) as server:
        config = folder / "config.toml"
        config.write_text(text.replace("nats://127.0.0.1:4222", server.url))
        with subprocess.Popen(
            [OKSTREAM, "run", "--config", config], cwd=folder, text=True, env=clean_environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            [json.loads(process.stdout.readline()) for _ in range(30)]
            out, errors, code = ended(process)
    assert (code, errors) == (0, "")
    assert {record["type"] for record in records(out)} <= {"trade", "status"}
    assert [path.name for path in folder.glob("data/*/*/*.zst")]

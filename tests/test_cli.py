"""The command line: what it prints, what it says to nonsense, and where its output goes."""

import fcntl
import os
import re
import subprocess
import sys

import pytest
from support.commands import OKSTREAM, SIM, TIMEOUT, clean_environment, data, okstream, process, records, shell

# -- what it prints


def test_stream_writes_as_many_records_as_asked_for():
    done = okstream(*SIM, "--count", "20", "ticker:BTC-USDT", "trades:BTC-USDT,ETH-USDT", "book:BTC-USDT-SWAP")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(data(done.stdout)) == 20
    first = records(done.stdout)[0]
    assert (first["type"], first["state"]) == ("status", "started")
    assert set(first["detail"]) == {"version", "schema", "instance"}


def test_data_only_leaves_out_gaps_and_statuses():
    done = okstream(*SIM, "--count", "5", "--data-only", "trades:BTC-USDT")
    assert [record["type"] for record in records(done.stdout)] == ["trade"] * 5


@pytest.mark.parametrize("dialect", ["okx-v5", "okex-v3", "okex-v1"])
@pytest.mark.parametrize("form", ["json", "raw"])
def test_every_generation_streams_in_both_forms(dialect, form):
    done = okstream(*SIM, "--dialect", dialect, "--format", form, "--count", "5", "ticker:BTC-USDT", "book:BTC-USDT")
    assert (done.returncode, done.stderr) == (0, "")
    lines = records(done.stdout)
    own = [line for line in lines if isinstance(line, dict) and "type" in line]
    assert len(lines) - (len(own) if form == "raw" else len(lines) - len(data(done.stdout))) == 5


def test_user_channels_of_the_simulated_exchange_need_no_credentials():
    done = okstream(*SIM, "--count", "3", "--data-only", "account")
    assert done.returncode == 0
    assert {record["type"] for record in records(done.stdout)} == {"balance"}
    assert {record["account"] for record in records(done.stdout)} == {"sim"}


def test_duration_ends_the_stream():
    done = okstream(*SIM, "--duration", "0.2", "ticker:BTC-USDT")
    assert (done.returncode, done.stderr) == (0, "")
    assert records(done.stdout)[-1]["state"] == "ended"


def test_an_exchange_that_never_answers_is_exit_code_6():
    done = okstream("stream", "--url", "ws://127.0.0.1:1", "--duration", "0.3", "-q", "ticker:BTC-USDT", "bbo:ETH-USDT")
    assert done.returncode == 6
    assert done.stderr == "okstream: never answered: ticker:BTC-USDT, bbo:ETH-USDT\n"


def test_stats_are_one_line_a_period_on_stderr():
    done = okstream(*SIM, "--duration", "1", "--stats", "0.4", "-q", "trades:BTC-USDT")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    form = r"okstream: \d+ records/s, 1/1 links, 0 open gaps, 0 dropped, worst lag (-?\d+ ms|-)"
    assert all(re.fullmatch(form, line) for line in lines)


def test_books_at_fixed_times_are_snapshots_of_so_many_levels():
    done = okstream(*SIM, "--depth", "3", "--every", "100ms", "--count", "4", "--data-only", "book:BTC-USDT,ETH-USDT")
    books = records(done.stdout)
    assert (done.returncode, done.stderr, len(books)) == (0, "", 4)
    assert {(book["action"], len(book["bids"]), len(book["asks"])) for book in books} == {("snapshot", 3, 3)}
    assert len({(book["inst"], book["recv"]) for book in books}) == 4, "each once, however early a timer is"


def test_a_pattern_is_all_that_it_means():
    done = okstream(*SIM, "--count", "40", "--data-only", "-v", "ticker:*-USD-SWAP", "book:BTC-*-SWAP")
    found = {(record["type"], record["inst"]) for record in records(done.stdout)}
    assert done.returncode == 0
    assert found >= {("ticker", "BTC-USD-SWAP"), ("book", "BTC-USD-SWAP"), ("book", "BTC-USDT-SWAP")}
    assert re.search(r"memory: \d+ MiB of buffers at most", done.stderr)


def test_a_pattern_that_means_nothing_is_told_what_was_probably_meant():
    done = okstream(*SIM, "ticker:*-USDTT")
    assert done.returncode == 2
    assert done.stderr == "okstream: '*-USDTT' means nothing that sim lists now (SPOT). Did you mean '*-USDT'?\n"


def test_two_links_deliver_everything_once():
    done = okstream(*SIM, "--redundancy", "2", "--duration", "1", "trades:BTC-USDT", "book:BTC-USDT")
    assert (done.returncode, done.stderr) == (0, "")
    lines = records(done.stdout)
    assert [line["state"] for line in lines if line["type"] == "status" and line["inst"] is None].count("live") == 2
    ids = [line["id"] for line in lines if line["type"] == "trade"]
    books = [line for line in lines if line["type"] == "book"]
    assert len(ids) == len(set(ids))
    assert [book["prev"] for book in books[1:]] == [book["seq"] for book in books[:-1]]
    assert not [line for line in lines if line["type"] == "gap"]


def test_the_version_says_whether_okstream_is_compiled():
    assert okstream("--version").stdout in ("okstream 0.1.0 (compiled)\n", "okstream 0.1.0 (pure Python)\n")
    pure = okstream("--version", env=clean_environment(OKSTREAM_PURE="1"))
    assert pure.stdout == "okstream 0.1.0 (pure Python)\n"


def test_a_lookup_that_was_given_up_is_not_told_of_when_it_fails_and_a_mistake_is():
    code = (
        "import asyncio, socket, okstream.cli\n"
        "async def work():\n"
        "    for error in (socket.gaierror(-2, 'no such host'), KeyError('mistake')):\n"
        "        asyncio.get_running_loop().create_future().set_exception(error)\n"
        "    return 0\n"
        "okstream.cli.asyncio_run(work())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert ("no such host" in done.stderr, "mistake" in done.stderr) == (False, True)


@pytest.mark.parametrize(
    ("last", "code", "says"), [("return 4", 4, ""), ("raise SinkError('it broke')", 5, "okstream: it broke\n")]
)
def test_what_goes_on_though_it_was_told_to_end_does_not_keep_the_process(last, code, says):
    script = f"""
import asyncio
from okstream import cli
from okstream.errors import SinkError

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def work():
    global task
    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    {last}

def run(arguments):
    return cli.asyncio_run(work())

cli._list = run
cli.main(["list", "venues"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (code, says)


def test_version_and_help_load_nothing_heavy():
    code = "import sys, okstream.cli as c\ntry: c.main({!r})\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    for argument in (["--version"], ["--help"], ["stream", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code.format(argument)], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        loaded = {name.partition(".")[0] for name in done.stderr.split()}
        assert not loaded & {"asyncio", "websockets", "aiohttp", "uvloop", "orjson", "pydantic", "rich", "ssl"}


def test_lists_show_every_venue_and_channel():
    venues, channels = okstream("list", "venues").stdout, okstream("list", "channels").stdout
    assert {"okx", "okx-eea", "okex-v3", "okcoin-v1", "sim"} <= {line.split()[0] for line in venues.splitlines()}
    assert {"ticker", "book", "orders", "candle-<bar>"} <= {line.split()[0] for line in channels.splitlines() if line}


# -- what it says when asked for nonsense


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["stream", "--venue", "okk", "ticker:BTC-USDT"], "there is no venue 'okk'. Did you mean 'okx'?"),
        (["stream", "--venue", "okx-v5", "ticker:BTC-USDT"], "there is no venue 'okx-v5'. Did you mean 'okx'?"),
        (["stream", "tickr:BTC-USDT"], "okx-v5 has no channel 'tickr'. Did you mean 'ticker'?"),
        (["stream", "tickers:BTC-USDT"], "channel 'tickers' is called 'ticker' here"),
        (["stream", "ticker"], "ticker wants an instrument: ticker:BTC-USDT"),
        (["stream", *SIM[1:], "ticker:*"], "write *-USDT for pairs, *-USDT-SWAP for swaps"),
        (["stream", "--url", "ws://127.0.0.1:1", "ticker:*-USDT"], "has no REST interface that tells what it means"),
        (["stream", "--venue", "sim", "--depth", "5", "book:BTC-USDT"], "--depth and --every go together: --depth 5"),
        (["stream", "--venue", "sim", "--every", "1s", "book:BTC-USDT"], "--depth and --every go together"),
        ([*SIM, "--depth", "5", "--every", "1s", "ticker:BTC-USDT"], "--depth is for books that come as changes"),
        (
            [*SIM, "--depth", "5", "--every", "1s", "--format", "raw", "book:BTC-USDT"],
            "books at fixed times are record",
        ),
        ([*SIM, "--depth", "401", "--every", "1s", "book:BTC-USDT"], "is 1 to 400 levels, not"),
        (
            [*SIM, "--depth", "5", "--every", "soon", "book:BTC-USDT"],
            "--every: 'soon' is no duration above 0; write 100",
        ),
        ([*SIM, "--redundancy", "9", "book:BTC-USDT"], "a number of links from 1 to 8, not 9"),
        ([*SIM, "--rotate-after", "1s", "book:BTC-USDT"], "a link is replaced when it is 10 s old or older"),
        (["stream", "orders"], "orders needs an account"),
        (
            ["stream", "--vneue", "okx", "ticker:BTC-USDT"],
            "okstream: there is no option --vneue. Did you mean --venue?\ntry: okstream stream --help\n",
        ),
        (["stream", "--count", "0", "ticker:BTC-USDT"], "okstream: --count: '0' is not a whole number above 0\n"),
        (["stream", "--url", "http://x", "ticker:BTC-USDT"], "is not a WebSocket URL"),
        (["stream", "--account", "/nonexistent", "orders"], "/nonexistent: No such file or directory"),
        (["stream", "--account", "env", "orders"], "the environment lacks OKSTREAM_API_KEY and OKSTREAM_SECRET"),
        (["stream", *SIM[1:], "--dialect", "okx-v6", "ticker:BTC-USDT"], "Did you mean 'okx-v5'?"),
        (["run", "--config", "/nonexistent.toml"], "/nonexistent.toml: No such file or directory"),
        (["simulate", "--dialect", "okx-v6"], "okx-v6"),
        (["simulate", "--fault", "earthquake"], "earthquake"),
        (["strem", "ticker:BTC-USDT"], "verb: 'strem' is none of stream, run"),
        (["strem", "ticker:BTC-USDT"], "Did you mean stream?\ntry: okstream --help\n"),
        ([], "okstream: verb is missing\ntry: okstream --help\n"),
        (["run"], "okstream: --config is missing\ntry: okstream run --help\n"),
        (["stream", "--format", "jsn", "x"], "okstream: --format: 'jsn' is none of json, raw. Did you mean json?\n"),
        (["list"], "okstream: venues|channels is missing\n"),
        (["simulate", "--port", "x"], "okstream: --port: 'x' is no whole number\n"),
        (["simulate", "--rate", "x"], "okstream: --rate: 'x' is no number\n"),
        (["simulate", "--fault", "drop:times"], "fault 'drop': times has no value; write times=..."),
        (["run", "--config", OKSTREAM + "x"], "No such file or directory"),
        (["list", "venues", "too"], "okstream: there is no argument too\ntry: okstream list --help\n"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_probably_meant(arguments, complaint):
    done = okstream(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert all(line.startswith(("okstream: ", "try: ")) for line in done.stderr.splitlines())
    assert done.stdout == ""


@pytest.mark.parametrize("verb", ["stream", "run", "record", "replay", "coverage"])
def test_the_help_of_what_a_script_may_run_has_its_exit_codes(verb):
    assert "\nexit codes: 0 " in okstream(verb, "--help").stdout


IMPATIENT = """
import sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from okstream.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("at", "arguments"),
    [("okstream.simulator.command", ["simulate"]), ("okstream.verbs.stream", [*SIM, "ticker:BTC-USDT"])],
)
def test_a_ctrl_c_while_it_is_still_loading_ends_it_without_a_word(at, arguments):
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT, at, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# -- pipes and files


def test_a_reader_that_leaves_ends_the_stream_quietly():
    done = shell('"$OKSTREAM" stream --venue sim ticker:BTC-USDT trades:BTC-USDT | head -3; echo "${PIPESTATUS[@]}"')
    assert done.stdout.splitlines()[-1] == "0 0"
    assert done.stderr == ""


def test_a_reader_that_leaves_is_noticed_while_nothing_happens():
    done = shell('"$OKSTREAM" stream --venue sim instruments:instType=SPOT | head -1; echo "${PIPESTATUS[@]}"')
    assert done.stdout.splitlines()[-1] == "0 0"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "verb", ["list venues", "list channels", "run --check --config c.toml", "coverage .", "simulate"]
)
def test_whatever_is_printed_a_full_disk_a_closed_stdout_and_a_reader_that_leaves_are_no_bug(tmp_path, verb):
    (tmp_path / "c.toml").write_text('[[source]]\nvenue = "sim"\nsubscriptions = ["ticker:BTC-USDT"]\n')
    record = '{"type":"trade","venue":"okx","channel":"trades","inst":"BTC-USDT","ts":1,"recv":1,"id":"1"}'
    (tmp_path / "a.jsonl").write_text(f"{record}\n")
    full = shell(f'"$OKSTREAM" {verb} > /dev/full', cwd=tmp_path)
    assert (full.returncode, full.stderr) == (5, "okstream: stdout failed: No space left on device\n")
    closed = shell(f'"$OKSTREAM" {verb} >&-', cwd=tmp_path)
    assert (closed.returncode, closed.stderr) == (5, "okstream: stdout: Bad file descriptor\n")
    if verb != "simulate":
        left = shell(f'"$OKSTREAM" {verb} | true; echo "${{PIPESTATUS[0]}}"', cwd=tmp_path)
        assert left.stdout in ("0\n", "4\n")
        assert left.stderr == ""


def test_a_full_disk_is_an_output_error():
    done = shell('"$OKSTREAM" stream --venue sim ticker:BTC-USDT > /dev/full')
    assert done.returncode == 5
    failed, *lost = done.stderr.splitlines()
    assert failed == "okstream: stdout failed: No space left on device"
    assert all(re.fullmatch(r"okstream: stdout: \d+ records? (was|were) lost", line) for line in lost)


def test_a_closed_stdout_is_an_output_error():
    done = shell('"$OKSTREAM" stream --venue sim ticker:BTC-USDT >&-')
    assert (done.returncode, done.stderr) == (5, "okstream: stdout: Bad file descriptor\n")


def test_a_closed_stderr_harms_nothing():
    done = shell('"$OKSTREAM" stream --venue sim --count 3 -vv --stats 0.1 ticker:BTC-USDT 2>&-')
    assert done.returncode == 0
    assert len(data(done.stdout)) == 3


def test_a_shared_descriptor_stays_blocking():
    reader, writer = os.pipe()
    with process(*SIM, "--count", "3", "ticker:BTC-USDT", stdout=writer) as running:
        assert running.wait(TIMEOUT) == 0
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(writer)
    with os.fdopen(reader) as lines:
        assert len(data(lines.read())) == 3

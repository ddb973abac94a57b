"""The command line as its users meet it: real processes, pipes, signals and sockets."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from array import array
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import MARKERS, SECRETS
from support.commands import calm

OKSTREAM = str(Path(sys.executable).with_name("okstream"))
SIM = ["stream", "--venue", "sim"]
TIMEOUT = 60

WRONG = dict(zip(("key", "secret", "passphrase"), MARKERS, strict=True))


def clean_environment(**more):
    return {name: value for name, value in os.environ.items() if not name.startswith("OKSTREAM_API")} | more


def okstream(*arguments, **options):
    """Run a command to its end; return it with stdout and stderr as text. No output may hold a secret."""
    done = subprocess.run(
        [OKSTREAM, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False,
        env=options.pop("env", clean_environment()), **options,
    )  # fmt: skip
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr
    done.stderr = calm(done.stderr)
    return done


def shell(script, **options):
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False,
        env=clean_environment(OKSTREAM=OKSTREAM), **options,
    )  # fmt: skip
    done.stderr = calm(done.stderr)
    return done


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def data(text):
    return [record for record in records(text) if record["type"] not in {"status", "gap"}]


@contextmanager
def process(*arguments, **options):
    """A running command, ended in any case."""
    with subprocess.Popen(
        [OKSTREAM, *arguments], stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, text=True,
        env=clean_environment(), **options,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


@contextmanager
def simulator(*arguments):
    """A simulated exchange in a process of its own; yields its base URL and the process."""
    with process("simulate", *arguments) as running:
        first = running.stdout.readline()
        url = re.search(r"ws://127\.0\.0\.1:\d+", first)
        assert url, first
        yield url[0], running


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


# -- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_ends_well(number):
    with process(*SIM, "trades:BTC-USDT") as running:
        lines = [running.stdout.readline() for _ in range(8)]
        running.send_signal(number)
        rest, errors = running.communicate(timeout=TIMEOUT)
    assert (running.returncode, calm(errors)) == (0, "")
    assert records("".join(lines) + rest)[-1]["state"] == "ended"


def wait_until_the_pipe_is_full(running):
    """Wait until the process cannot write any more: 64 KiB is what a pipe holds."""
    waiting = array("i", [0])
    while waiting[0] < 60_000:
        assert running.poll() is None
        time.sleep(0.02)
        fcntl.ioctl(running.stdout, termios.FIONREAD, waiting)


BOOKS = [f"book:SIM{number:03}-USDT" for number in range(40)]


def test_the_second_signal_ends_at_once_even_if_nobody_reads():
    with process(*SIM, *BOOKS) as running:
        wait_until_the_pipe_is_full(running)
        # The first one starts a drain that cannot get on; ask until the second has arrived.
        while running.poll() is None:
            running.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.1)
    assert running.returncode == 130


def test_what_the_output_could_not_take_is_said_by_exit_code_4(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(f'drain = 0.2\n[[source]]\nvenue = "sim"\nsubscriptions = {json.dumps(BOOKS)}\n')
    with process("run", "--config", str(config)) as running:
        wait_until_the_pipe_is_full(running)
        running.send_signal(signal.SIGTERM)
        assert running.wait(TIMEOUT) == 4
        assert re.search(r"stdout: \d+ records were lost: it could not keep up", running.stderr.read())


# -- the exchange


def test_an_exchange_that_dies_and_comes_back_is_one_gap():
    with simulator("--port", "0") as (url, first):
        port = url.rpartition(":")[2]
        with process("stream", "--url", url, "trades:BTC-USDT", "-q") as running:
            seen = [json.loads(running.stdout.readline()) for _ in range(8)]
            first.kill()
            first.wait()
            with simulator("--port", port):
                while not any(r["type"] == "gap" and r["state"] == "closed" for r in seen) or seen[-1]["type"] == "gap":
                    seen.append(json.loads(running.stdout.readline()))
                running.send_signal(signal.SIGTERM)
                errors = calm(running.communicate(timeout=TIMEOUT)[1])
    gaps = [record for record in seen if record["type"] == "gap"]
    assert [gap["state"] for gap in gaps] == ["open", "closed"]
    assert {gap["reason"] for gap in gaps} == {"disconnected"}
    assert (running.returncode, errors) == (0, "")


def test_a_book_that_is_right_again_is_said_to_those_who_want_to_know():
    with (
        simulator("--fault", "gap:channel=books,after=0.5") as (url, _),
        process("stream", "--url", url, "-v", "book:BTC-USDT", stdout=subprocess.DEVNULL) as running,
    ):
        said = [running.stderr.readline() for _ in range(5)]
    assert sorted(said[:3]) == [
        "okstream: memory: 113 MiB of buffers at most\n",
        "okstream: okx public: connected\n",
        "okstream: sink stdout: open\n",
    ]
    assert said[3:] == [
        "okstream: okx public: something may be missing (sequence) in book:BTC-USDT\n",
        "okstream: okx public: the gap has ended (sequence) in book:BTC-USDT\n",
    ]


def test_one_refused_subscription_is_named_and_the_others_live_on():
    done = okstream(*SIM, "--count", "10", "ticker:BTC-USDT", "ticker:NONSENSE")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("okstream: ticker:NONSENSE refused by sim: Wrong URL or channel:tickers")
    assert len(data(done.stdout)) == 10


def test_nothing_left_to_stream_is_exit_code_3():
    done = okstream(*SIM, "ticker:NONSENSE")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def ahead():
    """A simulated exchange whose clock is five minutes ahead."""
    with simulator("--clock-offset", "300") as (url, _):
        yield url


@pytest.fixture(scope="module")
def exchange():
    with simulator() as (url, _):
        yield url


def account(tmp_path, **values):
    path = tmp_path / "account.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    path.chmod(0o600)
    return str(path)


GOOD = {"key": "simulated-key-0001", "secret": "simulated-secret-not-a-secret", "passphrase": "simulated-passphrase"}


@pytest.mark.parametrize(("wrong", "code"), [("key", "60005|60032"), ("secret", "60007"), ("passphrase", "60024")])
def test_a_refused_login_is_one_clear_line_and_exit_code_3(exchange, tmp_path, wrong, code):
    source = account(tmp_path, **{**GOOD, wrong: WRONG[wrong]})
    done = okstream("stream", "--url", exchange, "--account", source, "orders")
    assert done.returncode == 3
    assert re.fullmatch(rf"okstream: okx private main: login refused: .+ \(({code})\)\n", done.stderr)
    assert not any(value in done.stdout + done.stderr for value in GOOD.values())


def test_a_login_refused_for_the_clock_says_how_far_it_is_off(ahead, tmp_path):
    done = okstream("stream", "--url", ahead, "--account", account(tmp_path, **GOOD), "orders")
    assert done.returncode == 3
    assert re.search(r"this machine's clock is (29[89]|30[012]) s behind the exchange's\n$", done.stderr)


def test_credentials_from_the_environment_log_in(exchange):
    names = {"key": "OKSTREAM_API_KEY", "secret": "OKSTREAM_SECRET", "passphrase": "OKSTREAM_PASSPHRASE"}
    environment = clean_environment(**{names[name]: value for name, value in GOOD.items()})
    done = okstream("stream", "--url", exchange, "--account", "env", "--count", "2", "-vv", "account", env=environment)
    assert done.returncode == 0
    assert not any(value in done.stdout + done.stderr for value in GOOD.values())


# -- the daemon


def test_run_appends_to_a_file_until_a_signal_ends_it(tmp_path):
    config, output = tmp_path / "config.toml", tmp_path / "records.jsonl"
    output.write_text("an earlier line\n")
    config.write_text(
        '[[source]]\nvenue = "sim"\nsubscriptions = ["trades:BTC-USDT"]\n'
        f'[sink.out]\ntype = "file"\npath = "{output}"\n'
    )
    with process("run", "--config", str(config), "-v") as running:
        while "live" not in output.read_text():
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=TIMEOUT)
    assert running.returncode == 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO okstream: ", errors)
    first, *rest = output.read_text().splitlines()
    assert first == "an earlier line"
    assert records("\n".join(rest))[-1]["state"] == "ended"


def test_check_prints_the_plan_and_connects_to_nothing(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        '[[source]]\nvenue = "okx"\nurl = "ws://127.0.0.1:1"\n'
        'subscriptions = ["trades:BTC-USDT,ETH-USDT", "candle-1m:BTC-USDT"]\n'
    )
    done = okstream("run", "--config", str(config), "--check")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "link: ws://127.0.0.1:1/ws/v5/public: 2 subscriptions, 1 request",
        "link: ws://127.0.0.1:1/ws/v5/business: 1 subscription, 1 request",
        "sink stdout: stdout; json; 64 MiB in memory, then drop_oldest",
        "memory: 160 MiB of buffers at most",
    ]


def test_check_spreads_books_over_links_and_names_patterns(tmp_path):
    config = tmp_path / "config.toml"
    books = json.dumps([f"book:SIM{number:03}-USDT" for number in range(300)])
    config.write_text(
        'redundancy = 2\ndepth = 5\nevery = "100ms"\n'
        f'[[source]]\nvenue = "okx"\nothers = ["wss://b.example"]\nsubscriptions = {books}\n'
        '[[source]]\nvenue = "okx-eea"\nsubscriptions = ["book:*-USDT-SWAP"]\n'
    )
    done = okstream("run", "--config", str(config), "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "20 links: wss://ws.okx.com/ws/v5/public and wss://b.example/ws/v5/public: "
        "300 subscriptions, each on 2 links, 20 requests",
        "2 links: wss://wseea.okx.com/ws/v5/public: resolved at start: book:*-USDT-SWAP",
        "books: the best 5 levels each 0.1 s",
        "sink stdout: stdout; json; 64 MiB in memory, then drop_oldest",
        "memory: 1233 MiB of buffers at most, and more for what patterns mean",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('url = "ws://127.0.0.1:1"\nsubscriptions = ["book:*-USDT"]', "has no REST interface that tells what it means"),
        ('subscriptions = ["book:*"]', "'*' means no instrument (a star stands for no dash)"),
        ('others = ["wss://b.example/gateway"]\nsubscriptions = ["bbo:BTC-USDT"]', "write only wss://host or ws://"),
        ('others = ["https://b.example"]\nsubscriptions = ["bbo:BTC-USDT"]', "is not a WebSocket URL"),
    ],
)
def test_check_finds_what_would_fail_at_start(tmp_path, text, complaint):
    config = tmp_path / "config.toml"
    config.write_text(f'redundancy = 2\n[[source]]\nvenue = "okx"\n{text}\n')
    done = okstream("run", "--config", str(config), "--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_a_line_that_was_left_torn_is_cut_off(tmp_path):
    config, output = tmp_path / "config.toml", tmp_path / "records.jsonl"
    output.write_text('{"whole":1}\n{"type":"tra')
    config.write_text(
        f'[[source]]\nvenue = "sim"\nsubscriptions = ["ticker:NONE"]\n[sink.out]\ntype = "file"\npath = "{output}"\n'
    )
    assert okstream("run", "--config", str(config)).returncode == 3
    whole, first, *_ = output.read_text().splitlines()
    assert whole == '{"whole":1}'
    assert json.loads(first)["state"] == "started"


def test_a_named_pipe_that_nobody_reads_is_an_output_error(tmp_path):
    config, output = tmp_path / "config.toml", tmp_path / "pipe"
    os.mkfifo(output)
    config.write_text(
        f'[[source]]\nvenue = "sim"\nsubscriptions = ["ticker:X"]\n[sink.out]\ntype = "file"\npath = "{output}"\n'
    )
    done = okstream("run", "--config", str(config))
    assert done.returncode == 5
    assert done.stderr.endswith(f"Z ERROR okstream: out: {output}: No such device or address\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["stream", "--venue", "okex-v3", "ticker:BTC-USDT"], "okex-v3 was switched off; say with --url where"),
        (["stream", "--dialect", "okex-v3", "ticker:BTC-USDT"], "--dialect is for --venue sim; okx speaks its own"),
        (
            ["stream", *SIM[1:], "--url", "ws://127.0.0.1:1", "ticker:X"],
            "reach one elsewhere with --venue okx and --url",
        ),
        (["simulate", "--port", "99999"], "a port is a number from 0 to 65535"),
        (["stream", "--duration", "-1", "ticker:BTC-USDT"], "'-1' is no duration above 0; write 100ms, 0.5s, 2m"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_dialled(arguments, complaint):
    done = okstream(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_port_that_is_taken_is_said(exchange):
    port = exchange.rpartition(":")[2]
    done = okstream("simulate", "--port", port)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"okstream: 127\.0\.0\.1:{port}: Address already in use\n", done.stderr)


def test_two_places_of_one_name_are_found_by_check(tmp_path):
    config = tmp_path / "config.toml"
    one = '[[source]]\nvenue = "okx"\nurl = "ws://127.0.0.1:{}"\nsubscriptions = ["ticker:BTC-USDT"]\n'
    config.write_text(one.format(1) + one.format(2))
    done = okstream("run", "--config", str(config), "--check")
    assert done.returncode == 2
    assert "two sources are called 'okx'" in done.stderr
    config.write_text(one.format(1) + one.format(2) + 'name = "okx-2"\n')
    assert okstream("run", "--config", str(config), "--check").returncode == 0

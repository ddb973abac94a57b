"""The command line while it runs: signals, the exchange and its refusals, and `okstream run`."""

import fcntl
import json
import os
import re
import signal
import subprocess
import termios
import time
from array import array
from contextlib import suppress

import pytest
from conftest import MARKERS
from support.commands import SIM, TIMEOUT, calm, clean_environment, data, okstream, process, records, simulator

from okstream.book import BOOK_BYTES
from okstream.memory import mib
from okstream.options import MIB

WRONG = dict(zip(("key", "secret", "passphrase"), MARKERS, strict=True))

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
    done = okstream(*SIM, "ticker:btc-usdt")
    assert done.stderr.endswith("(60018). Did you mean ticker:BTC-USDT?\n")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["BTC/USDT", "btc_usdt"])
def test_a_name_that_other_programs_use_is_told_what_it_is_called_here(name):
    assert okstream(*SIM, f"ticker:{name}").stderr.endswith("(60018). Did you mean ticker:BTC-USDT?\n")


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
    most = mib((64 + 22 * 3 * 16) * MIB + 300 * 3 * BOOK_BYTES)  # on either link, and as delivered
    done = okstream("run", "--config", str(config), "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "20 links: wss://ws.okx.com/ws/v5/public and wss://b.example/ws/v5/public: "
        "300 subscriptions, each on 2 links, 20 requests",
        "2 links: wss://wseea.okx.com/ws/v5/public: resolved at start: book:*-USDT-SWAP",
        "books: the best 5 levels each 0.1 s",
        "sink stdout: stdout; json; 64 MiB in memory, then drop_oldest",
        f"memory: {most} MiB of buffers at most, and more for what patterns mean",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('url = "ws://127.0.0.1:1"\nsubscriptions = ["book:*-USDT"]', "has no REST interface that tells what it means"),
        ('subscriptions = ["book:*"]', "'*' means no instrument (a star stands for no dash)"),
        ('others = ["wss://b.example/gateway"]\nsubscriptions = ["bbo:BTC-USDT"]', "write only wss://host or ws://"),
        ('others = ["https://b.example"]\nsubscriptions = ["bbo:BTC-USDT"]', "is not a WebSocket URL"),
        ('subscriptions = ["bbo:BTC-USDT"]\n[account.a]\nfile = "none"', "account.a: credentials file none"),
        ('subscriptions = ["bbo:BTC-USDT"]\n[sink.a]\ntype = "file"\npath = "{x}"', "sink.a.path: '{x}': there is no"),
    ],
)
def test_check_finds_what_would_fail_at_start(tmp_path, text, complaint):
    config = tmp_path / "config.toml"
    config.write_text(f'redundancy = 2\n[[source]]\nvenue = "okx"\n{text}\n')
    done = okstream("run", "--config", str(config), "--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.startswith(f"okstream: {config}: ")


def test_check_finds_a_journal_that_cannot_be(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('journal = "{segment}.jsonl.zst"\n[[source]]\nvenue = "sim"\nsubscriptions = ["bbo:BTC-USDT"]\n')
    done = okstream("run", "--config", str(config), "--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"okstream: {config}: journal: a path needs {{instance}} and {{segment}}")


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
        (["stream", "--venue", "okex-v3", "ticker:BTC-USDT"], "okex-v3 was switched off; give the url of"),
        (["stream", "--dialect", "okex-v3", "ticker:BTC-USDT"], "--dialect is for --venue sim; okx speaks its own"),
        (
            ["stream", *SIM[1:], "--url", "ws://127.0.0.1:1", "ticker:X"],
            "reach one elsewhere as venue okx, with its url",
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

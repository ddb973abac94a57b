"""The README tells the truth: its quick starts run, its tables are complete."""

import asyncio
import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import calm

from okstream import exits
from okstream.dialects import load
from okstream.records import TYPES
from okstream.simulator import Simulator
from okstream.venues import DIALECTS, VENUES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CHANNELS = (ROOT / "docs" / "channels.md").read_text("utf-8")
BIN = str(Path(sys.executable).parent)
ENDLESS = ("okstream run --config config.toml", "okstream simulate")
TIMEOUT = 60


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command, folder):
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    done.stderr = calm(done.stderr)
    return done


def until_it_speaks(command, folder):
    """Run `command` until it has written something, here or into a file; ask it to end; return code and stderr."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        command.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while not select.select([process.stdout], [], [], 0.05)[0] and time.monotonic() < deadline:
            if any(path.is_file() and path.name != "config.toml" for path in folder.rglob("[!.]*")):
                break
        process.terminate()
        return process.wait(TIMEOUT), calm(process.stderr.read())
    finally:
        process.kill()
        process.communicate()


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(command, tmp_path):
    (tmp_path / "config.toml").write_text(blocks("toml")[0])
    if command.startswith(ENDLESS) and "--check" not in command:
        assert until_it_speaks(command, tmp_path) == (0, "")
        return
    done = run(["bash", "-o", "pipefail", "-c", command], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if command.startswith("okstream stream"):
        assert all(json.loads(line) for line in done.stdout.splitlines())
        assert len(done.stdout.splitlines()) >= 3


def test_the_daemon_of_the_readme_writes_its_file(tmp_path):
    (tmp_path / "config.toml").write_text(blocks("toml")[0])
    path = tmp_path / "records.jsonl"
    with subprocess.Popen([f"{BIN}/okstream", "run", "--config", "config.toml"], cwd=tmp_path) as running:
        until = time.monotonic() + TIMEOUT
        while not path.exists() or not all(f'"{name}"' in path.read_text() for name in ("ticker", "book")):
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        running.terminate()
        assert running.wait(TIMEOUT) == 0
    types = {json.loads(line)["type"] for line in path.read_text().splitlines()}
    assert types == {"status", "ticker", "book"}


PROGRAMS = [code for code in blocks("python") if "import okstream" in code]
(REBUILDING,) = [code for code in blocks("python") if "import okstream" not in code]


@pytest.mark.parametrize(("code", "lines"), list(zip(PROGRAMS, (3, 1), strict=True)))
def test_the_python_of_the_readme_runs(code, lines, tmp_path):
    done = run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == lines


def books_of(pushes):
    """Return the best bid and ask behind each sequence number, as the exchange meant to send them."""
    sides, best = {}, {}
    for push in pushes:
        row = push.payload["data"][0]
        if push.payload["action"] == "snapshot":
            sides = {"bids": {}, "asks": {}}
        for name, side in sides.items():
            side.update((price, size) for price, size, *_ in row[name])
            sides[name] = {price: size for price, size in side.items() if size != "0"}
        best[row["seqId"]] = [max(sides["bids"], key=float), min(sides["asks"], key=float)]
    return best


async def streamed(faults):
    """Return the lines of a book whose exchange has `faults`, what it meant to send, and how many have struck."""
    async with Simulator() as exchange:
        for fault in faults:
            exchange.inject(fault)
        streaming = await asyncio.create_subprocess_exec(
            f"{BIN}/okstream", "stream", "-q", "--url", exchange.url, "book:BTC-USDT", stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )  # fmt: skip
        lines, closed, after = [], 0, 0
        async with asyncio.timeout(TIMEOUT):
            while closed < len(faults) or after < 10:  # until all has been healed, and something followed
                lines.append(await streaming.stdout.readline())
                closed += b'"state":"closed"' in lines[-1]
                after = after + 1 if b'"type":"book"' in lines[-1] else 0
            streaming.terminate()
            rest, _ = await streaming.communicate()
        lines = b"".join(lines) + rest
        truth = books_of(exchange.log.pushes("books:instId=BTC-USDT"))
        return lines, truth, sum(exchange.counters.faults.values())


@pytest.mark.parametrize(
    "faults", [["gap:channel=books", "gap:channel=books,after=5"], ["gap:channel=books", "drop:after=5"]]
)
def test_the_book_rebuilt_as_the_readme_says_is_the_exchanges(faults):
    lines, truth, struck = asyncio.run(streamed(faults))
    records = [json.loads(line) for line in lines.splitlines()]
    opened = [record for record in records if record["type"] == "gap" and record["state"] == "open"]
    assert len(opened) == struck >= 2
    done = subprocess.run(
        [sys.executable, "-c", REBUILDING], input=lines, capture_output=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    rebuilt = [line.split() for line in done.stdout.decode().splitlines()]
    assert len(rebuilt) == sum(record["type"] == "book" for record in records) > 10
    assert [best for _, *best in rebuilt] == [truth[int(seq)] for seq, *_ in rebuilt]


def test_the_excerpt_has_the_form_of_real_records():
    (console,) = blocks("console")
    for line in console.splitlines()[1:]:
        record = json.loads(line)
        fields = [name for name in TYPES[record["type"]].__dataclass_fields__ if name not in {"account", "origin"}]
        assert [name for name in record if name not in {"account", "origin"}] == fields


def test_every_venue_and_exit_code_is_in_its_table():
    assert {name for name in VENUES if f"`{name}`" not in README} == set()
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)} == codes


def test_every_channel_is_in_its_table_under_the_right_dialects():
    table = CHANNELS[CHANNELS.index("| channel | v5 |") :]
    rows = re.findall(r"^\| (`.*?) \|\s*(\w*)\s*\|\s*(\w*)\s*\|\s*(\w*)\s*\|", table, re.MULTILINE)
    told = {name: cells for names, *cells in rows for name in re.findall(r"`([\w-]+)`", names)}
    for column, dialect in enumerate(DIALECTS):
        channels = {name for name in load(dialect).CHANNELS if not name.startswith("candle-")}
        assert {name for name, cells in told.items() if cells[column] and not name.startswith("candle-")} == channels

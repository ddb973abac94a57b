"""The README tells the truth: its quick starts run, its tables are complete."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from okstream import exits
from okstream.dialects import load
from okstream.records import TYPES
from okstream.venues import DIALECTS, VENUES

README = (Path(__file__).parent.parent / "README.md").read_text()
BIN = str(Path(sys.executable).parent)
ENDLESS = ("okstream run --config config.toml", "okstream simulate")
TIMEOUT = 30


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command, folder):
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(command, tmp_path):
    (tmp_path / "config.toml").write_text(blocks("toml")[0])
    script = command
    if command.startswith(ENDLESS) and "--check" not in command:
        script = f"timeout --preserve-status --signal TERM 2 {command}"
    done = run(["bash", "-o", "pipefail", "-c", script], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if command.startswith("okstream stream"):
        assert all(json.loads(line) for line in done.stdout.splitlines())
        assert len(done.stdout.splitlines()) >= 3


def test_the_daemon_of_the_readme_writes_its_file(tmp_path):
    (tmp_path / "config.toml").write_text(blocks("toml")[0])
    run(["timeout", "--signal", "TERM", "2", f"{BIN}/okstream", "run", "--config", "config.toml"], tmp_path)
    types = {json.loads(line)["type"] for line in (tmp_path / "records.jsonl").read_text().splitlines()}
    assert types == {"status", "ticker", "book"}


def test_the_python_of_the_readme_runs(tmp_path):
    (code,) = blocks("python")
    done = run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


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
    table = README[README.index("| channel | v5 |") :]
    rows = re.findall(r"^\| (`.*?) \|\s*(\w*)\s*\|\s*(\w*)\s*\|\s*(\w*)\s*\|", table, re.MULTILINE)
    told = {name: cells for names, *cells in rows for name in re.findall(r"`([\w-]+)`", names)}
    for column, dialect in enumerate(DIALECTS):
        channels = {name for name in load(dialect).CHANNELS if not name.startswith("candle-")}
        assert {name for name, cells in told.items() if cells[column] and not name.startswith("candle-")} == channels

"""docs/adding-a-sink.md: its package is installed, put to the contract, and used by a configuration."""

import base64
import hashlib
import re
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import orjson
import pytest
from support.commands import OKSTREAM, TIMEOUT, calm, clean_environment

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-sink.md").read_text()


def block(language: str, word: str) -> str:
    """Return the page's block that has `word` in it."""
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.S) if word in text)
    return str(found)


def wheel(folder: Path, files: dict[str, str]) -> Path:
    """Write a package as it would come from an index: a wheel is a zip of files, with a list of them."""
    about = "tickbase-1.0.dist-info"
    files = {
        **files,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: tickbase\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    sums = {name: hashlib.sha256(text.encode()).digest() for name, text in files.items()}
    encoded = {name: base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for name, digest in sums.items()}
    listed = [f"{name},sha256={encoded[name]},{len(text.encode())}" for name, text in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*listed, f"{about}/RECORD,,", ""])
    path = folder / "tickbase-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's package is installed in."""
    folder = tmp_path_factory.mktemp("tickbase")
    made = wheel(folder, {"tickbase/__init__.py": "", "tickbase/sinks.py": block("python", "class Sqlite:")})
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--target", folder / "site", made], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def environment(installed: Path) -> dict[str, str]:
    return {**clean_environment(), "PYTHONPATH": str(installed)}


def test_the_example_is_short():
    lines = [line for line in block("python", "class Sqlite:").splitlines() if line.strip()]
    assert len(lines) <= 25


def test_the_page_s_sink_fulfils_the_contract(installed: Path, tmp_path: Path):
    """As its author would run it: with pytest, in a folder of its own."""
    (tmp_path / "test_sqlite.py").write_text(block("python", "class TestSqlite"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "--basetemp", tmp_path / "temp"]
    done = subprocess.run(
        [*command, "test_sqlite.py"], cwd=tmp_path, env=environment(installed), capture_output=True, text=True,
        timeout=4 * TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|skipped)", done.stdout)}
    assert counts == {"passed": 9, "skipped": 5}
    assert "this store cannot be frozen" in done.stdout


def test_a_configuration_names_it_by_module_and_class(installed: Path, tmp_path: Path):
    (tmp_path / "config.toml").write_text(block("toml", "tickbase"))
    with subprocess.Popen(
        [OKSTREAM, "run", "--config", "config.toml"], cwd=tmp_path, env=environment(installed), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        base = tmp_path / "trades.sqlite"
        while count(base) < 20:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, calm(errors)) == (0, "", "")
    said = lines(base)
    assert [said[0]["state"], said[-1]["state"]] == ["started", "ended"]
    ids = [int(one["id"]) for one in said if one["type"] == "trade"]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "sink.base.path is missing"),
        ("path = 1", "sink.base.path"),
        ('path = "x"\npatience = "long"', "sink.base.patience"),
    ],
)
def test_what_is_wrong_with_its_options_is_said_before_anything_is_opened(installed: Path, tmp_path: Path, line, said):
    (tmp_path / "config.toml").write_text(block("toml", "tickbase").replace('path = "trades.sqlite"', line))
    done = subprocess.run(
        [OKSTREAM, "run", "--config", "config.toml"], cwd=tmp_path, env=environment(installed),
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def count(base: Path) -> int:
    try:
        return len(lines(base))
    except sqlite3.OperationalError:
        return 0  # it is not made yet


def lines(base: Path) -> list[dict[str, str]]:
    with sqlite3.connect(f"file:{base}?mode=ro", uri=True) as reading:
        found = [orjson.loads(line) for (line,) in reading.execute("SELECT line FROM lines ORDER BY rowid")]
    reading.close()
    return found

"""docs/journal.md: its blocks run, and its tables say what the code does."""

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import orjson

from okstream.journal import Journal
from okstream.replay import Replay
from okstream.replay.recordings import is_recording

PAGE = (Path(__file__).parents[1] / "docs" / "journal.md").read_text(encoding="utf-8")
OKSTREAM = str(Path(sys.executable).with_name("okstream"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def rows() -> dict[str, set[str]]:
    """Return the words in code of each row of the table of lines, by what `dir` it is of."""
    table = PAGE[PAGE.index("\n| dir |") :].split("\n\n")[0]
    lines = [line.split("|")[1:4] for line in table.splitlines()[3:]]
    return {first.strip().strip("`"): set(re.findall(r"`(\w+)`", rest)) for first, _, rest in lines}


def test_the_commands_of_the_first_block_run(tmp_path):
    for line in blocks("console")[0].splitlines():
        _, *arguments = shlex.split(line)
        done = subprocess.run([OKSTREAM, *arguments], cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert b'"trade"' in done.stdout


def test_the_program_runs():
    (program,) = blocks("python")
    wrapped = "import asyncio\nasync def main():\n" + "".join(f"    {line}\n" for line in program.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", f"{wrapped}\nasyncio.run(main())"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_each_kind_of_line_is_in_the_table_with_its_keys():
    known = set(Replay(lambda deliveries: None)._calls)
    assert rows().keys() == known
    source = inspect.getsource(Journal)
    for call in re.findall(r"self\._call\((.*?)\)\s*(?:# fmt|\n)", source, re.DOTALL):
        (kind,) = re.findall(r'dir="(\w+)"', call)
        keys = set(re.findall(r"(?<![\w.])(\w+)=", call)) - {"dir"}
        assert keys == rows()[kind], kind


def test_the_recording_in_the_page_is_one():
    (example,) = blocks("json")
    lines = example.splitlines()
    assert is_recording(lines[0].encode())
    assert [orjson.loads(line)["dir"] for line in lines] == ["open", "send", "recv"]

"""
docs/library.md, channels.md and simulator.md: every block runs; every name, option, limit and fault is there, with what
it is by default.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import orjson
import pytest

import okstream
from okstream import patterns
from okstream.channels import parse
from okstream.dialects import load
from okstream.simulator import DIALECTS, FAULTS, TEST_ACCOUNT, Settings, command, v5_rest
from okstream.simulator.faults import COMMON, IMMEDIATE
from okstream.venues import VENUES

DOCS = Path(__file__).parent.parent / "docs"
LIBRARY, SIMULATOR, CHANNELS = (
    (DOCS / name).read_text(encoding="utf-8") for name in ("library.md", "simulator.md", "channels.md")
)
TIMEOUT = 30

RUN = """
import ast, asyncio, inspect, logging, sys
logging.getLogger("okstream").addHandler(logging.NullHandler())  # lost connections are warnings, which go to stderr
space = {}
code = compile(sys.stdin.read(), "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
async def main():
    await eval(code, space)
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(main())
else:
    exec(code, space)
for name, test in list(space.items()):
    if name.startswith("test_"):
        test()
"""


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def table(page, head):
    """Return the cells of the rows below the line that begins with `head`."""
    lines = page[page.index(f"\n{head}") + 1 :].splitlines()[2:]
    rows = lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def quoted(text):
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("code", blocks(LIBRARY, "python") + blocks(SIMULATOR, "python"))
def test_every_block_of_python_runs(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        input=code, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == ("print(" in code)


def test_every_public_name_is_mentioned():
    words = set(re.findall(r"\w+", " ".join(quoted(LIBRARY) + blocks(LIBRARY, "python"))))
    assert set(okstream.__all__) - words == set()


def test_every_exception_is_in_its_table_and_can_be_imported():
    listed = {quoted(row[0])[0] for row in table(LIBRARY, "| | raised by |")} | {"OkstreamError"}
    assert {name for name in okstream.__all__ if name.endswith("Error")} == listed - {"TimeoutError", "RuntimeError"}


def test_every_argument_of_a_stream_is_in_its_table():
    listed = [name for row in table(LIBRARY, "| argument of") for name in quoted(row[0])]
    assert set(listed) == set(okstream.Stream.__init__.__annotations__) - {"return"}


def test_every_user_channel_of_the_table_can_be_asked_for():
    for (generation, forms), dialect in zip(table(LIBRARY, "| | |\n|---|---|\n| v5"), DIALECTS, strict=True):
        assert dialect.endswith(generation)
        stream = okstream.Stream("sim", dialect=dialect)
        for form in quoted(forms):
            stream.check(*parse(form))


def watched(dialect):
    """Return by channel after how many seconds of silence it is stale (None: never), and whether REST is asked."""
    found = {}
    for name in dialect.CHANNELS:
        for form in (f"{name}:BTC-USDT", f"{name}:BTC-USDT-SWAP", f"{name}:instType=SWAP", name):
            try:
                pace = dialect.traits(parse(form)[0]).pace
            except okstream.ConfigError:
                continue
            if pace is not None:
                due = None if pace.due is None else max(10, 5 * pace.every, 1.25 * pace.due + 5)
                found[name] = (due, pace.asked and not name.startswith("candle"))
            break
    return found


def test_what_silence_means_is_told_of_every_channel_that_speaks_regularly():
    told = {}
    for generation, names, stale in table(CHANNELS, "| | channel | stale |"):
        due = re.match(r"after ([\d.]+) s", stale)
        for name in quoted(names):
            told[generation, name] = (float(due[1]) if due else None, "REST" in stale)
    for name in DIALECTS:
        generation = name.rpartition("-")[2]
        known = {
            (generation, channel): how
            for channel, how in watched(load(name)).items()
            if not channel.startswith("candle") or channel == "candle-1m"
        }
        if generation == "v5":
            known.pop(("v5", "positions"))  # told with `account`
        assert {key: how for key, how in told.items() if key[0] == generation} == known


def test_the_limits_of_the_table_are_those_of_the_code():
    for name, row in zip(DIALECTS, table(CHANNELS, "| | connects |"), strict=True):
        limits = next(venue.limits for venue in VENUES.values() if venue.dialect == name)
        numbers = [int(found[0]) if (found := re.findall(r"\d+", cell)) else None for cell in row[1:]]
        known = [limits.connects, limits.requests, None, limits.deep_books, limits.channel_connections]
        assert numbers[:2] + numbers[3:] == known[:2] + known[3:]
        assert numbers[2] == -(-limits.request_bytes // 1024)


def test_every_pattern_of_the_table_means_what_it_says():
    for pattern, meaning in table(CHANNELS, "| pattern |"):
        kinds = {kind.name for kind in patterns.kinds(quoted(pattern)[0])}
        words = {"SPOT": "spot", "SWAP": "swap", "FUTURES": "futures", "OPTION": "calls"}
        assert all(words[kind] in meaning for kind in kinds - ({"FUTURES"} if "SWAP" in pattern else set()))


def test_every_fault_is_in_its_table_with_its_options_and_what_it_does():
    rows = {}
    for fault, strikes, options, about in table(SIMULATOR, "| fault |"):
        own = dict(text.split("=", 1) for text in quoted(options) if "=" in text)
        rows[quoted(fault)[0]] = (own, about)
        assert (strikes == "at once") == (quoted(fault)[0] in IMMEDIATE)
    assert rows == FAULTS
    assert list(rows) == list(FAULTS)


def test_every_common_option_is_in_its_table_with_its_default():
    rows = table(SIMULATOR, "| option | default | |\n|---|---|---|\n| `after`")
    assert {quoted(name)[0]: (quoted(default) or [""])[0] for name, default, _ in rows} == COMMON


def test_every_option_of_the_command_is_in_its_table_with_its_default():
    parser = argparse.ArgumentParser(add_help=False)
    command.add_arguments(parser)
    words = {"False": "off", "[]": "none"}
    known = {
        action.option_strings[0]: words.get(str(action.default), str(action.default)) for action in parser._actions
    }
    rows = table(SIMULATOR, "| option | default | |\n|---|---|---|\n| `--dialect`")
    assert {quoted(name)[0]: default.strip("`") for name, default, _ in rows} == known


def test_every_path_call_and_setting_is_mentioned():
    told = set(quoted(SIMULATOR))
    assert {path for paths in DIALECTS.values() for path in paths.values()} - told == set()
    assert {*v5_rest.PUBLIC, *v5_rest.SIGNED, "trade/cancel-order"} - told == set()
    assert {field.name for field in fields(Settings)} - told == set()
    assert {TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase} - told == set()


@contextmanager
def simulated():
    """Run `okstream simulate`; give the URL of its control endpoint, and the token."""
    process = subprocess.Popen([sys.executable, "-m", "okstream", "simulate"], stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line.startswith("control "):
                _, url, _, token = line.split()
                yield url, token
                break
    finally:
        process.terminate()
        process.stdout.close()
        process.wait(TIMEOUT)


def curl(command):
    """Do what `command` does where there is no curl."""
    words = [word for word in shlex.split(command) if word not in {"curl", "-s"}]
    options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
    name, _, value = options["-H"].partition(": ")
    data = options["-d"].encode() if "-d" in options else None
    request = urllib.request.Request(words[-1], data, {name: value})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
        return reply.read()


@pytest.mark.parametrize("tool", ["curl", "urllib"])
def test_the_control_endpoint_answers_as_the_page_says(tool):
    if tool == "curl" and not shutil.which("curl"):
        pytest.skip("there is no curl; urllib stands in for it")
    [script] = blocks(SIMULATOR, "sh")
    with simulated() as (url, token):
        replies = []
        for one in re.split(r"^(?=curl )", script, flags=re.MULTILINE)[1:]:
            if tool == "curl":
                environment = {**os.environ, "URL": url, "TOKEN": token, "no_proxy": "*"}
                replies.append(subprocess.check_output(["bash", "-c", one], env=environment, timeout=TIMEOUT))
            else:
                replies.append(curl(one.replace("$URL", url).replace("$TOKEN", token)))
    assert f"`{replies[0].decode()}`" in SIMULATOR
    state = orjson.loads(replies[1])
    assert set(state["armed"]) == {"gap"}
    assert {"counters", "connections"} <= state.keys()

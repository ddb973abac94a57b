"""`okstream simulate` as its arguments and its coroutine."""

import argparse
import asyncio
import os
import re
import signal

import pytest
from client import Client

from okstream.errors import ConfigError
from okstream.simulator.command import add_arguments, run
from okstream.simulator.faults import FAULTS


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_its_help_has_each_fault_on_a_line_of_its_own():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    lines = [line.strip() for line in parser.format_help().splitlines()]
    for name, (own, about) in FAULTS.items():
        said, *options = re.split("[:,]", lines[lines.index(about) - 1])
        assert (said, dict(option.split("=") for option in options)) == (name, own)


async def test_it_serves_until_a_signal(capsys):
    work = asyncio.create_task(run(parsed("--no-limits", "--fault", "handshake:n=1", "--clock-offset", "5")))
    lines = []
    for _ in range(1000):  # the command says nothing but its lines, so all there is to do is look
        await asyncio.sleep(0)
        lines += capsys.readouterr().out.splitlines()
        if lines:
            break
    said = dict(line.split(" ", 1) for line in lines)
    assert said["rest"].startswith("http://127.0.0.1:")
    assert "token" in said["control"]
    with pytest.raises(Exception, match="429"):
        await Client(said["public"]).__aenter__()
    async with Client(said["public"]) as client:
        await client.ws.send("ping")
        assert await client.next() == "pong"
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(work, 5) == 0


async def test_bad_words_are_configuration_errors():
    with pytest.raises(ConfigError, match="okex-v3"):
        await run(parsed("--dialect", "okx-v9"))
    with pytest.raises(ConfigError, match="no fault"):
        await run(parsed("--fault", "nonsense"))
    with pytest.raises(ConfigError, match="step"):
        await run(parsed("--step", "0"))
    with pytest.raises(ConfigError, match="at least 1"):
        await run(parsed("--fault", "drop:times=0"))

"""docs/nats.md: every option with its default, every test it names, and its example runs."""

import asyncio
import inspect
import re
import sys
import tomllib
from asyncio.subprocess import PIPE
from pathlib import Path

import orjson
from nats_server import nats_server, trades

from okstream.config.outputs import read
from okstream.sinks.nats import Nats

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "nats.md").read_text("utf-8")


def test_every_option_is_there_with_its_default():
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`|(none)) \|", PAGE, re.MULTILINE)
    written = {name: None if none else orjson.loads(default) for name, default, none in rows}
    assert written == {name: option.default for name, option in inspect.signature(Nats).parameters.items()}


def test_its_configuration_is_one(tmp_path: Path):
    credentials = tmp_path / "nats.toml"
    credentials.write_text('token = "t"\n')
    credentials.chmod(0o600)
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (output,) = read(tomllib.loads(block.replace("/etc/okstream/nats.toml", str(credentials)))["sink"])
    sink = output.sink()
    assert isinstance(sink, Nats)
    assert output.arguments["max_age"] == 7 * 86_400
    assert sink.where.endswith("at nats://10.0.0.1:4222, nats://10.0.0.2:4222, in OKSTREAM")


async def test_its_reader_reads_what_was_written(tmp_path: Path):
    with nats_server(tmp_path / "nats") as server:
        sink = Nats(servers=server.url)
        await sink.open()
        await sink.write(trades(3))
        await sink.close()
        (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        script = block.replace("nats://127.0.0.1:4222", server.url)
        reader = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=PIPE, stderr=PIPE)
        async with asyncio.timeout(30):
            assert await reader.communicate() == (b"1.5\n", b"")

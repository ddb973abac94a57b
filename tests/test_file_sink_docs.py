"""docs/files.md: what it names is there, and its examples run."""

import asyncio
import re
from pathlib import Path

import duckdb
from support.filed import finished, gap, manifest, status, trade

from okstream import config
from okstream.files.names import FIELDS, safe
from okstream.sinks.file import File

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "files.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]


async def archive(folder):
    """Write by the example's template."""
    path = re.search(r'^path = "(.+)"$', block("toml"), re.MULTILINE)[1]
    sink = File(path=f"{folder}/{path}")
    await sink.open()
    await sink.write([trade(1), trade(2), gap("a-1", "open", trade(3).recv), trade(4, "ETH-USDT")])
    await sink.write([status("live", trade(5).recv, "trades", "BTC-USDT")])
    await sink.close()


def test_its_configuration_is_one(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[[source]]\nvenue = "sim"\nsubscriptions = ["trades:BTC-USDT"]\n' + block("toml"))
    config.load(str(path))


def test_its_query_counts_what_was_written(tmp_path):
    asyncio.run(archive(tmp_path))
    query = block("sql").replace("'data/", f"'{tmp_path}/data/")
    with duckdb.connect() as base:
        assert sorted(base.execute(query).fetchall()) == [("BTC-USDT", 2), ("ETH-USDT", 1)]


def test_every_key_of_a_manifest_is_in_it(tmp_path):
    asyncio.run(archive(tmp_path))
    said = manifest(finished(tmp_path)[0])
    rows = "".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for key in [*said, *said["subscriptions"][0]]:
        stem = key.removesuffix("_ts").removesuffix("_recv")
        assert f"`{key}`" in rows or f"`{stem}`" in rows or key in {"venue", "channel", "inst", "account", "type"}, key


def test_every_field_of_a_path_is_in_it_and_values_are_as_it_says():
    assert all(f"`{{{field}}}`" in PAGE for field in FIELDS)
    assert [safe(one) for one in ("aZ9-._+@,", "_", "", None, ".x", "a b")] == [
        "aZ9-._+@,", "%5F", "%", "_", "%2Ex", "a%20b",
    ]  # fmt: skip


def test_every_reason_that_coverage_gives_is_in_it():
    package = TESTS.parent / "okstream"
    text = (package / "files" / "evidence.py").read_text() + (package / "coverage.py").read_text()
    calls = re.findall(r'(?:broken|detached|_doubt|_void)\((?:[^"()]*, )?f?"([a-z ]+)', text)
    assert {"missing", "torn", "no manifest", "corrupt", "unreadable", "restart"} <= set(calls)
    assert not [reason for reason in [*calls, "absent"] if f"`{reason}`" not in PAGE]

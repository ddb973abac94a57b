"""What was delivered live is delivered again from the journal: the same bytes, over real sockets in virtual time."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from okstream import (
    BookVoidError,
    Credentials,
    LaneOptions,
    Playback,
    Stream,
    SubscriptionRefusedError,
    testing,
    venues,
)
from okstream.encoding import encode
from okstream.entries import Entry
from okstream.feed.continuity import Delivery
from okstream.journal import Journal
from okstream.journal.volumes import found, read
from okstream.replay import Replay
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator

START_MS = testing.START_NS // 1_000_000
CREDENTIALS = Credentials(TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
PUBLIC = ("ticker:BTC-USDT", "trades:BTC-USDT", "book:BTC-USDT", "book:ETH-USDT", "book5:ETH-USDT")
PRIVATE = ("orders", "account", "positions")


class Kept:
    """A sink that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def open(self) -> None:
        pass

    async def write(self, batch: Sequence[Entry]) -> None:
        self.lines += [entry.line for entry in batch]

    async def close(self) -> None:
        pass


def recorded(
    folder: Path,
    scenario: Callable[[Simulator, Stream], Any],
    dialect: str = "okx-v5",
    *,
    settings: dict[str, Any] | None = None,
    journal: dict[str, Any] | None = None,
    lane: LaneOptions | None = None,
    **options: Any,
) -> list[bytes]:
    """Run `scenario` with a journal, in virtual time; return the lines that were delivered."""

    async def whole() -> list[bytes]:
        sink = Kept()
        async with Simulator(dialect, Settings(start_ms=START_MS, **(settings or {}))) as sim:
            venue = replace(venues.simulated(dialect, sim.url, sim.rest_url), name="okx")
            written = Journal(str(folder), **(journal or {}))
            usual: dict[str, Any] = {"wall_ns": testing.wall_ns, "chance": random.Random(1)}
            sinks = [sink if lane is None else (sink, lane)]
            async with Stream(venue, sinks=sinks, journal=written, **{**usual, **options}) as stream:
                await scenario(sim, stream)
            assert written.lost == 0
        return sink.lines

    return testing.run(whole)


def replayed(folder: Path) -> tuple[list[bytes], Replay]:
    """Return what a replay of the journal in `folder` delivers, and how it ended."""
    lines: list[bytes] = []

    def deliver(deliveries: list[Delivery]) -> None:
        lines.extend(encode(record) for one in deliveries for record in (*one.statements, *one.records))

    replay = Replay(deliver)
    for path in found([folder]):
        for line in read(path):
            replay.take(line)
    return lines, replay


async def subscribed(stream: Stream, *subs: str) -> None:
    for sub in subs:
        await stream.subscribe(sub, timeout=60)


def by_subscription(lines: list[bytes]) -> dict[Any, list[bytes]]:
    found: dict[Any, list[bytes]] = defaultdict(list)
    for line in lines:
        record = orjson.loads(line)
        found[record["channel"], record["inst"], record.get("account")].append(line)
    return found


def same(folder: Path, lines: list[bytes]) -> Replay:
    """Of each subscription the same lines in the same order: lanes put what is an account's before the rest."""
    again, replay = replayed(folder)
    one, other = by_subscription(lines), by_subscription(again)
    for sub in one.keys() | other.keys():
        assert one[sub] == other[sub], f"{sub} differs"
    assert replay.differing == 0
    assert replay.lost == 0
    return replay


FAULTS = (
    "gap:channel=books,inst=BTC-USDT", "checksum:channel=books", "duplicate:channel=trades", "malformed", "truncate",
    "drop", "stall:channel=tickers,seconds=20", "close", "unknown-event", "refuse", "break-books",
)  # fmt: skip


@pytest.mark.parametrize("redundancy", [1, 2])
@pytest.mark.parametrize(
    ("dialect", "subs"),
    [
        ("okx-v5", PUBLIC),
        ("okex-v3", PUBLIC[:4]),
        ("okex-v1", ("ticker:BTC-USDT", "trades:BTC-USDT", "book:BTC-USDT")),
    ],
)
def test_what_was_delivered_live_is_delivered_again(tmp_path, dialect, subs, redundancy):
    async def scenario(sim: Simulator, stream: Stream) -> None:
        await subscribed(stream, *subs)
        for fault in FAULTS:
            sim.inject(fault)
            await asyncio.sleep(7)
        await stream.unsubscribe(subs[0])
        with suppress(SubscriptionRefusedError):
            await stream.subscribe(subs[0])
        await stream.subscribe(subs[0])
        await asyncio.sleep(40)

    lines = recorded(tmp_path, scenario, dialect, redundancy=redundancy, rotate_after=45)
    assert sum(b'"type":"gap"' in line for line in lines) > 4
    assert any(b'"rotating"' in line for line in lines)
    assert any(b'"disconnected"' in line for line in lines)
    same(tmp_path, lines)


@pytest.mark.parametrize("redundancy", [1, 2])
@pytest.mark.parametrize(
    ("dialect", "subs"),
    [
        ("okx-v5", PRIVATE),
        ("okex-v3", ("orders:BTC-USDT", "account:business=spot,currency=BTC")),
        ("okex-v1", ("orders:BTC-USDT",)),
    ],
)
def test_channels_of_an_account_are_delivered_again_though_nothing_secret_is_in_the_journal(
    tmp_path, dialect, subs, redundancy
):
    async def scenario(sim: Simulator, stream: Stream) -> None:
        await subscribed(stream, "ticker:BTC-USDT", *subs)
        sim.inject("refuse-login")
        for fault in ("drop", "refuse", "malformed"):
            sim.inject(fault)
            await asyncio.sleep(40)

    options = {"accounts": {"main": CREDENTIALS}, "redundancy": redundancy, "rotate_after": 60}
    lines = recorded(tmp_path, scenario, dialect, settings={"orders_per_second": 0.5}, **options)
    assert any(b'"account":"main"' in line for line in lines)
    same(tmp_path, lines)
    written = b"\n".join(line for path in found([tmp_path]) for line in read(path))
    assert b"login" in written
    for secret in (TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase, "sign", "apiKey", "api_key"):
        assert secret.encode() not in written


def test_patterns_silence_notices_and_what_rest_says_of_them_are_replayed(tmp_path):
    async def scenario(sim: Simulator, stream: Stream) -> None:
        await subscribed(stream, "ticker:BTC-*", "book:BTC-USDT-SWAP")
        faults = (
            "stall:channel=tickers,inst=BTC-USDT,seconds=60,sticky=1",
            "list:inst=BTC-NEW",
            "notice:lead=20",
            "half-open",
            "expire:inst=BTC-NEW",
            "kill",
        )
        for fault in faults:
            sim.inject(fault)
            await asyncio.sleep(33)

    lines = recorded(tmp_path, scenario)
    same(tmp_path, lines)
    calls = {orjson.loads(line)["dir"] for path in found([tmp_path]) for line in read(path)}
    assert {"answer", "unwant", "want", "remove", "end", "call"} <= calls
    assert any(b"BTC-NEW" in line for line in lines)


def test_a_book_that_a_program_begins_to_read_is_kept_in_the_replay_from_then_on(tmp_path):
    """A lane that spills asks for no levels; a link that is replaced goes on by them."""

    async def scenario(sim: Simulator, stream: Stream) -> None:
        await subscribed(stream, "book:BTC-USDT", "trades:BTC-USDT")
        await asyncio.sleep(5)
        with suppress(BookVoidError):
            stream.book("BTC-USDT")
        for _ in range(6):
            sim.inject("drop")
            sim.inject("gap:channel=books")
            await asyncio.sleep(6)

    options = LaneOptions(when_full="spill", spool=tmp_path / "spool", spool_full="stop")
    lines = recorded(tmp_path / "journal", scenario, rotate_after=12, lane=options)
    same(tmp_path / "journal", lines)
    calls = [orjson.loads(line) for path in found([tmp_path / "journal"]) for line in read(path)]
    assert [call["keeps"] for call in calls if call["dir"] == "add"] == [False, False]
    assert [call["key"] for call in calls if call["dir"] == "keep"] == ["books:BTC-USDT"]


def test_a_raw_session_is_replayed_as_raw_text(tmp_path):
    """Nobody wanted records: nothing was checked, and nothing asked for anew."""

    async def scenario(sim: Simulator, stream: Stream) -> None:
        await subscribed(stream, *PUBLIC)
        sim.inject("gap:channel=books")
        sim.inject("drop")
        await asyncio.sleep(20)

    lines = recorded(tmp_path, scenario, lane=LaneOptions(form="raw"))

    async def again() -> list[bytes]:
        sink = Kept()
        async with Playback([tmp_path], [(sink, LaneOptions(form="raw"))]) as playback:
            await playback.wait()
            assert playback.replay.differing == 0
        return sink.lines

    assert testing.run(again) == lines


@pytest.mark.parametrize("dialect", ["okx-v5", "okex-v3", "okex-v1"])
def test_books_that_came_at_fixed_times_come_again_at_the_same(tmp_path, dialect):
    """Also while one is void, after a reconnect, and of an instrument that was subscribed to again."""

    async def scenario(sim: Simulator, stream: Stream) -> None:
        await subscribed(stream, "book:BTC-USDT,ETH-USDT", "trades:BTC-USDT")
        for fault in ("gap", "drop", "malformed"):
            sim.inject(fault)
            await asyncio.sleep(6)
        await stream.unsubscribe("book:BTC-USDT")
        await stream.subscribe("book:BTC-USDT")
        await asyncio.sleep(6)

    lines = recorded(tmp_path, scenario, dialect, redundancy=2, rotate_after=12, depth=5, every=0.25)
    books = [orjson.loads(line) for line in lines if b'"type":"book"' in line]
    assert len(books) > 150
    assert {book["recv"] % 250_000_000 for book in books} == {0}
    assert max(len(book["bids"]) for book in books) == 5
    same(tmp_path, lines)
    assert [line for line in replayed(tmp_path)[0] if b'"type":"book"' in line] == [
        line for line in lines if b'"type":"book"' in line
    ], "the instruments take turns as they did"


def test_the_text_of_books_that_came_at_fixed_times_is_all_there(tmp_path):
    async def scenario(sim: Simulator, stream: Stream) -> None:
        await subscribed(stream, "book:BTC-USDT")
        await asyncio.sleep(5)

    recorded(tmp_path, scenario, depth=5, every=1)
    received = [orjson.loads(line) for path in found([tmp_path]) for line in read(path)]
    changes = [call["text"].encode() for call in received if call["dir"] == "recv" and '"action"' in call["text"]]

    async def again() -> tuple[list[bytes], list[bytes]]:
        raw, parsed = Kept(), Kept()
        async with Playback([tmp_path], [(raw, LaneOptions(form="raw")), (parsed, LaneOptions())]) as playback:
            await playback.wait()
        return raw.lines, parsed.lines

    raw, parsed = testing.run(again)
    assert [line.rstrip(b"\n") for line in raw if b'"action"' in line] == changes
    assert len(changes) > sum(b'"type":"book"' in line for line in parsed) >= 4

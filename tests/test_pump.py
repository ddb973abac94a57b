"""What stands between a lane and its sink: batches, attempts, what is never written, and how the sink is doing."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from core.exchange import RECV, STATEMENTS, book, feed, push, source, ticker, trade, trades

from okstream import testing
from okstream.entries import Entry
from okstream.errors import ConfigError, ReaderGoneError, RejectedError, ReopenError, RetryError, SinkError
from okstream.fanout.pump import Pump
from okstream.fanout.surroundings import Surroundings
from okstream.feed import Feed
from okstream.feed.continuity import Delivery
from okstream.feed.source import Source
from okstream.options import LaneOptions
from okstream.records import Status
from okstream.sinks import Proven

TRADES, BOOK = "trades:BTC-USDT", "book:BTC-USDT"


class Scripted:
    """Keeps what it gets; `script` says what each write meets: an error to raise, None for none, then none any more."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.openings: list[Any] = []
        self.batches: list[list[bytes]] = []
        self.lines: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.times: list[float] = []

    async def open(self) -> None:
        self.calls.append("open")
        if self.openings and (error := self.openings.pop(0)) is not None:
            raise error

    async def write(self, batch: Sequence[Entry]) -> None:
        self.calls.append("write")
        self.times.append(asyncio.get_running_loop().time())
        error = self.script.pop(0) if self.script else None
        left: set[int] = set()
        if isinstance(error, RetryError):
            left = set(range(len(batch)) if error.pending is None else error.pending) | error.rejected.keys()
        elif isinstance(error, RejectedError):
            left = set(error.rejected)
        elif error is not None:
            left = set(range(len(batch)))
        written = [entry.line for at, entry in enumerate(batch) if at not in left]
        if written:
            self.batches.append(written)
            self.lines += map(orjson.loads, written)
        if error is not None:
            raise error

    async def close(self) -> None:
        self.calls.append("close")

    @property
    def told(self) -> list[str]:
        """What it has, in short."""
        words = []
        for line in self.lines:
            if line["type"] == "gap":
                words.append(f"{line['state']} {line['reason']} {line['after']}..{line['until']}")
            elif line["type"] == "status":
                words.append(line["state"])
            else:
                words.append(str(line.get("id") or line.get("seq") or line["ts"]))
        return words

    @property
    def data(self) -> list[str]:
        """What it has but statuses, in short."""
        return [word for word, line in zip(self.told, self.lines, strict=True) if line["type"] != "status"]


def around(**more: Any) -> Surroundings:
    return Surroundings(STATEMENTS, lambda: RECV, random.Random(1), **more)


def pump(sink: Any, count: int | None = None, clock: Any = time.perf_counter, **options: Any) -> Pump:
    return Pump(sink, LaneOptions(**options), "sink", around(clock=clock), count=count)


def lived(text: str = TRADES) -> Source:
    """One that is live already, of which the lane knows nothing yet."""
    one = source(text)
    one.ask()
    one.acknowledge(RECV)
    if text.startswith("trades"):
        one.push(trades(0, inst=text.partition(":")[2]), RECV)
    return one


def put(one: Pump, source: Source, *numbers: int) -> None:
    for number in numbers:
        one.lane.put(source.push(trades(number), RECV, weight=100))


async def through(one: Pump, *waiting: Any) -> None:
    """Run `one` until what waits in its lane is written, or it has failed."""
    await one.start()
    running = asyncio.create_task(one.run())
    for each in waiting:
        await each
    one.finish()
    await running
    await one.close()


def virtually(one: Pump, *waiting: Any) -> None:
    testing.run(lambda: through(one, *waiting))


# -- batches


def test_batches_have_so_many_lines_or_so_many_bytes():
    async def scenario(**options: Any) -> list[int]:
        sink = Scripted()
        one, trading = pump(sink, **options), lived()
        put(one, trading, *range(1, 11))
        await through(one)
        assert sink.told == [*map(str, range(1, 11))]
        return [len(batch) for batch in sink.batches]

    assert testing.run(lambda: scenario()) == [10]
    assert testing.run(lambda: scenario(batch_records=4)) == [4, 4, 2]
    sizes = testing.run(lambda: scenario(batch_bytes=600))
    assert sum(sizes) == 10
    assert max(sizes) == 3


def test_a_batch_waits_so_long_after_its_first_line_and_no_longer_than_it_is_whole():
    async def scenario() -> list[float]:
        sink = Scripted()
        one, trading = pump(sink, linger=1.0, batch_records=3), lived()
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 1)
        await asyncio.sleep(5)
        put(one, trading, 2, 3, 4)
        await asyncio.sleep(5)
        put(one, trading, 5)
        one.finish()
        await running
        return sink.times

    assert testing.run(scenario) == pytest.approx([1.0, 5.0, 10.0], abs=1e-3)


def test_a_sink_says_of_itself_how_its_batches_are():
    class Small(Scripted):
        batch_records = 2

    sink = Small()
    one = pump(sink)
    put(one, lived(), 1, 2, 3)
    virtually(one)
    assert [len(batch) for batch in sink.batches] == [2, 1]


# -- attempts


def test_what_cannot_be_written_now_is_tried_again_in_order_with_growing_pauses():
    sink = Scripted(*[RetryError("busy")] * 6)
    one = pump(sink)
    put(one, lived(), 1, 2, 3)
    virtually(one)
    assert sink.told == ["1", "2", "3"]
    assert sink.calls == ["open", *["write"] * 7, "close"]
    pauses = [after - before for before, after in zip(sink.times, sink.times[1:], strict=False)]
    assert all(0 <= pause <= 0.5 * 2**number + 1e-6 for number, pause in enumerate(pauses))
    assert sum(pauses) > 2
    assert (one.state.retries, one.state.state, one.lost, one.written) == (6, "ok", 0, 3)


@pytest.mark.parametrize("pending", [[1, 2], [2, 1, 1], {2, 1}], ids=repr)
def test_only_what_is_pending_is_tried_again(pending: Any):
    sink = Scripted(RetryError("part", pending), RetryError("part", [1]))
    one = pump(sink)
    put(one, lived(), 1, 2, 3)
    virtually(one)
    assert sink.told == ["1", "2", "3"]
    assert (one.written, one.lost) == (3, 0)


@pytest.mark.parametrize("error", [ReopenError("lost"), ConnectionResetError("lost"), TimeoutError("late")])
def test_a_broken_connection_is_closed_and_opened(error):
    sink = Scripted(error)
    sink.openings = [None, OSError("not yet"), None]
    one = pump(sink)
    put(one, lived(), 1)
    virtually(one)
    assert sink.calls == ["open", "write", "close", "open", "close", "open", "write", "close"]
    assert sink.told == ["1"]


def test_while_it_is_tried_again_its_state_says_so():
    async def scenario() -> Any:
        sink = Scripted(*[RetryError("broker is away")] * 3)
        one = pump(sink)
        states = [one.state.state]
        put(one, lived(), 1)
        await one.start()
        states.append(one.state.state)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(1e-6)  # less than any pause
        states.append(one.state.state)
        state = one.state
        assert (state.detail, state.waiting, state.lost) == ("broker is away", 1, 0)
        one.finish()
        await running
        return [*states, one.state.state]

    assert testing.run(scenario) == ["starting", "ok", "recovering", "ok"]


def test_attempts_can_be_bounded_and_then_it_is_as_if_rejected():
    sink = Scripted(*[RetryError("busy")] * 3)
    one, trading = pump(sink, retries=2, batch_records=2), lived()
    put(one, trading, 1, 2, 3)
    virtually(one)
    assert sink.told == ["open sink None..None", "closed sink None..3", "3"]
    assert (one.written, one.lost, one.state.rejected) == (1, 2, 2)


# -- what can never be written


def test_what_is_rejected_is_declared_directly_before_the_next_of_it():
    async def scenario() -> list[str]:
        sink = Scripted(None, RejectedError("poison", {1: "too long"}))
        one, trading, other = pump(sink), lived(), lived("trades:ETH-USDT")
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, trading, 1)
        await asyncio.sleep(1)
        put(one, trading, 2, 3)  # 3 is poison
        await asyncio.sleep(1)
        one.lane.put(other.push(trades(1, inst="ETH-USDT"), RECV))
        put(one, trading, 4, 5)
        one.finish()
        await running
        assert (one.written, one.lost, one.state.rejected) == (5, 1, 1)
        return sink.told

    assert testing.run(scenario) == ["1", "2", "1", "open sink 2..None", "closed sink 2..4", "4", "5"]


def test_what_was_written_behind_the_rejected_bounds_the_gap():
    async def scenario() -> list[str]:
        sink = Scripted(RejectedError("poison", {1: "too long"}))
        one, trading = pump(sink), lived()
        put(one, trading, 1, 2, 3)
        await one.start()
        running = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        put(one, trading, 4)
        one.finish()
        await running
        return sink.told

    assert testing.run(scenario) == ["1", "3", "open sink 1..None", "closed sink 1..3", "4"]


def test_a_rejection_that_nothing_follows_is_said_at_the_end():
    sink = Scripted(RejectedError("poison", {0: "too long"}))
    one = pump(sink)
    put(one, lived(), 1)
    virtually(one)
    assert sink.told == ["open sink None..None"]


def test_rejected_and_pending_at_once():
    sink = Scripted(RetryError("part", [2], {1: "too long"}))
    one = pump(sink)
    put(one, lived(), 1, 2, 3)
    virtually(one)
    assert sink.told == ["1", "open sink 1..None", "closed sink 1..3", "3"]
    assert (one.written, one.lost) == (2, 1)


@pytest.mark.parametrize("kept_in_a_file", [False, True])
def test_a_book_of_which_a_change_was_rejected_goes_on_from_its_present_levels(kept_in_a_file: bool, tmp_path: Path):
    letters = tmp_path / "dead" if kept_in_a_file else None

    async def scenario() -> tuple[list[Any], int, int]:
        sink = Scripted(None, RejectedError("poison", {0: "too long"}))
        one = pump(sink, batch_records=2, dead_letters=letters)
        kept = feed(BOOK)
        booked = Feed(kept.sub, "okx", kept._dialect, kept._statements, keeps=True).source()
        booked.ask()
        booked.acknowledge(RECV)
        put_book = lambda *what: one.lane.put(booked.push(book(*what), RECV))  # noqa: E731
        booked.push(book("snapshot", -1, 1), RECV)
        put_book("update", 1, 2)
        await one.start()
        running = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        put_book("update", 2, 3)  # poison
        while not one.state.rejected:  # noqa: ASYNC110 - a file is written in a thread
            await asyncio.sleep(0.001)
        put_book("update", 3, 4)
        put_book("update", 4, 5)
        await asyncio.sleep(1)
        put_book("update", 5, 6)
        one.finish()
        await running
        told = [(line.get("action"), line.get("seq"), line.get("prev")) for line in sink.lines]
        return told, one.written, one.lost

    told, written, lost = testing.run(scenario)
    gap = (None, None, None)
    assert told == [("update", 2, 1), gap, gap, ("snapshot", 5, -1), ("update", 6, 5)]
    assert (written, lost) == (3, 0 if kept_in_a_file else 1)


def test_dead_letters_are_kept_in_a_file_and_declared_whether_there_is_room_or_not(tmp_path: Path):
    path = tmp_path / "deep" / "dead.jsonl"
    sink = Scripted(RejectedError("poison", {1: "too long", 2: "wrong"}), RejectedError("poison", {2: "late"}))
    one = pump(sink, batch_records=3, dead_letters=path, dead_letter_bytes=1000)
    put(one, lived(), 1, 2, 3, 4, 5)
    virtually(one)
    letters = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [(letter["sink"], letter["reason"], orjson.loads(letter["record"]["line"])["id"]) for letter in letters] == [
        ("sink", "too long", "2"),
        ("sink", "wrong", "3"),
    ]
    assert list(letters[0]) == ["time", "sink", "reason", "record"]
    assert list(letters[0]["record"]) == ["identity", "type", "venue", "channel", "inst", "account", "ts", "recv",
                                          "line"]  # fmt: skip
    # Where they are kept does not matter to who reads the stream: there they are missing.
    assert sink.told == ["1", "open sink 1..None", "closed sink 1..4", "5", "open sink 1..None", "closed sink 1..5"]
    assert (one.written, one.state.rejected, one.state.dead_letters, one.lost) == (2, 3, 2, 1)
    assert path.stat().st_size <= 1000


def test_a_file_for_dead_letters_that_cannot_be_written_is_said_and_harms_nothing(tmp_path: Path):
    sink = Scripted(RejectedError("poison", {0: "too long"}))
    one = pump(sink, dead_letters=tmp_path)
    put(one, lived(), 1, 2)
    virtually(one)
    assert sink.told == ["2", "open sink None..None", "closed sink None..2"]
    assert one.lost == 1


# -- a sink that is down at the start


NOT_OPENED = [ConnectionRefusedError("nobody there"), ZeroDivisionError("nobody there"), SystemExit("nobody there"),
              asyncio.CancelledError()]  # fmt: skip


@pytest.mark.parametrize("error", NOT_OPENED, ids=repr)
def test_a_sink_that_is_down_at_the_start_fails_the_start(error: BaseException):
    sink = Scripted()
    sink.openings = [error]
    with pytest.raises(SinkError, match=r"nobody there|was cancelled, and not by us"):
        virtually(pump(sink))


@pytest.mark.parametrize("error", NOT_OPENED, ids=repr)
def test_a_sink_that_is_down_at_the_start_is_left_out(error: BaseException):
    sink = Scripted()
    sink.openings = [error]
    one = pump(sink, on_start="ignore")
    virtually(one)
    assert (one.state.state, sink.calls) == ("failed", ["open", "close"])


def test_a_sink_that_is_down_at_the_start_is_opened_later_and_gets_what_waited():
    sink = Scripted()
    sink.openings = [ConnectionRefusedError("nobody there")] * 4
    one = pump(sink, on_start="retry")
    put(one, lived(), 1, 2)
    virtually(one)
    assert sink.told == ["1", "2"]
    assert sink.calls == [*["open", "close"] * 4, "open", "write", "close"]


# -- a sink that fails


@pytest.mark.parametrize("error", [SinkError("no rights"), ReaderGoneError("gone"), ValueError("a bug"), KeyError(1)])
def test_a_sink_that_fails_for_good_is_let_go_with_all_that_waits(error, caplog):
    sink = Scripted(None, error)
    one = pump(sink, batch_records=2)
    put(one, lived(), *range(1, 7))
    virtually(one)
    assert one.failure is error
    assert (one.written, one.lost, len(one.lane), one.lane.weight, one.lane.held) == (2, 4, 0, 0, 0)
    assert (one.state.state, sink.calls[-1], sink.calls.count("close")) == ("failed", "close", 1)
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == (not isinstance(error, SinkError))
    assert all(record.levelno < logging.ERROR for record in caplog.records) == isinstance(error, ReaderGoneError)


def test_a_write_that_holds_the_loop_is_counted_and_warned_of_once_a_minute(caplog):
    now = [0.0]

    class Heavy(Scripted):
        async def write(self, batch: Sequence[Entry]) -> None:
            now[0] += 0.06
            await asyncio.sleep(3)  # waiting holds nobody up
            now[0] += 0.07
            await super().write(batch)

    sink = Heavy()
    one = pump(sink, batch_records=1, clock=lambda: now[0])
    put(one, lived(), 1, 2, 3)
    virtually(one)
    assert one.state.slow_writes == 6
    assert sum("held everything up" in record.message for record in caplog.records) == 1


def test_a_threaded_sink_does_everything_in_a_thread_of_its_own_and_order_holds():
    class Blocking(Scripted):
        threaded = True

        def __init__(self, *script: Any) -> None:
            super().__init__(*script)
            self.threads: set[int] = set()

        async def open(self) -> None:
            self.threads.add(threading.get_ident())
            await super().open()

        async def write(self, batch: Sequence[Entry]) -> None:
            self.threads.add(threading.get_ident())
            await super().write(batch)

        async def close(self) -> None:
            self.threads.add(threading.get_ident())
            await super().close()

    sink = Blocking(RetryError("busy"))
    one = pump(sink, retry_first=0.01, batch_records=2)
    put(one, lived(), *range(1, 6))
    asyncio.run(through(one))
    assert sink.told == [*map(str, range(1, 6))]
    assert len(sink.threads) == 1
    assert sink.threads != {threading.get_ident()}
    assert sink.calls[-1] == "close"


def test_a_threaded_sink_that_never_returns_holds_up_nobody():
    release = threading.Event()

    class Stuck(Scripted):
        async def write(self, batch: Sequence[Entry]) -> None:
            release.wait(20)

    async def scenario() -> None:
        one = pump(Stuck(), threaded=True)
        put(one, lived(), 1)
        await one.start()
        running = asyncio.create_task(one.run())
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        began = time.monotonic()
        await one.close(0.1)
        assert time.monotonic() - began < 10
        release.set()

    asyncio.run(scenario())


# -- what is proven of a run before


class Proving(Scripted):
    def proven(self) -> list[Proven]:
        return [
            Proven("okx", "trades", "BTC-USDT", None, "90", 1090),
            Proven("okx", "trades", "SOL-USDT", None, "7", 70),
        ]


def test_what_may_be_missing_since_the_last_run_is_a_gap_of_reason_start():
    sink = Proving()
    one, trading, other, tick = pump(sink), lived(), lived("trades:ETH-USDT"), lived("ticker:BTC-USDT")
    put(one, trading, 100, 101)
    one.lane.put([*other.push(trades(1, inst="ETH-USDT"), RECV), *tick.push(ticker(3), RECV)])
    virtually(one)
    assert sink.told == [
        "open start 90..None", "closed start 90..100", "100", "101", "1", "live", "3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "told", "lost"),
    [
        ((88, 89, 90, 91), ["closed start 90..90", "91"], 0),  # nothing happened while nobody looked
        ((90,), ["closed start 90..90"], 0),
        ((91, 92), ["closed start 90..91", "91", "92"], 0),
        ((92,), ["closed start 90..92", "92"], None),
    ],
)
def test_trades_that_are_proven_do_not_come_again_and_show_whether_any_are_missing(numbers, told, lost):
    sink = Proving()
    one, trading = pump(sink), lived()
    put(one, trading, *numbers)
    virtually(one)
    assert sink.told == ["open start 90..None", *told]
    assert [line["lost"] for line in sink.lines if line.get("state") == "closed"] == [lost]
    assert one.written == len(told) - 1
    assert one.lost == one.state.waiting == one.state.bytes == 0


def test_ids_that_begin_again_are_of_other_trades():
    sink = Proving()
    one, trading = pump(sink), lived()
    row = {**trade(7), "ts": "2000"}
    one.lane.put(trading.push(push("trades:BTC-USDT", row), RECV))
    virtually(one)
    assert sink.told == ["open start 90..None", "closed start 90..7", "7"]


def test_a_gap_of_reason_start_has_the_time_of_what_it_precedes():
    sink = Proving()
    one, trading = pump(sink), lived()
    one.lane.put(trading.push(trades(100), RECV - 7))
    virtually(one)
    assert [(line["type"], line["recv"]) for line in sink.lines] == [
        ("gap", RECV - 7), ("gap", RECV - 7), ("trade", RECV - 7),
    ]  # fmt: skip


def test_an_instrument_that_nothing_is_proven_of_may_have_been_missed_where_others_of_its_subscription_are_proven():
    class Some(Scripted):
        def proven(self) -> list[Proven]:
            return [Proven("okx", "liquidations", "BTC-USDT-SWAP", None, None, 1090)]

    def rows(*insts: str) -> list[dict[str, Any]]:
        detail = {"side": "buy", "sz": "1", "bkPx": "1", "ts": "1", "ccy": ""}
        return [{"instType": "SWAP", "uly": "", "instId": inst, "details": [detail]} for inst in insts]

    one, trading = pump(sink := Some()), lived()
    many = lived(wanted := "liquidations:instType=SWAP")
    for insts in (["ETH-USDT-SWAP"], ["BTC-USDT-SWAP", "ETH-USDT-SWAP"], ["BTC-USDT-SWAP"]):
        one.lane.put(many.push(push(wanted, *rows(*insts)), RECV))
    put(one, trading, 1)
    virtually(one)
    told = [(line["type"], line["inst"], line.get("state"), line.get("after_ts")) for line in sink.lines]
    assert [line for line in told if line[0] != "status"] == [
        ("gap", "ETH-USDT-SWAP", "open", None), ("gap", "ETH-USDT-SWAP", "closed", None),
        ("liquidation", "ETH-USDT-SWAP", None, None),
        ("gap", "BTC-USDT-SWAP", "open", 1090), ("gap", "BTC-USDT-SWAP", "closed", 1090),
        ("liquidation", "BTC-USDT-SWAP", None, None), ("liquidation", "ETH-USDT-SWAP", None, None),
        ("liquidation", "BTC-USDT-SWAP", None, None), ("trade", "BTC-USDT", None, None),
    ]  # fmt: skip


def test_other_gaps_before_the_first_data_lie_within_that_of_the_start():
    sink = Proving()
    one, trading = pump(sink), lived()
    deliveries = trading.acknowledge(RECV) + trading.lose("disconnected", RECV, "disconnected")
    trading.ask()
    deliveries += trading.push(trades(100), RECV)
    one.lane.put(deliveries)
    virtually(one)
    assert [word for word in sink.told if "90" in word] == ["open start 90..None", "closed start 90..100"]
    assert not [word for word in sink.told if "disconnected N" in word]


# -- the rest


def test_options_that_make_no_sense():
    for options in ({"when_full": "spill"}, {"spool_always": True}, {"spool": Path("x")}, {"types": ("gap",)}):
        with pytest.raises(ConfigError):
            pump(Scripted(), **options)


def test_statements_about_a_link_go_to_all_and_those_about_what_is_filtered_out_to_nobody():
    sink = Scripted()
    one, trading, other = pump(sink, instruments=("ETH-*",)), lived(), lived("trades:ETH-USDT")
    one.lane.put([Delivery(None, [Status("okx", None, None, None, None, RECV, "connecting", None)])])
    put(one, trading, 1)
    one.lane.put(trading.lose("disconnected", RECV, "disconnected"))
    one.lane.put(other.push(trades(1, inst="ETH-USDT"), RECV))
    virtually(one)
    assert sink.told == ["connecting", "1"]


def test_records_of_many_instruments_in_one_subscription_are_told_apart():
    one = pump(sink := Scripted(), instruments=("ETH-*",))
    row = {"instType": "SWAP", "uly": "", "details": [{"side": "buy", "sz": "1", "bkPx": "1", "ts": "1", "ccy": ""}]}
    many = lived("liquidations:instType=SWAP")
    message = push("liquidations:instType=SWAP", {**row, "instId": "BTC-USDT"}, {**row, "instId": "ETH-USDT"})
    one.lane.put(many.push(message, RECV))
    virtually(one)
    assert [line["inst"] for line in sink.lines if line["type"] == "liquidation"] == ["ETH-USDT"]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_is_of_other_instruments_takes_no_room(policy: Any):
    one = pump(sink := Scripted(), instruments=("ETH-*",), bytes=1000, when_full=policy)
    many = lived("liquidations:instType=SWAP")
    for ts, inst in enumerate(("ETH-USDT", *["BTC-USDT"] * 50, "ETH-USDC")):
        details = [{"side": "buy", "sz": "1", "bkPx": "1", "ts": str(ts), "ccy": ""}]
        row = {"instType": "SWAP", "uly": "", "details": details, "instId": inst}
        one.lane.put(many.push(push("liquidations:instType=SWAP", row), RECV, weight=100))
    virtually(one)
    assert [(line["type"], line["inst"]) for line in sink.lines if line["type"] != "status"] == [
        ("liquidation", "ETH-USDT"),
        ("liquidation", "ETH-USDC"),
    ]
    assert one.lost == 0


def test_a_lane_that_drops_is_warned_of_once_a_minute(caplog):
    async def scenario() -> None:
        one, source = pump(Scripted(), bytes=1000), lived()
        put(one, source, *range(2, 40))
        assert [text for text in caplog.messages if "keep up" in text] == [
            "sink does not keep up: 1 dropped so far, gaps say where"
        ]
        await asyncio.sleep(61)
        put(one, source, *range(40, 80))
        assert len([text for text in caplog.messages if "keep up" in text]) == 2

    testing.run(scenario)


def test_a_sink_whose_own_wait_was_cancelled_has_failed_and_says_so(caplog):
    async def scenario() -> None:
        sink = Scripted(asyncio.CancelledError())
        one, source = pump(sink), lived()
        await one.start()
        put(one, source, 2, 3)
        await asyncio.create_task(one.run())
        assert (one.state.state, one.state.lost, one.done.is_set(), sink.calls[-1]) == ("failed", 2, True, "close")
        assert "not by us" in caplog.text

    testing.run(scenario)


def test_a_threaded_sink_is_not_opened_again_while_it_still_closes():
    class Slow(Scripted):
        threaded = True
        inside = 0
        overlaps = 0

        def __init__(self) -> None:
            super().__init__(ReopenError("broken"))
            self.leave = threading.Event()

        async def open(self) -> None:
            self.overlaps += self.inside
            await super().open()
            if len(self.calls) == 1:
                return
            assert self.leave.is_set()

        async def close(self) -> None:
            self.inside += 1
            self.leave.wait(20)
            self.inside -= 1
            await super().close()

    async def scenario() -> None:
        sink = Slow()
        one, source = pump(sink), lived()
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, source, 2, 3)
        while "still closing" not in (one.state.detail or ""):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        sink.leave.set()
        while one.written < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert (sink.overlaps, [line["id"] for line in sink.lines if line["type"] == "trade"]) == (0, ["2", "3"])
        one.finish()
        await running
        await one.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_close_that_is_cancelled_where_it_began_is_waited_for_where_it_is_asked_for_again(tmp_path: Path):
    """The drain is over while a sink that has failed still closes: what waits is put on the disk all the same."""

    class Slow(Scripted):
        async def close(self) -> None:
            await asyncio.sleep(5)
            await super().close()

    async def scenario() -> None:
        sink = Slow(SinkError("gone"))
        one, source = pump(sink, spool=tmp_path / "spool", spool_always=True), lived()
        await one.start()
        running = asyncio.create_task(one.run())
        put(one, source, *range(2, 50))
        while not one.closed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await one.close()
        assert sink.calls[-1] == "close"
        again = pump(later := Scripted(), spool=tmp_path / "spool", spool_always=True)
        await again.start()
        running = asyncio.create_task(again.run())
        again.finish()
        await running
        await again.close()
        assert [line["id"] for line in later.lines if line["type"] == "trade"] == [str(n) for n in range(2, 50)]

    testing.run(scenario)


def test_few_that_are_heavy_do_not_wait_until_they_fill_the_lane():
    async def scenario() -> None:
        one, source = pump(Scripted(), bytes=8 << 20, linger=1.0), lived()
        await one.start()
        running = asyncio.create_task(one.run())
        for number in range(2, 62):
            deliveries = source.push(trades(number), RECV)
            for delivery in deliveries:
                delivery.weight = 650_000
            one.lane.put(deliveries)
            await asyncio.sleep(0.005)
        assert one.state.dropped == 0
        one.finish()
        await running
        await one.close()

    testing.run(scenario)

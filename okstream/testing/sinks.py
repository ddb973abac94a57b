"""
What every sink has to fulfil, as tests: subclass SinkContract in a module that pytest collects.

    class TestMySink(SinkContract):
        def sink(self): return MySink(path=self.folder / "base")
        async def held(self): return lines_in(self.folder / "base")

The sink runs behind a real lane, in real time, one event loop a test; nothing sleeps to wait for anything. What the
test cannot do to a store is skipped, and says so.
"""

import asyncio
import unittest
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from okstream.encoding import encode
from okstream.errors import SinkError
from okstream.records import DataRecord
from okstream.sinks import Remembering, Sink

from .behind import INSTRUMENTS, Behind, Stopping, gaps_of

_LOOK_EVERY = 0.01
_SMALL = 64 * 1024
_BATCH = 50

Fields = dict[str, Any]


class SinkContract:
    """
    Tests of one kind of sink. `sink` and `held` have to be given; the other methods may be, and then more is tested.

    `folder` is the test's own, and empty at its begin. `patience` is how many seconds anything may take at most;
    `many` how many records are many. `statements` says whether gaps and statuses are kept, `verbatim` whether lines
    are held as they were written. `once` says that the store drops duplicates by identity.
    """

    patience = 20.0
    many = 2000
    statements = True
    verbatim = True
    once = False
    folder: Path

    # -- what a subclass says

    def sink(self) -> Sink:
        """Return a new sink of this test's store; called again for what follows after a restart."""
        raise NotImplementedError

    async def held(self) -> Sequence[bytes]:
        """Return the lines that the store holds, in its order; where it is not `verbatim`, with the same keys."""
        raise NotImplementedError

    async def begin(self) -> None:
        """Make the store; it is empty."""

    async def end(self) -> None:
        """Let go of the store; also where it is down or frozen."""

    async def take_down(self) -> None:
        """Make every write and open fail until `bring_up`; what the store holds stays."""
        raise unittest.SkipTest("this store cannot be taken down")

    async def bring_up(self) -> None:
        """Undo `take_down`."""

    async def freeze(self) -> None:
        """Make writes hang until `thaw`, at the latest after a few hundred KiB."""
        raise unittest.SkipTest("this store cannot be frozen")

    async def thaw(self) -> None:
        """Undo `freeze`."""

    def poison(self) -> DataRecord:
        """Return a record that this store can never hold."""
        raise unittest.SkipTest("there is nothing that this store cannot hold")

    # -- the contract

    def test_everything_is_held_in_order_and_unchanged(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            behind = await self._started()
            behind.trades(1)
            await self._until(lambda: behind.state.written == 1)
            behind.trades(self.many)
            await behind.finish(self.patience)
            await self._all_held(behind, exactly=True)
            assert (behind.state.written, behind.state.lost) == (self.many + 1, 0)

        self._run(tmp_path, scenario)

    def test_a_line_is_held_whatever_is_in_it(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            behind = await self._started()
            texts = ("a\nb\r\n\0\x7f", "ü – 币 🚀 \u2028", "'", '"', "\\", "%s", "{0}")
            every: list[Any] = [[], {}, None, *texts, {"key with spaces": list(texts)}]
            for data in every:
                behind.native(data)
            behind.native(["x" * 100_000, 1.5, -7])
            await behind.finish(self.patience)
            await self._all_held(behind, exactly=True)

        self._run(tmp_path, scenario)

    def test_gaps_and_statuses_are_held_where_they_were_said(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            if not self.statements:
                raise unittest.SkipTest("this sink keeps no statements")
            behind = await self._started()
            behind.trades(len(INSTRUMENTS))
            said = behind.interrupted()
            behind.trades(len(INSTRUMENTS))
            await behind.finish(self.patience)
            fields = await self._all_held(behind, exactly=True)
            place = [(one["type"], one.get("state"), one.get("id")) for one in fields if one["inst"] == said[-1].inst]
            wanted = [(one.type, getattr(one, "state", None), getattr(one, "id", None)) for one in said]
            assert place[1 : 1 + len(wanted)] == wanted

        self._run(tmp_path, scenario)

    def test_it_may_be_opened_again_after_it_was_closed(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            sink = self.sink()
            for _ in range(3):
                await sink.open()
                await sink.close()
            first = await self._started(sink)
            first.trades(10)
            await first.finish(self.patience)
            second = await self._started(sink, first=first.number)
            second.trades(10)
            await second.finish(self.patience)
            await self._all_held(first, second, exactly=True)

        self._run(tmp_path, scenario)

    def test_a_restart_without_a_fault_neither_loses_nor_doubles_anything(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            runs: list[Behind] = []
            for _ in range(3):
                behind = await self._started(first=runs[-1].number if runs else 1)
                behind.trades(100)
                await behind.finish(self.patience)
                runs.append(behind)
            fields = await self._all_held(*runs, exactly=True)
            if isinstance(self.sink(), Remembering) and self.statements:
                for inst in INSTRUMENTS:
                    numbers = [behind.numbers(inst) for behind in runs]
                    between = [(before[-1], after[0]) for before, after in pairwise(numbers)]
                    assert gaps_of(fields, "trades", inst) == between, "what may be missing in between is said"

        self._run(tmp_path, scenario)

    def test_what_was_accepted_is_held_after_a_restart_in_the_middle(self, tmp_path: Path) -> None:
        """By way of a spool; the sink is stopped while it writes."""

        async def scenario() -> None:
            spooled: dict[str, Any] = {
                "when_full": "spill", "spool": self.folder / "spool", "spool_always": True, "batch_records": _BATCH,
            }  # fmt: skip
            stopping = Stopping(self.sink(), at=5)
            first = await self._started(stopping, **spooled)
            first.trades(self.many)
            await self._until(stopping.stopped.is_set)
            await first.abandon()
            second = await self._started(first=first.number, **spooled)
            second.trades(100)
            await second.finish(self.patience)
            fields = await self._all_held(first, second)
            numbers = [one["id"] for one in fields if one["type"] == "trade"]
            twice = len(numbers) - len(set(numbers))
            assert twice == 0 if self.once else twice <= _BATCH, "no more than what was not acknowledged comes twice"

        self._run(tmp_path, scenario)

    def test_a_store_that_is_down_at_the_start_is_waited_for(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            await self.take_down()
            behind = await self._started(on_start="retry")
            behind.trades(50)
            await self._until(lambda: behind.state.retries >= 3)
            assert behind.state.written == 0
            await self.bring_up()
            await self._until(lambda: behind.state.written == 50)
            await behind.finish(self.patience)
            await self._all_held(behind)

        self._run(tmp_path, scenario)

    def test_a_sink_that_was_never_open_can_be_closed(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            await self.take_down()
            sink = self.sink()
            with suppress(SinkError, OSError):
                await sink.open()
            await sink.close()
            await sink.close()
            await self.bring_up()
            behind = await self._started(sink)
            behind.trades(5)
            await behind.finish(self.patience)
            await self._all_held(behind)

        self._run(tmp_path, scenario)

    def test_a_store_that_goes_away_and_comes_back_has_everything(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            behind = await self._started(batch_records=20)
            for turn in range(1, 4):
                behind.trades(self.many // 4)
                await self._until(lambda turn=turn: behind.state.written >= turn * self.many // 8)  # type: ignore[misc]
                await self.take_down()
                behind.trades(self.many // 4)
                retries = behind.state.retries
                await self._until(lambda retries=retries: behind.state.retries > retries + 1)  # type: ignore[misc]
                assert behind.state.state == "recovering"
                await self.bring_up()
                await self._until(lambda: behind.state.state == "ok" and not behind.state.waiting)
            await behind.finish(self.patience)
            await self._all_held(behind)
            assert behind.state.lost == 0

        self._run(tmp_path, scenario)

    def test_a_store_that_stalls_gets_everything_once_it_goes_on(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            behind = await self._started()
            behind.trades(10)
            await self._until(lambda: behind.state.written == 10)
            await self.freeze()
            behind.trades(2 * self.many)
            await self._until(lambda: behind.state.waiting > 0)
            await self.thaw()
            await behind.finish(self.patience)
            await self._all_held(behind)

        self._run(tmp_path, scenario)

    def test_what_a_store_had_no_time_for_is_declared_in_it(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            behind = await self._started(bytes=_SMALL, batch_records=10)
            behind.trades(30)
            await self._until(lambda: behind.state.written == 30)
            await self.freeze()
            while behind.state.dropped < self.many:
                behind.trades(50)
                await asyncio.sleep(0)
                assert behind.state.bytes <= 2 * _SMALL
            await self.thaw()
            await self._until(lambda: not behind.state.waiting)
            behind.trades(30)
            await behind.finish(self.patience)
            await self._all_held_or_declared(behind)

        self._run(tmp_path, scenario)

    def test_a_dead_store_does_not_hold_up_the_end(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            behind = await self._started()
            await self.freeze()
            behind.trades(5 * self.many)
            with suppress(TimeoutError):
                await behind.finish(0.2)
            assert behind.pump.closed

        self._run(tmp_path, scenario)

    def test_what_can_never_be_held_is_set_aside_and_the_rest_is_held(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            letters = self.folder / "letters"
            poison = self.poison()
            behind = await self._started(dead_letters=letters)
            behind.trades(20)
            behind.put(poison)
            behind.given.pop()
            behind.trades(20)
            await behind.finish(self.patience)
            fields = await self._all_held(behind)
            state = behind.state
            assert (state.rejected, state.dead_letters, state.lost, state.state) == (1, 1, 0, "ok")
            assert letters.read_bytes().count(b"\n") == 1
            said = [one["reason"] for one in fields if one["type"] == "gap" and one["inst"] == poison.inst]
            assert not self.statements or "sink" in said

        self._run(tmp_path, scenario)

    def test_what_can_never_be_held_is_a_gap_where_there_is_no_file_for_it(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            poison = self.poison()
            behind = await self._started()
            behind.trades(20)
            behind.put(poison)
            behind.given.pop()
            behind.trades(20)
            await behind.finish(self.patience)
            fields = await self._all_held(behind)
            assert (behind.state.rejected, behind.state.lost) == (1, 1)
            said = [one["reason"] for one in fields if one["type"] == "gap" and one["inst"] == poison.inst]
            assert not self.statements or "sink" in said

        self._run(tmp_path, scenario)

    # -- how

    def _run(self, folder: Path, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            self._behind: list[Behind] = []
            await self.begin()
            try:
                async with asyncio.timeout(6 * self.patience):
                    await scenario()
            finally:
                for behind in self._behind:
                    await behind.abandon()
                await self.end()

        self.folder = folder / "store"
        self.folder.mkdir()
        asyncio.run(whole())

    async def _started(self, sink: Sink | None = None, *, first: int = 1, **options: Any) -> Behind:
        behind = Behind(sink or self.sink(), f"run{len(self._behind)}", first, **options)
        self._behind.append(behind)
        await behind.start()
        return behind

    async def _until(self, true: Callable[[], bool]) -> None:
        """Wait until it is true; fail when that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        while not true():
            assert loop.time() < deadline, "it did not come to that"
            for behind in self._behind:
                assert behind.pump.failure is None, f"the sink failed: {behind.pump.failure!r}"
            await asyncio.sleep(_LOOK_EVERY)

    async def _fields(self) -> list[Fields]:
        return [orjson.loads(line) for line in await self.held()]

    async def _all_held(self, *runs: Behind, exactly: bool = False) -> list[Fields]:
        """
        Everything given is held, each subscription in order; twice only where that may be.

        Args:
            exactly: there was no fault, so that nothing may be held twice.
        """
        lines = [line.rstrip(b"\n") for line in await self.held()]
        for behind in runs:
            failure = behind.pump.failure
            assert failure is None, f"the sink failed: {failure!r}"
        wanted = [encode(record).rstrip(b"\n") for behind in runs for record in behind.given]
        if self.verbatim:
            missing = set(wanted) - set(lines)
            assert not missing, f"{len(missing)} of {len(wanted)} lines are not held, the first: {min(missing)[:200]!r}"
        fields = [orjson.loads(line) for line in lines]
        for inst in INSTRUMENTS:
            given = [number for behind in runs for number in behind.numbers(inst)]
            self._in_order(fields, inst, given, doubled=not (exactly or self.once))
        if exactly and self.verbatim:
            ours = [one for one in fields if one["type"] != "gap" or one["reason"] != "start"]
            assert len(ours) == len(wanted), f"{len(ours)} lines are held, of {len(wanted)} that were given"
        return fields

    def _in_order(self, fields: Sequence[Fields], inst: str, given: list[int], *, doubled: bool) -> None:
        numbers = [int(one["id"]) for one in fields if one["type"] == "trade" and one["inst"] == inst]
        firsts = list(dict.fromkeys(numbers))
        assert firsts == given, f"{inst}: {len(firsts)} of {len(given)} trades are held, or not in order"
        assert doubled or len(numbers) == len(firsts), f"{inst}: {len(numbers) - len(firsts)} trades are held twice"

    async def _all_held_or_declared(self, behind: Behind) -> None:
        """What is not held lies within a gap that is."""
        fields = await self._fields()
        for inst in INSTRUMENTS:
            held = {int(one["id"]) for one in fields if one["type"] == "trade" and one["inst"] == inst}
            given = behind.numbers(inst)
            gaps = gaps_of(fields, "trades", inst)
            assert held <= set(given), "something was invented"
            assert given[-1] in held
            missing = [one for one in given if one not in held]
            assert missing
            if self.statements:
                stray = [one for one in missing if not any(a < one and (u is None or one < u) for a, u in gaps)]
                assert not stray, f"{inst}: {len(stray)} of {len(missing)} that are missing are not declared"

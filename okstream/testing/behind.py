"""One sink behind a real lane, with trades to give it."""

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from okstream.channels import Subscription
from okstream.dialects import load
from okstream.entries import Entry
from okstream.fanout.pump import Pump
from okstream.fanout.surroundings import Surroundings
from okstream.feed.continuity import Continuity, Delivery
from okstream.options import LaneOptions
from okstream.records import AnyRecord, DataRecord, Gap, Native, Statement, Trade
from okstream.sinks import Sink
from okstream.statements import Statements
from okstream.states import SinkState

VENUE = "okx"
INSTRUMENTS = ("AAA-USDT", "BBB-USDT", "CCC-USDT-SWAP")

_TRAITS = "okx-v5"
_WEIGHT = 600
_RETRY = {"retry_first": 0.02, "retry_most": 0.2}


class Behind:
    """
    A sink, the lane in front of it, and the task that empties the one into the other.

    Trades of INSTRUMENTS are numbered from `first` on, in turn. `given` is all that was put into the lane, in order.

    Args:
        instance: what tells its gaps from those of others.
        options: see LaneOptions.
    """

    def __init__(self, sink: Sink, instance: str, first: int = 1, **options: Any) -> None:
        self.given: list[AnyRecord] = []
        self.number = first
        self._statements = Statements(instance)
        around = Surroundings(self._statements, time.time_ns, random.Random(1))
        self.pump = Pump(sink, LaneOptions(**{**_RETRY, **options}), "contract", around)
        self._feeds: dict[tuple[str, str | None], Continuity] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> SinkState:
        return self.pump.state

    def numbers(self, inst: str) -> list[int]:
        """Return the trades of `inst` that were given."""
        return [int(one.id) for one in self.given if isinstance(one, Trade) and one.inst == inst]

    async def start(self) -> None:
        """
        Open the sink, or have it tried, as the options say.

        Raises:
            SinkError: it cannot be opened.
        """
        await self.pump.start()
        self._task = asyncio.create_task(self.pump.run(), name="okstream contract")

    def trades(self, count: int) -> list[DataRecord]:
        """Put so many trades into the lane, each as it comes, and return them."""
        made: list[DataRecord] = [self._trade() for _ in range(count)]
        for trade in made:
            self.put(trade)
        return made

    def interrupted(self) -> list[AnyRecord]:
        """Put a gap that opens and closes, a status, and the trade that follows on them into the lane; return them."""
        trade = self._trade()
        feed = self._feed(trade.channel, trade.inst)
        opened, closed = feed.overflow(feed.last, trade, trade.recv)
        said = [opened, feed.status("live", trade.recv), closed]
        self.put(trade, said)
        return [*said, trade]

    def native(self, data: Any) -> Native:
        """Put a record with anything in it into the lane, and return it."""
        record = Native(VENUE, "anything", INSTRUMENTS[0], None, None, time.time_ns(), data)
        self.put(record)
        return record

    def put(self, record: DataRecord, statements: Sequence[Statement] = ()) -> None:
        """Put one record into the lane, after `statements`."""
        self.given += [*statements, record]
        feed = self._feed(record.channel, record.inst)
        feed.last = record
        self.pump.lane.put([Delivery(feed, list(statements), [record], weight=_WEIGHT, recv=record.recv)])

    async def finish(self, within: float) -> None:
        """
        Let the sink write what waits, and close it.

        Raises:
            TimeoutError: it did not within so many seconds.
        """
        self.pump.finish()
        assert self._task is not None
        try:
            async with asyncio.timeout(within):
                await asyncio.shield(self._task)
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Stop in the middle of whatever it does, and close the sink: what waits in memory is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.pump.close()

    def _trade(self) -> Trade:
        number = self.number
        self.number += 1
        inst = INSTRUMENTS[number % len(INSTRUMENTS)]
        return Trade(VENUE, "trades", inst, 1_786_613_174_000 + number, time.time_ns(), str(number), "63707.30",
                     "0.00164251", "buy", 1)  # fmt: skip

    def _feed(self, channel: str, inst: str | None) -> Continuity:
        feed = self._feeds.get((channel, inst))
        if feed is None:
            sub = Subscription("trades" if channel == "anything" else channel, inst)
            traits = load(_TRAITS).traits(sub)
            sub = Subscription(channel, inst)
            feed = self._feeds[channel, inst] = Continuity(sub, VENUE, traits, self._statements, keeps=False)
            feed.state = "live"
        return feed


class Stopping:
    """Passes on to `sink`; batch number `at` is written, but whoever wrote it never hears so."""

    def __init__(self, sink: Sink, at: int) -> None:
        self.threaded = getattr(sink, "threaded", False)
        self.stopped = threading.Event()
        self._sink = sink
        self._left = at

    async def open(self) -> None:
        await self._sink.open()

    async def write(self, batch: Sequence[Entry]) -> None:
        await self._sink.write(batch)
        self._left -= 1
        if not self._left:
            self.stopped.set()
            await asyncio.Event().wait()

    async def close(self) -> None:
        await self._sink.close()


def gaps_of(fields: Sequence[dict[str, Any]], channel: str, inst: str | None) -> list[tuple[int, int | None]]:
    """Return the numbers between which trades may be missing, by what `fields` of lines say: after, until."""
    found: dict[str, tuple[int, int | None]] = {}
    for one in fields:
        if one["type"] == Gap.__name__.lower() and (one["channel"], one["inst"]) == (channel, inst):
            until = None if one["until"] is None else int(one["until"])
            found[one["gap"]] = (int(one["after"] or 0), until)
    return list(found.values())

"""A book in a store that cannot hold some of its changes is right, or inside a gap."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from core.exchange import RECV, feed, push
from test_pump import BOOK, Scripted, pump
from test_pump_spool import until

from okstream.entries import Entry
from okstream.errors import RejectedError
from okstream.feed import Feed

CHANGES = 300

Asks = dict[str, str]


class Particular(Scripted):
    """Can never hold changes of some numbers."""

    def __init__(self, poison: set[int]) -> None:
        super().__init__()
        self.poison = poison

    async def write(self, batch: Sequence[Entry]) -> None:
        bad = [at for at, entry in enumerate(batch) if entry.fields.get("prev") in self.poison]
        self.script = [RejectedError("poison", dict.fromkeys(bad, "too long"))] if bad else []
        await super().write(batch)


def change(number: int, chance: random.Random) -> dict[str, Any]:
    rows = [[str(chance.randint(1, 9)), str(chance.randint(0, 3)), "0", "1"]]
    action = "update" if number > 1 else "snapshot"
    prev = number - 1 if number > 1 else -1
    row = {"asks": rows, "bids": [], "ts": str(number), "checksum": 0, "prevSeqId": prev, "seqId": number}
    return push(BOOK, row, action=action)


def applied(asks: Asks, rows: Sequence[Sequence[str]]) -> Asks:
    return {price: size for price, size in {**asks, **{row[0]: row[1] for row in rows}}.items() if size != "0"}


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("by_disk", [True, False])
@pytest.mark.parametrize("many", [1, 4])
def test_a_book_of_which_changes_cannot_be_held_is_right_outside_its_gaps(
    tmp_path: Path, in_file: bool, by_disk: bool, many: int
):
    chance = random.Random(many)
    poison = set(chance.sample(range(1, CHANGES - 30), 12))
    truth: dict[int, Asks] = {}
    options: dict[str, Any] = {"dead_letters": tmp_path / "dead"} if in_file else {}
    if by_disk:
        options |= {"spool": tmp_path / "spool", "spool_always": True}

    async def scenario() -> Particular:
        sink = Particular(poison)
        one = pump(sink, batch_records=many, **options)
        kept = feed(BOOK)
        source = Feed(kept.sub, "okx", kept._dialect, kept._statements, keeps=True).source()
        source.ask()
        source.acknowledge(RECV)
        await one.start()
        running = asyncio.create_task(one.run())
        asks: Asks = {}
        for number in range(1, CHANGES + 1):
            message = change(number, chance)
            asks = applied(asks, message["data"][0]["asks"])
            truth[number] = asks
            one.lane.put(source.push(message, RECV))
            if chance.random() < 0.3:
                await until(lambda: not one.lane.waiting and not one.state.spooled and not one._batches.under_way)
        one.finish()
        await running
        await one.close()
        letters = (tmp_path / "dead").read_bytes().count(b"\n") if in_file else 0
        assert one.state.rejected > 3
        assert one.state.dead_letters == letters == (one.state.rejected if in_file else 0)
        return sink

    sink = asyncio.run(scenario())
    gaps = [line for line in sink.lines if line["type"] == "gap"]
    assert {gap["reason"] for gap in gaps} == {"sink"}
    assert [gap["state"] for gap in gaps] == ["open", "closed"] * (len(gaps) // 2)
    holes = [(gap["after"], gap["until"]) for gap in gaps if gap["state"] == "closed"]
    asks: Asks = {}
    seen = 0
    for line in sink.lines:
        if line["type"] != "book":
            continue
        seq = line["seq"]
        assert all(any(low < lost < high for low, high in holes) for lost in range(seen + 1, seq))
        asks = applied({} if line["action"] == "snapshot" else asks, line["asks"])
        if not any(low < seq < high for low, high in holes):
            assert asks == truth[seq]
        seen = seq
    assert seen == CHANGES

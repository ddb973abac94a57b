"""
The file sink beside a bare loop of `orjson.dumps` and buffered writes. `python -m benchmarks.files`.

All get the same records of 40 instruments and write the same lines. The loop is given records, and once more the same
as dicts; the sink gets what a lane makes: lines, entries, batches of 10,000; that is part of its figure. It also syncs
each batch to the disk, takes sums, and knows the last record of each subscription. They take turns. Ratios are of
processor time, as disks differ.
"""

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from okstream.encoding import encode
from okstream.entries import Entry
from okstream.records import AnyRecord, Book, Ticker, Trade
from okstream.sinks.file import File

AIM = 0.6
"""Of the loop's records in the same processor time, for one plain file."""

RECORDS = 200_000
ROUNDS = 5

_NS = 1_780_000_000_000_000_000
_NAMES = [f"I{number:02}-USDT" for number in range(40)]
_BARE, _AIMED = "bare loop", "one plain file"
_LAYOUTS = {
    _AIMED: "all.jsonl",
    "plain by day": "{date}.jsonl",
    "zstd by day": "{date}.jsonl.zst",
    "zstd, 40 files": "{inst}.jsonl.zst",
    "zstd, 120 files, 16 open": "{channel}/{inst}.jsonl.zst",
}


def made(count: int) -> list[AnyRecord]:
    """Return so many records: a ticker, three trades and four changes of books in turn."""
    records: list[AnyRecord] = []
    chance = random.Random(7)
    for number in range(count):
        inst, ts, recv = _NAMES[number * 7 % len(_NAMES)], 1_780_000_000_000 + number, _NS + number * 100_000
        price, size = f"{71250 + chance.randrange(99) / 10}", f"0.{chance.randrange(10**8):08}"
        if (turn := number % 8) == 0:
            records.append(Ticker("okx", "ticker", inst, ts, recv, price, size, price, size, price, size,
                                  "70100", "71999.9", "69850.5", "3260.01", "231000456.1", None, None))  # fmt: skip
        elif turn < 4:
            side = "buy" if number % 3 else "sell"
            records.append(
                Trade("okx", "trades", inst, ts, recv, str(801234567 + number), price, size, side, 1, "0", number)
            )
        else:
            rows = [[price, size, "0", str(number % 9)], ["71249.9", "0.1", "0", "1"]]
            records.append(Book("okx", "book", inst, ts, recv, "update", rows, rows[:1], number, number - 1, 0))
    return records


def bare(path: Path, records: Sequence[Any]) -> None:
    """Write lines as a script would."""
    with path.open("wb") as file:
        for record in records:
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def sunk(path: str, records: Sequence[AnyRecord], **options: Any) -> None:
    """Write lines as a lane has them written."""

    async def write() -> None:
        sink = File(path=path, **options)
        await sink.open()
        size = sink.batch_records
        for start in range(0, len(records), size):
            await sink.write([Entry(encode(record), record) for record in records[start : start + size]])
        await sink.close()

    asyncio.run(write())


def costs(records: Sequence[AnyRecord], folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return µs a record of processor time and of time of each way, by rounds."""
    shown = [orjson.loads(encode(record)) for record in records]
    ways: dict[str, Callable[[Path], None]] = {
        _BARE: lambda place: bare(place / "bare.jsonl", records),
        "bare loop, given dicts": lambda place: bare(place / "bare.jsonl", shown),
    }
    for name, path in _LAYOUTS.items():
        options = {"open_files": 16} if "16" in name else {}
        ways[name] = lambda place, path=path, options=options: sunk(f"{place}/{path}", records, **options)  # type: ignore[misc]
    gc.collect()
    gc.freeze()  # what is only here to be written is not to be looked through again and again
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, way in ways.items():
            place = folder / _called(turn, name)
            place.mkdir()
            began, spent = time.perf_counter(), time.process_time()
            way(place)
            spent, took = time.process_time() - spent, time.perf_counter() - began
            found[name].append((spent * 1e6 / len(records), took * 1e6 / len(records)))
    return found


def report(count: int = RECORDS, rounds: int = ROUNDS) -> None:
    """Measure, and print."""
    records = made(count)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        found = costs(records, Path(folder), rounds)
        places = {name: Path(folder, _called(0, name)) for name in found}
        sizes = {
            name: sum(file.stat().st_size for file in place.rglob("*") if file.suffix in {".jsonl", ".zst"})
            for name, place in places.items()
        }
    print(f"\nthe file sink, {count} records of {len(_NAMES)} instruments, medians of {rounds} rounds")
    print(f"  {'':<26}{'records/s':>12}{'CPU µs/record':>15}{'ratio':>7}{'bytes/record':>14}{'aim':>7}")
    for name, these in found.items():
        ratio = median(other / one for (one, _), (other, _) in zip(these, found[_BARE], strict=True))
        verdict = f"{AIM:>6.1f}x {'met' if ratio >= AIM else 'missed'}" if name == _AIMED else ""
        rate, cost = 1e6 / median(took for _, took in these), median(spent for spent, _ in these)
        print(f"  {name:<26}{rate:>12,.0f}{cost:>15.2f}{ratio:>6.2f}x{sizes[name] / count:>14.0f}{verdict}", flush=True)


def _called(turn: int, name: str) -> str:
    return f"{turn}-{name.replace(' ', '-')}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    report(given.records, given.rounds)

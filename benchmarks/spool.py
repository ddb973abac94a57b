"""
The spool beside a bare loop: the same payloads to the disk and back, flushed as often. `python -m benchmarks.spool`

The bare loop writes length and payload, and reads them back; it has no checksums, no bound, no position, and could not
say after a crash what it held.
"""

import asyncio
import os
import struct
import tempfile
import time
from pathlib import Path
from statistics import median

from okstream.encoding import encode
from okstream.entries import Entry
from okstream.records import Trade
from okstream.spool import Spool
from okstream.spool.proofs import mark

RECORDS = 200_000
BATCH = 500
"""Records that are flushed to the disk, and read back, at once."""

_LENGTH = struct.Struct("<I")
_ALL = 1 << 40


def payloads(records: int) -> list[bytes]:
    """Return trades of a hundred instruments, as a lane gives them to a spool."""
    made = []
    for number in range(records):
        inst = f"SIM{number % 100:03d}-USDT"
        trade = Trade("okx", "trades", inst, 1_786_613_174_000 + number, 1_786_613_174_901_234_567 + number,
                      str(744_876_980 + number), "63707.3", "0.00164251", "buy", 1, None, None)  # fmt: skip
        made.append(Entry(encode(trade), trade).pack())
    return made


def bare(folder: Path, made: list[bytes]) -> tuple[float, float]:
    """Return the seconds that a bare loop takes, to write and to read back."""
    path = folder / "bare"
    began = time.perf_counter()
    with path.open("wb") as file:
        for begin in range(0, len(made), BATCH):
            for payload in made[begin : begin + BATCH]:
                file.write(_LENGTH.pack(len(payload)))
                file.write(payload)
            file.flush()
            os.fdatasync(file.fileno())
    written = time.perf_counter()
    count = 0
    with path.open("rb") as file:
        while head := file.read(_LENGTH.size):
            file.read(_LENGTH.unpack(head)[0])
            count += 1
    assert count == len(made)
    return written - began, time.perf_counter() - written


async def spooled(folder: Path, made: list[bytes]) -> tuple[float, float]:
    """Return the seconds that a spool takes, to append and to drain."""
    spool = Spool(folder / "spool", limit=_ALL, mark=mark)
    await spool.open()
    began = time.perf_counter()
    for begin in range(0, len(made), BATCH):
        await spool.append(made[begin : begin + BATCH])
    written = time.perf_counter()
    count = 0
    while items := await spool.read(BATCH, _ALL):
        await spool.ack(len(items))
        count += len(items)
    drained = time.perf_counter()
    assert count == len(made)
    await spool.close()
    return written - began, drained - written


def report(records: int = RECORDS, rounds: int = 3, folder: Path | None = None) -> None:
    """Print how fast both are, medians of `rounds`; `folder` is on the disk that matters."""
    made = payloads(records)
    plain, ours = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            plain.append(bare(Path(name), made))
            ours.append(asyncio.run(spooled(Path(name), made)))
    size = sum(map(len, made)) / len(made)
    print(f"\nspool, {records} payloads of {size:.0f} bytes, {BATCH} a flush, medians of {rounds} rounds")
    print(f"  {'':<8}{'records/s':>12}{'bare loop':>12}{'ratio':>7}")
    for place, what in enumerate(("append", "drain")):
        ratio = median(one[place] / other[place] for one, other in zip(plain, ours, strict=True))
        rate, other = (records / median(run[place] for run in runs) for runs in (ours, plain))
        print(f"  {what:<8}{rate:>12,.0f}{other:>12,.0f}{ratio:>6.2f}x", flush=True)


if __name__ == "__main__":
    report()

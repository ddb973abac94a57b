"""
500 books, all broken at once: what it takes to have them all live again. `python -m benchmarks.heal`.

The simulated exchange and okstream in one process and in virtual time, with the exchange's own limits: a link may make
480 requests an hour, so that healing one book at a time would spend in a minute what has to last an hour.
"""

import argparse
import asyncio
import logging
import time
from dataclasses import dataclass

from okstream import Stream
from okstream.records import Gap, Status
from okstream.simulator import Settings, Simulator
from okstream.testing import run, wall_ns

BOOKS = 500
AIM = 4
"""Requests a link, at most."""

_RATE = 3.0
_STEP = 0.25
_PATIENCE = 600.0


@dataclass(slots=True)
class Healed:
    """What it took: `requests` of each link, and `seconds` (virtual) from the fault to the last book."""

    books: int
    requests: list[int]
    seconds: float
    gaps: int

    @property
    def links(self) -> int:
        return len(self.requests)

    @property
    def most(self) -> int:
        """Requests of the link that made most."""
        return max(self.requests)


async def scenario(books: int = BOOKS) -> Healed:
    """
    Break every book once, and wait until all are live again.

    Raises:
        TimeoutError: they were not, within ten minutes.
    """
    loop = asyncio.get_running_loop()
    settings = Settings(generated=books, rate=_RATE, step=_STEP, connects_per_second=None)
    async with (
        Simulator("okx-v5", settings) as exchange,
        Stream(url=exchange.urls["public"], wall_ns=wall_ns) as stream,
        asyncio.timeout(_PATIENCE),
    ):
        await stream.subscribe("book", *[f"SIM{number:03d}-USDT" for number in range(books)])
        await _all_live(stream, books)
        links, began = list(exchange.connections), loop.time()
        before = [link.received for link in links]
        exchange.inject("break-books")
        gaps = await _all_live(stream, books, broken=True)
        requests = [link.received - earlier for link, earlier in zip(links, before, strict=True)]
        return Healed(books, requests, loop.time() - began, gaps)


async def _all_live(stream: Stream, books: int, broken: bool = False) -> int:
    """Read until so many books are live, after a gap where they were `broken`; return how many gaps there were."""
    live: set[str | None] = set()
    healed: set[str | None] = set()
    gaps = 0
    async for record in stream:
        if isinstance(record, Gap) and record.state == "closed":
            gaps += 1
            healed.add(record.inst)
        elif isinstance(record, Status) and record.inst is not None:
            (live.add if record.state == "live" else live.discard)(record.inst)
        if len(live) == books and (not broken or len(healed) == books):
            break
    return gaps


def report(books: int = BOOKS) -> None:
    """Print what it took."""
    logging.getLogger("okstream").setLevel(logging.ERROR)  # each gap would be a line
    began = time.perf_counter()
    healed = run(lambda: scenario(books))
    verdict = "met" if healed.most <= AIM else "missed"
    took = time.perf_counter() - began
    print(f"\n{healed.books} books broken at once, all live again after {healed.seconds:.1f} s of the exchange's time")
    print(f"  links {healed.links}, gaps {healed.gaps}, requests {sum(healed.requests)} in {took:.0f} s of ours")
    print(f"  requests of one link at most {healed.most}, aim: {AIM}, {verdict}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--books", type=int, default=BOOKS)
    report(parser.parse_args().books)

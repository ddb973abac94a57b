"""
okstream beside a plain script: `make bench`, or `python -m benchmarks --quick`.

A sender in one process, a client in another, both on loopback and each on a core of its own where there are two. The
clients take turns: the plain script (websockets, zlib, json; one line out for each message, no checks), then okstream
as its user runs it, `okstream stream ... --format json` and `raw`. A client that does not write every line it should
makes the run void. Only ratios mean anything on another machine.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from statistics import median

from . import book, files, frozen, heal, lanes, nats, replay, spool
from .measure import CLIENTS, Blaster, Run, Void, memory, speed
from .wires import WIRES

AIMS = {
    ("v5", "json"): 2.0,
    ("v5-summed", "json"): 1.8,
    ("v3", "json"): 1.7,
    ("v5", "raw"): 5.0,
    ("v3", "raw"): 3.0,
}
"""How many times less processor time than the plain script."""

CHECKED = {
    "v5": "the sequence of each book is checked",
    "v5-summed": "the sequence of each book, its levels and their checksum are checked",
    "v3": "the levels of each book and their checksum are checked; inflated",
}
"""What okstream does to a wire's messages beyond what the plain script does, where it parses them."""

_CEILING = 60.0
_FLAT = 1.1
_MIB = 1 << 20


def main() -> int:
    """Measure, print; return 0, or 1 if the run is void or a client failed."""
    options = _options()
    began = time.monotonic()
    chosen = [options.only] if options.only else list(WIRES)
    try:
        plain = [_speeds(generation, options.rounds, options.messages) for generation in chosen]
        book.report(plain[0])
        lanes.report(plain[0] if chosen[0] == "v5" else None)
        frozen.report()
        heal.report()
        files.report(rounds=2 if options.quick else files.ROUNDS)
        spool.report(rounds=1 if options.quick else 3)
        nats.report(rounds=1 if options.quick else nats.ROUNDS)
        replay.report(rounds=1 if options.quick else 3, messages=options.messages)
        _memory(chosen[0], options.flow)
    except Void as error:
        print(f"void: {error}", file=sys.stderr)
        return 1
    print(f"\n{time.monotonic() - began:.0f} s in all")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, help="turns of each client (default: 5)")
    parser.add_argument("--messages", type=int, help="messages a turn (default: 100000)")
    parser.add_argument("--only", choices=WIRES, help="one generation only")
    parser.add_argument("--quick", action="store_true", help="a rough look: 2 rounds of 20000, memory over 200000")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.messages = options.messages or (20_000 if options.quick else 100_000)
    options.flow = 200_000 if options.quick else 1_000_000
    return options


def _speeds(generation: str, rounds: int, messages: int) -> float:
    """Measure and print one generation; return what the plain script takes, in µs a message."""
    # Raw text is the same with checksums and without.
    clients = [client for client in CLIENTS if client == "plain" or (generation, client) in AIMS]
    runs: dict[str, list[Run]] = {client: [] for client in clients}
    with Blaster(generation, messages) as blaster:
        for _ in range(rounds):
            for client in clients:
                run = speed(blaster, client)
                if run.lost:
                    raise Void(f"{client} of {generation} lacks {run.lost} of {messages} lines")
                runs[client].append(run)
    print(f"\n{generation}, {messages} messages, medians of {rounds} rounds; no line lost")
    print(f"  okstream json: {CHECKED[generation]}")
    print(f"  {'client':<16}{'messages/s':>12}{'ratio':>7}{'CPU µs/message':>16}{'ratio':>7}{'aim':>7}")
    plain = runs["plain"]
    for client, those in runs.items():
        faster = _ratio([(run.rate, other.rate) for run, other in zip(those, plain, strict=True)])
        cheaper = _ratio([(other.cost, run.cost) for run, other in zip(those, plain, strict=True)])
        aim = AIMS.get((generation, client))
        verdict = "" if aim is None else f"{aim:>6.1f}x {'met' if cheaper >= aim else 'missed'}"
        name = "plain script" if client == "plain" else f"okstream {client}"
        rate, cost = median(run.rate for run in those), median(run.cost for run in those)
        print(f"  {name:<16}{rate:>12,.0f}{faster:>6.1f}x{cost:>16.1f}{cheaper:>6.1f}x{verdict}", flush=True)
    return median(run.cost for run in plain)


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median of the ratios within each round, which noise hits less than the figures."""
    return median(one / other for one, other in pairs)


def _memory(generation: str, messages: int) -> None:
    with Blaster(generation, messages) as blaster:
        run = memory(blaster, "json")
    if run.lost:
        raise Void(f"okstream json of {generation} lacks {run.lost} of {messages} lines")
    idle, *busy = [size / _MIB for size in run.resident]
    # The first tenth fills buffers; what grows after that is a leak.
    first, middle, last = busy[len(busy) // 10], busy[len(busy) // 2], busy[-1]
    flat = "flat" if last <= first * _FLAT else "growing"
    verdict = "met" if max(busy) < _CEILING and flat == "flat" else "missed"
    print(
        f"\nmemory of okstream json, {generation}, {messages} messages at {run.rate:,.0f}/s into `wc -l`; no line lost"
    )
    print(f"  MiB: idle {idle:.0f}, first {first:.0f}, middle {middle:.0f}, last {last:.0f}, most {max(busy):.0f}")
    print(f"  aim: under {_CEILING:.0f} and flat: {flat}, {verdict}")


if __name__ == "__main__":
    sys.exit(main())

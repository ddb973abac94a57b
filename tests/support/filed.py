"""Records for files, and what a crash is."""

import os
from pathlib import Path

import orjson

from okstream.encoding import encode
from okstream.entries import Entry
from okstream.files.names import MANIFEST, PART
from okstream.files.reading import Lines
from okstream.records import Gap, Order, Status, Ticker, Trade

START = 1_786_665_600_000_000_000
"""2026-08-14T00:00:00Z, ns."""
SECOND = 1_000_000_000
DAY = 86_400 * SECOND


def of(record):
    return Entry(encode(record), record)


def trade(number, inst="BTC-USDT", at=None):
    recv = START + number * 1_000_000 if at is None else at
    return of(Trade("okx", "trades", inst, recv // 1_000_000, recv, str(number), "71250.10", "0.1", "buy", 1))


def ticker(number, inst="BTC-USDT", at=None):
    recv = START + number * 1_000_000 if at is None else at
    return of(Ticker("okx", "ticker", inst, recv // 1_000_000, recv, str(number), *[None] * 12))


def order(number, inst, account="main"):
    recv = START + number * 1_000_000
    return of(Order("okx", "orders", inst, account, recv // 1_000_000, recv, str(number), *[None] * 16, {}))


def gap(name, state, at, inst="BTC-USDT", channel="trades", account=None, reason="disconnected", **more):
    values = {"after": None, "after_ts": None, "until": None, "until_ts": None, "lost": None} | more
    return of(Gap("okx", channel, inst, account, None, at, name, state, reason, **values))


def status(state, at, channel=None, inst=None):
    return of(Status("okx", channel, inst, None, None, at, state, None))


def lines(path):
    """Return the lines of one file, which has to be whole."""
    with open(path, "rb") as file:
        read = Lines(file)
        found = list(read)
    assert read.damage is None, (path, read.damage)
    return found


def records(path):
    return [orjson.loads(line) for line in lines(path)]


def finished(folder):
    """Return the finished segments below `folder`, in order."""
    names = sorted(path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return [path for path in names if not path.name.endswith((MANIFEST, PART))]


def unfinished(folder):
    return sorted(Path(folder).rglob(f"*{PART}"))


def manifest(path):
    return orjson.loads(path.with_name(path.name + MANIFEST).read_bytes())


def held(folder):
    """Return the lines of all segments below `folder`, in the order of their names."""
    return [line for path in finished(folder) for line in lines(path)]


def crash(folder):
    """Close every descriptor of a file below `folder`, as the end of a process does, and nothing else."""
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(f"{folder}/"):
            os.close(int(name))

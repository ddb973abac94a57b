"""The nats sink while servers die, freeze and forget: everything is stored once, in order, and never counted early."""

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop
from nats_server import BINARY, Deliverer, NatsServer, Wire, api, nats_server, once_each_in_order, stored, trades, until
from test_spool import mountable

from okstream.errors import ReopenError, RetryError
from okstream.sinks.nats import Nats


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "nats") as running:
        yield running


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_server_killed_under_load_and_restarted_has_everything_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, loop: Callable[[], asyncio.AbstractEventLoop]
):
    """Three kills with SIGKILL, at whatever moment; the stream is on disk."""

    async def scenario(server: NatsServer) -> None:
        sink = Nats(servers=server.url, ack_timeout=1.0)
        await sink.open()
        deliverer = Deliverer(sink)
        entries = trades(12_000)
        load = asyncio.create_task(deliverer.deliver(entries))
        for enough in (2_000, 5_000, 8_000):
            await until(lambda enough=enough: sink.stored >= enough)  # type: ignore[misc]
            server.kill()
            failures = len(deliverer.errors)
            await until(lambda failures=failures: len(deliverer.errors) > failures)  # type: ignore[misc]
            server.start()
        await asyncio.wait_for(load, 20)
        await sink.close()
        reopened = [error for error in deliverer.errors if isinstance(error, ReopenError)]
        assert len(reopened) >= 3
        assert deliverer.rejected == []
        # What was stored and not acknowledged before a kill is known already when it comes again.
        assert sink.stored + sink.duplicates == len(entries)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await once_each_in_order(server, entries)

    with nats_server(tmp_path / "nats") as server, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario(server))
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("each", [1, 50])
async def test_a_frozen_server_is_left_at_once_and_has_everything_once_when_it_thaws(server: NatsServer, each: int):
    sink = Nats(servers=server.url, ack_timeout=0.5, connect_timeout=0.5, in_flight_each=each)
    await sink.open()
    deliverer = Deliverer(sink)
    entries = trades(6_000)
    load = asyncio.create_task(deliverer.deliver(entries))
    await until(lambda: sink.stored >= 1_000)
    server.freeze()
    await until(lambda: len(deliverer.errors) >= 2)
    server.thaw()
    await asyncio.wait_for(load, 20)
    await sink.close()
    assert "twice" in str(deliverer.errors[0])
    assert "does not answer" in str(deliverer.errors[1])
    assert sink.repeated > 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await once_each_in_order(server, entries)


async def test_what_fills_every_buffer_on_the_way_to_a_frozen_server_can_be_left(server: NatsServer):
    """More than sockets hold: nats-py's own `close` would wait for the server to read it."""
    sink = Nats(servers=server.url, ack_timeout=0.5, in_flight_each=1000)
    await sink.open()
    await sink.close()
    descriptors = len(os.listdir("/proc/self/fd"))
    await sink.open()
    entries = trades(1000)
    for entry in entries:
        entry.line = entry.line[:-2] + b',"more":"' + b"x" * 20_000 + b'"}\n'
    server.freeze()
    with pytest.raises(ReopenError) as caught:
        await sink.write(entries)
    assert caught.value.pending == list(range(1000))
    async with asyncio.timeout(5):
        await sink.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    server.thaw()
    await sink.open()
    await asyncio.wait_for(Deliverer(sink, batch=1000).deliver(entries), 20)
    await sink.close()
    assert sink.stored + sink.duplicates == 1000
    assert await once_each_in_order(server, entries)


async def test_a_write_that_is_given_up_leaves_nothing_behind(server: NatsServer):
    sink = Nats(servers=server.url, ack_timeout=60.0)
    await sink.open()
    server.freeze()
    write = asyncio.create_task(sink.write(trades(500)))
    await asyncio.sleep(0)
    write.cancel()
    with suppress(asyncio.CancelledError):
        await write
    async with asyncio.timeout(5):
        await sink.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_lost_connection_is_noticed_at_once_and_not_when_acknowledgements_are_overdue(server: NatsServer):
    sink = Nats(servers=server.url, ack_timeout=600.0)
    await sink.open()
    server.freeze()
    write = asyncio.create_task(sink.write(trades(500)))
    await asyncio.sleep(0)
    server.kill()
    with pytest.raises(ReopenError, match="lost") as caught:
        await asyncio.wait_for(write, 20)
    assert caught.value.pending == list(range(500))
    await sink.close()


# Acknowledgements that do not come


async def test_a_lost_acknowledgement_costs_a_repetition_that_the_stream_knows_already(server: NatsServer):
    async with Wire(server) as wire:
        seen: set[bytes] = set()

        def first_of_each_third(message: bytes) -> bool:
            """The first answer to a message, of every third message."""
            inbox = message.split(b" ", 2)[1]
            again = inbox in seen
            seen.add(inbox)
            return not again and b'"seq":' in message and len(seen) % 3 == 0

        sink = Nats(servers=wire.url, ack_timeout=1.0)
        await sink.open()
        wire.lose = first_of_each_third
        entries = trades(20, 10)
        await sink.write(entries)
        await sink.close()
        assert wire.visits == 1
    assert wire.lost >= 5
    assert sink.stored + sink.duplicates == 20
    assert sink.repeated >= sink.duplicates == wire.lost
    assert await once_each_in_order(server, entries, 10)


async def test_when_no_acknowledgement_comes_the_connection_is_given_up_and_nothing_is_counted(server: NatsServer):
    async with Wire(server) as wire:
        sink = Nats(servers=wire.url, ack_timeout=0.1)
        await sink.open()
        wire.lose = lambda message: b'"seq":' in message
        entries = trades(20, 20)
        with pytest.raises(ReopenError) as caught:
            await sink.write(entries)
        assert caught.value.pending == list(range(20))
        assert sink.stored == 0
        assert sink.repeated == 20
        wire.lose = lambda message: False
        await sink.close()
        await sink.open()
        await asyncio.wait_for(Deliverer(sink).deliver(entries), 20)
        await sink.close()
        assert wire.visits >= 2
    assert sink.stored + sink.duplicates == 20
    assert await once_each_in_order(server, entries, 20)


async def test_late_acknowledgements_of_a_batch_that_was_given_up_count_for_no_other(server: NatsServer):
    """The numbers of messages are never used twice on a connection."""
    await api(server, "STREAM.CREATE.OKSTREAM", name="OKSTREAM", subjects=["okstream.>"], max_msgs=3, discard="new")
    sink = Nats(servers=server.url, in_flight_each=10)
    await sink.open()
    with pytest.raises(RetryError) as caught:
        await sink.write(trades(10, 1))
    assert caught.value.pending == list(range(3, 10))
    with pytest.raises(RetryError) as caught:
        await sink.write(trades(5, 1, first=100))
    assert caught.value.pending == list(range(5))
    await sink.close()
    assert sink.stored == 3


async def test_a_slow_server_is_waited_for(server: NatsServer):
    async with Wire(server) as wire:
        sink = Nats(servers=wire.url, ack_timeout=30.0)
        await sink.open()
        wire.delay = 0.002
        entries = trades(200, 50)
        await sink.write(entries)
        await sink.close()
    assert (sink.stored, sink.repeated) == (200, 0)
    assert await once_each_in_order(server, entries, 50)


@pytest.mark.parametrize("each", [1, 20])
async def test_a_connection_that_breaks_again_and_again_costs_neither_a_record_nor_the_order(
    server: NatsServer, each: int
):
    async with Wire(server) as wire:
        answers = 0

        def sometimes(message: bytes) -> bool:
            nonlocal answers
            answers += 1
            if answers % 211 == 0:
                wire.cut()
            return False

        sink = Nats(servers=wire.url, ack_timeout=0.5, in_flight_each=each)
        await sink.open()
        wire.lose = sometimes
        deliverer = Deliverer(sink, batch=100)
        entries = trades(2_000, 8)
        await asyncio.wait_for(deliverer.deliver(entries), 20)
        wire.lose = lambda message: False
        await sink.close()
        assert wire.visits >= 5
    assert sink.stored + sink.duplicates == len(entries)
    assert await once_each_in_order(server, entries, 8)


# The stream goes away


async def test_a_stream_that_was_deleted_meanwhile_is_made_again(server: NatsServer):
    sink = Nats(servers=server.url)
    await sink.open()
    deliverer = Deliverer(sink)
    await deliverer.deliver(trades(100))
    await api(server, "STREAM.DELETE.OKSTREAM")
    entries = trades(100, first=100)
    await deliverer.deliver(entries)
    await sink.close()
    assert "no stream takes the subject" in str(deliverer.errors[0])
    assert await once_each_in_order(server, entries)


async def test_a_stream_that_was_deleted_and_shall_not_be_made_is_waited_for(server: NatsServer):
    stream = {"name": "OKSTREAM", "subjects": ["okstream.>"]}
    await api(server, "STREAM.CREATE.OKSTREAM", **stream)
    sink = Nats(servers=server.url, create=False)
    await sink.open()
    deliverer = Deliverer(sink)
    await api(server, "STREAM.DELETE.OKSTREAM")
    entries = trades(100)
    load = asyncio.create_task(deliverer.deliver(entries))
    await until(lambda: len(deliverer.errors) >= 3)
    assert "there is no stream OKSTREAM" in str(deliverer.errors[-1])
    await api(server, "STREAM.CREATE.OKSTREAM", **stream)
    await asyncio.wait_for(load, 10)
    await sink.close()
    assert await once_each_in_order(server, entries)


# The server's disk

ON_A_SMALL_DISK = """
mount -t tmpfs -o size=24m tmpfs "$1"
while :; do "$2" -c "$3" & wait $!; done
"""
"""Runs a server on a file system of its own, again and again, until all of it is killed."""


class SmallDisk(NatsServer):
    """A server whose disk has 24 MiB, which can be full."""

    def start(self) -> None:
        self.place = self.folder / "store"
        self.place.mkdir()
        command = [
            "unshare",
            "-Urm",
            "sh",
            "-c",
            ON_A_SMALL_DISK,
            "sh",
            self.place,
            BINARY,
            self.folder / "server.conf",
        ]
        with (self.folder / "server.log").open("ab") as log:
            self.shell = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 10
        while not self.greets():
            assert time.monotonic() < until, (self.folder / "server.log").read_text()
            time.sleep(0.01)

    def fill(self) -> None:
        with self.filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    @property
    def filler(self) -> Path:
        return Path(f"/proc/{self.number}/root{self.place}/filler")

    @property
    def number(self) -> int:
        return int((self.folder / "pid").read_text())

    def again(self) -> None:
        """kill -9; it is started at once."""
        os.kill(self.number, signal.SIGKILL)

    def stop(self) -> None:
        os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()


@pytest.mark.skipif(not mountable(), reason="no namespaces for users on this machine")
async def test_a_server_whose_disk_was_full_has_everything_once_after_a_restart_with_room(tmp_path: Path):
    """nats-server 2.15 takes nothing more until it is restarted, though there is room."""
    store = f'jetstream {{ store_dir: "{tmp_path}/store" }}\npid_file: "{tmp_path}/pid"'
    with SmallDisk(tmp_path, store, jetstream=False) as server:
        sink = Nats(servers=server.url, ack_timeout=0.3)
        await sink.open()
        deliverer, entries = Deliverer(sink), trades(3000)
        await deliverer.deliver(entries[:1000])
        server.fill()
        load = asyncio.create_task(deliverer.deliver(entries[1000:]))
        await until(lambda: len(deliverer.errors) >= 3)
        assert sink.stored < 3000
        server.filler.unlink()
        server.again()
        await asyncio.wait_for(load, 20)
        await sink.close()
        assert deliverer.rejected == []
        assert await once_each_in_order(server, entries)


# Two instances


async def test_two_instances_make_one_stream_in_which_everything_stands_once(server: NatsServer):
    """2 x 20,000 published, 20,000 stored, every identity once."""
    count = 20_000
    sinks = [Nats(servers=server.url), Nats(servers=server.url)]
    for sink in sinks:
        await sink.open()
    entries = trades(count, 100)
    first, second = sinks  # each is ahead of the other in one half
    orders = {first: entries, second: entries[count // 2 :] + entries[: count // 2]}
    await asyncio.gather(*(Deliverer(sink, batch=1000).deliver(order) for sink, order in orders.items()))
    for sink in sinks:
        await sink.close()
        assert sink.stored + sink.duplicates == count
        assert sink.stored > 0
    assert sum(sink.stored for sink in sinks) == count
    messages = await stored(server)
    assert len(messages) == count
    assert {message.id for message in messages} == set(range(count))


async def test_two_instances_of_which_one_is_cut_off_make_one_stream_in_which_everything_stands_once(
    server: NatsServer,
):
    async with Wire(server) as wire:
        sinks = [Nats(servers=server.url), Nats(servers=wire.url, ack_timeout=0.5)]
        for sink in sinks:
            await sink.open()
        entries = trades(4_000, 20)
        deliverers = [Deliverer(sink, batch=200) for sink in sinks]
        load = asyncio.gather(*(deliverer.deliver(entries) for deliverer in deliverers))
        for enough in (300, 1_500):
            await until(lambda enough=enough: sinks[1].stored + sinks[1].duplicates >= enough)  # type: ignore[misc]
            wire.cut()
        await asyncio.wait_for(load, 20)
        for sink in sinks:
            await sink.close()
            assert sink.stored + sink.duplicates == len(entries)
        assert wire.visits >= 2
    assert sorted(message.id for message in await stored(server)) == list(range(len(entries)))

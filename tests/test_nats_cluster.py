"""The nats sink and a cluster of three that loses its leader. Takes half a minute: set OKSTREAM_SLOW for it."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from nats_server import Deliverer, NatsServer, api, free_port, once_each_in_order, trades, until

from okstream.errors import RetryError
from okstream.sinks.nats import Nats

pytestmark = pytest.mark.skipif("OKSTREAM_SLOW" not in os.environ, reason="OKSTREAM_SLOW is not set: half a minute")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[NatsServer]]:
    routes = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    known = ", ".join(f"nats://{route}" for route in routes)
    with ExitStack() as running:
        servers = []
        for number, route in enumerate(routes):
            (folder := tmp_path / f"n{number}").mkdir()
            more = f'server_name: n{number}\ncluster {{ name: c, listen: "{route}", routes: [{known}] }}'
            servers.append(running.enter_context(NatsServer(folder, more)))
        yield servers


@pytest.mark.parametrize("each", [1, 100])
async def test_a_leader_that_is_killed_under_load_costs_neither_a_record_nor_the_order(
    cluster: list[NatsServer], each: int
):
    sink = Nats(servers=[server.url for server in cluster], replicas=3, ack_timeout=2.0, in_flight_each=each)
    deliverer = Deliverer(sink)
    async with asyncio.timeout(90):
        while True:
            try:
                await sink.open()
                break
            except RetryError:  # a new cluster elects its leader first
                await sink.close()
                await asyncio.sleep(0.1)
        entries = trades(10_000, 20)
        load = asyncio.create_task(deliverer.deliver(entries))
        await until(lambda: sink.stored >= 2_000, 30)
        leader = (await api(cluster[0], "STREAM.INFO.OKSTREAM"))["cluster"]["leader"]
        before = sink.stored + sink.duplicates
        cluster[int(leader[1])].kill()
        await until(lambda: sink.stored + sink.duplicates > before + 2_000, 60)
        await asyncio.to_thread(cluster[int(leader[1])].start)
        await load
        await sink.close()
        assert deliverer.errors
        assert sink.stored + sink.duplicates == len(entries)
        assert await once_each_in_order(cluster[(int(leader[1]) + 1) % 3], entries, 20)

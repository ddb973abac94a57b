"""The nats sink against a real server: what is stored, the stream, who is let in, and what can never be written."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme
from nats_server import (
    Deliverer,
    NatsServer,
    Wire,
    api,
    free_port,
    nats_server,
    once_each_in_order,
    stored,
    trades,
    until,
    watching,
)  # fmt: skip

from okstream.entries import Entry, Head, raw
from okstream.errors import RejectedError, ReopenError, RetryError, SinkError
from okstream.sinks.nats import Nats

PATTERN = "okstream.*.*.*"
USERS = """authorization { users: [
  { user: root, password: marker-phrase-4d0a }
  { user: narrow, password: marker-phrase-4d0a, permissions: {
      publish: ["okstream.okx.>"], subscribe: ["_INBOX_narrow.>"] } }
] }"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def sink(server: NatsServer) -> AsyncIterator[Nats]:
    made = Nats(servers=server.url)
    await made.open()
    yield made
    await made.close()


# What is stored


async def test_each_record_is_a_message_without_its_newline_under_its_identity(server: NatsServer, sink: Nats):
    entries = trades(7)
    await sink.write(entries)
    messages = await stored(server)
    assert {message.data + b"\n" for message in messages} == {entry.line for entry in entries}
    for message in messages:
        assert message.subject == f"okstream.okx.trades.I{message.id % 5}-USDT"
        assert message.headers["Nats-Msg-Id"] == f"okx:trades::I{message.id % 5}-USDT:{message.id}"
        assert message.headers["Nats-Expected-Stream"] == "OKSTREAM"
    assert (sink.stored, sink.duplicates, sink.repeated) == (7, 0, 0)


async def test_what_is_written_again_is_stored_once(server: NatsServer, sink: Nats):
    entries = trades(50)
    await sink.write(entries)
    await sink.write(entries)
    assert (sink.stored, sink.duplicates) == (50, 50)
    assert await once_each_in_order(server, entries)


async def test_the_exchange_s_own_text_is_stored_as_it_is(server: NatsServer, sink: Nats):
    text = b'{"arg":{"channel":"trades"},"data":[{"px":"1.50"}]}\n'
    await sink.write([raw(text, "okx", "trades", "A.B C>*\xfc", None, 1)])
    (message,) = await stored(server)
    assert message.data + b"\n" == text
    assert message.subject == "okstream.okx.trades.A%2EB%20C%3E%2A%C3%BC"


@pytest.mark.parametrize(("each", "instruments"), [(1, 1), (1, 40), (100, 1), (1000, 7)])
async def test_counts_in_are_counts_out_and_each_subscription_keeps_its_order(
    server: NatsServer, each: int, instruments: int
):
    sink = Nats(servers=server.url, in_flight=100, in_flight_each=each)
    await sink.open()
    entries = trades(1200, instruments)
    for start in range(0, len(entries), 300):
        await sink.write(entries[start : start + 300])
    await sink.close()
    assert sink.stored == len(entries)
    assert await once_each_in_order(server, entries, instruments)


async def test_nothing_is_left_running_after_close(server: NatsServer):
    sink = Nats(servers=server.url)
    for _ in range(2):
        await sink.open()
        await sink.write(trades(10))
        await sink.close()
    await sink.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with pytest.raises(ReopenError):
        await sink.write(trades(1))


# The stream


async def test_a_missing_stream_is_made_as_the_options_say(server: NatsServer):
    sink = Nats(
        servers=server.url, stream="MADE", subject="md.{venue}.{inst}", storage="memory", max_age=3600.0,
        max_bytes=10_000_000, discard="new", duplicate_window=60.0,
    )  # fmt: skip
    await sink.open()
    config = (await api(server, "STREAM.INFO.MADE"))["config"]
    found = {name: config[name] for name in ("subjects", "storage", "max_bytes", "discard", "num_replicas")}
    wanted = {"subjects": ["md.*.*"], "storage": "memory", "max_bytes": 10_000_000, "discard": "new", "num_replicas": 1}
    assert found == wanted
    assert (config["max_age"], config["duplicate_window"]) == (3600 * 10**9, 60 * 10**9)
    assert sink.drift == []
    await sink.close()


async def test_a_stream_that_differs_is_said_once_and_left_alone(server: NatsServer, caplog: pytest.LogCaptureFixture):
    await api(server, "STREAM.CREATE.OKSTREAM", name="OKSTREAM", subjects=["okstream.>"], storage="memory",
              duplicate_window=10**9, max_age=60 * 10**9)  # fmt: skip
    before = (await api(server, "STREAM.INFO.OKSTREAM"))["config"]
    sink = Nats(servers=server.url, storage="file", max_age=3600.0)
    with caplog.at_level(logging.WARNING):
        await sink.open()
        await sink.close()
        await sink.open()
    assert sink.drift == [
        "duplicate_window is 1 s, not 120 s", "max_age is 60 s, not 3600 s", "storage is memory, not file",
    ]  # fmt: skip
    assert len([said for said in caplog.messages if "duplicate_window is 1 s" in said]) == 1
    await sink.write(trades(3))
    await sink.close()
    assert (await api(server, "STREAM.INFO.OKSTREAM"))["config"] == before


async def test_a_stream_that_cannot_take_the_records_is_an_error_at_once(server: NatsServer):
    await api(server, "STREAM.CREATE.OTHER", name="OTHER", subjects=["okstream.okx.>"])
    narrow, overlapping = Nats(servers=server.url, stream="OTHER"), Nats(servers=server.url)
    with pytest.raises(SinkError, match="leaves out") as caught:
        await narrow.open()
    assert not isinstance(caught.value, RetryError)
    with pytest.raises(SinkError, match="overlap") as caught:
        await overlapping.open()
    assert not isinstance(caught.value, RetryError)
    await narrow.close()
    await overlapping.close()


async def test_a_stream_that_shall_not_be_made_is_waited_for(server: NatsServer):
    sink = Nats(servers=server.url, create=False)
    with pytest.raises(RetryError, match="create = true"):
        await sink.open()
    await sink.close()
    await api(server, "STREAM.CREATE.OKSTREAM", name="OKSTREAM", subjects=[PATTERN])
    await sink.open()
    await sink.write(trades(3))
    await sink.close()
    assert sink.stored == 3


async def test_a_server_without_jetstream_is_said(tmp_path: Path):
    with nats_server(tmp_path / "plain", jetstream=False) as server:
        sink = Nats(servers=server.url)
        with pytest.raises(RetryError, match="JetStream does not answer"):
            await sink.open()
        await sink.close()


async def test_another_stream_that_has_the_subject_now_does_not_get_the_records(server: NatsServer, sink: Nats):
    await api(server, "STREAM.DELETE.OKSTREAM")
    await api(server, "STREAM.CREATE.OTHER", name="OTHER", subjects=["okstream.>"])
    with pytest.raises(ReopenError, match="expected stream does not match") as caught:
        await sink.write(trades(3, 3))
    assert caught.value.pending == [0, 1, 2]
    await sink.close()
    with pytest.raises(SinkError, match="overlap"):
        await sink.open()
    assert (await api(server, "STREAM.INFO.OTHER"))["state"]["messages"] == 0


# What can never be written, and what cannot now


def poison(size: int) -> Entry:
    return Entry(b"x" * size + b"\n", Head(f"poison-{size}", "ticker", "okx", "trades", "I0-USDT", None, 1, 1))


async def test_a_record_too_large_for_the_server_is_rejected_and_the_others_are_stored(server: NatsServer, sink: Nats):
    overhead = len(b"NATS/1.0\r\nNats-Msg-Id: poison-1048000\r\nNats-Expected-Stream: OKSTREAM\r\n\r\n")
    fits, too_large = poison(1048576 - overhead), poison(1048576 - overhead + 1)
    entries = trades(10)
    with pytest.raises(RejectedError) as caught:
        await sink.write([*entries[:5], fits, too_large, *entries[5:]])
    assert list(caught.value.rejected) == [6]
    assert "1048577 bytes" in caught.value.rejected[6]
    assert sink.stored == 11
    await sink.write(trades(1, first=10))


async def test_a_record_too_large_for_the_stream_is_rejected_and_the_others_are_stored(server: NatsServer):
    await api(server, "STREAM.CREATE.OKSTREAM", name="OKSTREAM", subjects=[PATTERN], max_msg_size=1000)
    sink = Nats(servers=server.url)
    await sink.open()
    with pytest.raises(RejectedError) as caught:
        await sink.write([*trades(3), poison(2000), *trades(3, first=3)])
    assert list(caught.value.rejected) == [3]
    assert sink.stored == 6
    await sink.close()


async def test_a_record_whose_subject_would_break_the_connection_is_rejected(server: NatsServer, sink: Nats):
    long = Entry(b"{}\n", Head("1", "ticker", "okx", "ticker", "I" * 5000, None, 1, 1))
    with pytest.raises(RejectedError) as caught:
        await sink.write([long, *trades(2)])
    assert list(caught.value.rejected) == [0]
    assert sink.stored == 2


async def test_a_full_stream_that_refuses_the_new_takes_them_once_there_is_room(server: NatsServer):
    await api(server, "STREAM.CREATE.OKSTREAM", name="OKSTREAM", subjects=[PATTERN], max_msgs=4, discard="new")
    sink = Nats(servers=server.url)
    await sink.open()
    entries = trades(6, 1)
    with pytest.raises(RetryError, match="maximum messages exceeded") as caught:
        await sink.write(entries)
    assert not isinstance(caught.value, ReopenError)
    assert caught.value.pending == [4, 5]
    assert [message.id for message in await stored(server)] == [0, 1, 2, 3]
    await api(server, "STREAM.PURGE.OKSTREAM")
    await sink.write(entries[4:])
    await sink.close()
    assert [message.id for message in await stored(server)] == [4, 5]


# Who is let in


@pytest.mark.parametrize("jetstream", [True, False], ids=["JetStream", "plain"])
async def test_a_server_that_is_down_may_come_back(server: NatsServer, jetstream: bool):
    server.kill()
    sink = Nats(servers=server.url, jetstream=jetstream)
    with pytest.raises(RetryError, match=f"127.0.0.1:{server.port}"):
        await sink.open()
    await sink.close()
    server.start()
    await sink.open()
    await sink.write(trades(1))
    await sink.close()


async def test_one_of_several_servers_is_enough(server: NatsServer):
    for _ in range(4):
        sink = Nats(servers=[f"nats://127.0.0.1:{free_port()}", server.url])
        await sink.open()
        await sink.write(trades(1))
        await sink.close()


async def test_what_is_no_nats_server_is_not_believed(caplog: pytest.LogCaptureFixture):
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO {not json\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(other, "127.0.0.1", 0)
    sink = Nats(servers=f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    with pytest.raises(RetryError):
        await sink.open()
    await sink.close()
    listener.close()
    await listener.wait_closed()
    assert "Traceback" not in caplog.text


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "guarded", USERS) as running:
        yield running


def who(tmp_path: Path, user: str, password: str = "marker-phrase-4d0a") -> Path:
    file = tmp_path / f"{user}.toml"
    file.write_text(f'user = "{user}"\npassword = "{password}"\n')
    file.chmod(0o600)
    return file


async def test_a_line_too_slow_for_the_password_is_tried_again(tmp_path: Path):
    more = 'authorization { user: "us", password: "marker-phrase-4d0a", timeout: 0.5 }'
    with nats_server(tmp_path / "hasty", more) as server:
        async with Wire(server) as wire:
            sink = Nats(servers=wire.url, credentials=who(tmp_path, "us"))
            wire.delay = 0.8
            with pytest.raises(RetryError, match="Authentication Timeout"):
                await sink.open()
            await sink.close()
            wire.delay = 0.0
            await sink.open()
            await sink.write(trades(3))
            await sink.close()
    assert sink.stored == 3


async def test_where_one_server_refuses_and_another_is_away_it_is_tried_again(guarded: NatsServer):
    sink = Nats(servers=[guarded.url, f"nats://127.0.0.1:{free_port()}"])
    for _ in range(4):
        with pytest.raises(RetryError):
            await sink.open()
    await sink.close()


async def test_a_wrong_password_ends_the_sink_and_is_not_shown(guarded: NatsServer, tmp_path: Path):
    for credentials in (None, who(tmp_path, "root", "marker-secret-9f2b")):
        sink = Nats(servers=guarded.url, credentials=credentials)
        with pytest.raises(SinkError, match="Authorization Violation") as caught:
            await sink.open()
        assert not isinstance(caught.value, RetryError)
        assert "marker" not in str(caught.value)
        await sink.close()
    sink = Nats(servers=guarded.url, credentials=who(tmp_path, "root"))
    await sink.open()
    await sink.write(trades(3))
    await sink.close()
    assert sink.stored == 3


async def test_a_user_who_may_only_publish_is_enough_where_the_stream_is_there(guarded: NatsServer, tmp_path: Path):
    root = Nats(servers=guarded.url, credentials=who(tmp_path, "root"))
    await root.open()
    await root.close()
    narrow = Nats(servers=guarded.url, credentials=who(tmp_path, "narrow"), inbox="_INBOX_narrow", create=False)
    await narrow.open()
    await narrow.write(trades(3))
    assert narrow.stored == 3
    foreign = Entry(b"{}\n", Head("1", "ticker", "okex-v3", "ticker", "A", None, 1, 1))
    with pytest.raises(SinkError, match="permissions violation for publish") as caught:
        await narrow.write([*trades(3), foreign])
    assert not isinstance(caught.value, RetryError)
    await narrow.close()


@pytest.mark.parametrize("options", [{"inbox": "_INBOX_narrow"}, {"create": False}])
async def test_a_right_that_is_missing_is_named(guarded: NatsServer, tmp_path: Path, options: dict[str, bool]):
    sink = Nats(servers=guarded.url, credentials=who(tmp_path, "narrow"), **options)  # type: ignore[arg-type]
    with pytest.raises(SinkError, match="permissions violation") as caught:
        await sink.open()
    assert not isinstance(caught.value, RetryError)
    await sink.close()


async def test_tls_is_spoken_and_a_stranger_s_certificate_is_not_believed(tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    pem = f'"{tmp_path / "server.pem"}"'
    with nats_server(tmp_path / "tls", f"tls {{ cert_file: {pem}, key_file: {pem} }}") as server:
        address = server.url.replace("nats://", "tls://")
        sink = Nats(servers=address, tls_ca=tmp_path / "ca.pem")
        await sink.open()
        await sink.write(trades(3))
        await sink.close()
        assert sink.stored == 3
        stranger = Nats(servers=address)
        with pytest.raises(RetryError, match=r"(?i)certificate"):
            await stranger.open()
        await stranger.close()


async def test_a_password_does_not_cross_a_line_that_was_to_be_encrypted_and_is_not(
    guarded: NatsServer, tmp_path: Path
):
    async with Wire(guarded) as wire:
        address = wire.url.replace("nats://", "tls://")
        sink = Nats(servers=address, credentials=who(tmp_path, "root"))
        with pytest.raises(RetryError, match="no TLS"):
            await sink.open()
        await sink.close()
        assert wire.visits == 1
        assert b"marker" not in wire.said
        plain = Nats(servers=wire.url, credentials=who(tmp_path, "root"))
        await plain.open()
        await plain.close()
        assert b"marker" in wire.said


# Plain NATS


async def test_plain_nats_reaches_who_listens_in_order(tmp_path: Path):
    with nats_server(tmp_path / "plain", jetstream=False) as server:
        async with watching(server) as client:
            subscription = await client.subscribe("okstream.>")
            await client.flush()
            sink = Nats(servers=server.url, jetstream=False)
            await sink.open()
            entries = trades(500)
            await sink.write(entries)
            assert sink.stored == 500
            heard = [await subscription.next_msg(timeout=5) for _ in entries]
            assert [message.data + b"\n" for message in heard] == [entry.line for entry in entries]
            with pytest.raises(RejectedError):
                await sink.write([*trades(2), poison(2 << 20)])
            await sink.close()


async def test_plain_nats_counts_nothing_as_sent_that_the_server_has_not_seen(tmp_path: Path):
    with nats_server(tmp_path / "plain", jetstream=False) as server:
        sink = Nats(servers=server.url, jetstream=False, ack_timeout=1.0)
        await sink.open()
        await sink.write(trades(10))
        server.freeze()
        with pytest.raises(ReopenError) as caught:
            await sink.write(trades(10))
        assert caught.value.pending is None
        server.thaw()
        server.kill()
        with pytest.raises(ReopenError):
            await sink.write(trades(10))
        assert sink.stored == 10
        await sink.close()


async def test_plain_nats_writes_again_what_the_server_may_not_have_seen(tmp_path: Path):
    """It is killed and frozen; who listens then has everything, some of it twice, under the same identity."""
    with nats_server(tmp_path / "plain", jetstream=False) as server:
        sink = Nats(servers=server.url, jetstream=False, ack_timeout=0.3, connect_timeout=0.3)
        await sink.open()
        deliverer, heard = Deliverer(sink, batch=10), dict[bytes, str]()
        await deliverer.deliver(trades(10))
        server.kill()
        load = asyncio.create_task(deliverer.deliver([*trades(50, first=10), poison(2 << 20)]))
        await until(lambda: len(deliverer.errors) > 0)
        server.start()
        await asyncio.wait_for(load, 20)
        async with watching(server) as client:
            subscription = await client.subscribe("okstream.>")
            await client.flush()
            server.freeze()
            load = asyncio.create_task(deliverer.deliver(trades(50, first=60)))
            failures = len(deliverer.errors)
            await until(lambda: len(deliverer.errors) > failures)
            server.thaw()
            await asyncio.wait_for(load, 20)
            await sink.close()
            while len(heard) < 50:
                message = await subscription.next_msg(timeout=5)
                identity = message.headers["Nats-Msg-Id"]
                assert heard.setdefault(message.data, identity) == identity
        assert list(heard) == [entry.line.rstrip() for entry in trades(50, first=60)]
        assert len(set(heard.values())) == 50
        assert len(deliverer.rejected) == 1


async def test_plain_nats_says_what_is_forbidden(guarded: NatsServer, tmp_path: Path):
    rights = who(tmp_path, "narrow")
    sink = Nats(servers=guarded.url, credentials=rights, jetstream=False, inbox="_INBOX_narrow")
    await sink.open()
    with pytest.raises(SinkError, match="permissions violation"):
        await sink.write(trades(3))
    await sink.close()

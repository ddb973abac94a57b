"""
The link against real servers: what is relied on of `websockets`, how it is dialled, and what is never shown.

The contract holds on both loops; where time matters it is virtual.
"""

import asyncio
import json
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loops import LOOPS, run
from support.peers import Peer, certificate, http, silence, tcp, tunnel
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Close, Frame, Opcode

from okstream import Credentials, testing, venues
from okstream.channels import parse
from okstream.dialects import load
from okstream.encoding import encode
from okstream.errors import ConfigError, LoginRefusedError, RefusedError
from okstream.feed import Delivery, Feed
from okstream.inflate import CAP
from okstream.links import SharedBudget
from okstream.links.dialling import Dial, Spacing, gap_lines
from okstream.links.wire import Connection
from okstream.records import Status
from okstream.rest import date_ms, retry_after, shown
from okstream.session.budget import Budget
from okstream.simulator import Account, Settings, Simulator
from okstream.statements import Statements
from okstream.stream import Stream
from okstream.venues import Venue

MARKED = Credentials("KEYMARK-4711-0815", "SECRETMARK-4711-0815", "PASSMARK-4711-0815")
MARKED_ACCOUNT = Account("marked", MARKED.key, MARKED.secret, MARKED.passphrase)
START_MS = testing.START_NS // 1_000_000

both = pytest.mark.parametrize("loop", LOOPS)


class Ear:
    """What a connection hands its frames to."""

    def __init__(self, cap: int = CAP) -> None:
        self.heard: list[tuple[bytes, bool]] = []
        self.wake = asyncio.Event()
        self.cap = cap

    def wall_ns(self) -> int:
        return 7

    def hear(self, frames: list[bytes], binary: bool, recv: int) -> None:
        assert recv == 7
        self.heard += [(data, binary) for data in frames]


Script = Callable[[ServerConnection], Awaitable[Any]]


@asynccontextmanager
async def connected(script: Script, ear: Ear, **options: Any):
    """A connection as the link makes it, to a server that does as `script` says."""
    async with serve(script, "127.0.0.1", 0, ping_interval=None, close_timeout=0.5, **options) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await Dial(
            f"ws://127.0.0.1:{port}",
            create_connection=lambda *a, **k: Connection(*a, listener=ear, **k),
            compression="deflate" if options.get("compression", "deflate") else None,
            proxy=None, ping_interval=None, close_timeout=0.5, max_size=ear.cap,
        )  # fmt: skip
        try:
            yield connection
        finally:
            await connection.close()


def raw(server: ServerConnection, *frames: Frame) -> None:
    """Write frames at once, in one segment."""
    server.transport.write(b"".join(frame.serialize(mask=False) for frame in frames))


def text(data: bytes, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> Frame:
    return Frame(opcode, data, fin)


def plain(loop: str, script: Script, heard: list[tuple[bytes, bool]], cap: int = CAP, **options: Any) -> None:
    """`script` writes; exactly `heard` must be handed over, in order, before the connection ends."""

    async def scenario() -> None:
        ear = Ear(cap)
        async with connected(script, ear, **options) as connection:
            await connection.wait_closed()
        assert ear.heard == heard
        assert ear.wake.is_set()

    run(loop, scenario)


@both
@pytest.mark.parametrize("compression", ["deflate", None])
class TestContract:
    """What okstream relies on of websockets 17, with and without its extension."""

    def test_text_and_binary_arrive_in_order(self, loop, compression):
        async def script(server):
            await server.send("text")
            await server.send(b"\x00binary")
            await server.send("")

        expected = [(b"text", False), (b"\x00binary", True), (b"", False)]
        plain(loop, script, expected, compression=compression)

    def test_frames_of_all_lengths_in_one_read(self, loop, compression):
        bodies = [bytes([65 + n % 26]) * n for n in (0, 1, 125, 126, 127, 65535, 65536, 200_000)]

        async def script(server):
            raw(server, *map(text, bodies))

        plain(loop, script, [(body, False) for body in bodies], compression=compression)

    def test_frames_cut_anywhere_are_whole_again(self, loop, compression):
        frames = [text(b"a" * 200), Frame(Opcode.PING, b"p"), text(b"b" * 70_000, Opcode.BINARY), text(b"c")]

        async def script(server):
            data = b"".join(frame.serialize(mask=False) for frame in frames)
            for start in (*range(250), 250):
                server.transport.write(data[start : start + 1] if start < 250 else data[250:])
                await asyncio.sleep(0)

        expected = [(b"a" * 200, False), (b"b" * 70_000, True), (b"c", False)]
        plain(loop, script, expected, compression=compression)

    def test_a_fragmented_message_with_pings_between_is_one(self, loop, compression):
        async def script(server):
            raw(
                server, text(b"before"), text(b"one ", fin=False), Frame(Opcode.PING, b"?"),
                text(b"two ", Opcode.CONT, fin=False), Frame(Opcode.PONG, b"!"), text(b"three", Opcode.CONT),
                text(b"\x01", Opcode.BINARY, fin=False), text(b"\x02", Opcode.CONT), text(b"after"),
            )  # fmt: skip

        expected = [(b"before", False), (b"one two three", False), (b"\x01\x02", True), (b"after", False)]
        plain(loop, script, expected, compression=compression)

    def test_a_message_over_the_cap_ends_the_connection(self, loop, compression):
        async def scenario():
            async def script(server):
                await server.send("small")
                await server.send("x" * 2000)
                await server.wait_closed()
                ended.set_result(server.close_code)

            ended = asyncio.get_running_loop().create_future()
            ear = Ear(cap=1000)
            async with connected(script, ear, compression=compression) as connection:
                await connection.wait_closed()
            assert ear.heard == [(b"small", False)]
            assert connection.protocol.close_sent.code == 1009
            assert await ended == 1009

        run(loop, scenario)

    def test_fragments_over_the_cap_end_the_connection(self, loop, compression):
        async def script(server):
            raw(server, text(b"x" * 600, fin=False), text(b"x" * 600, Opcode.CONT))
            await server.wait_closed()

        plain(loop, script, [], cap=1000, compression=compression)

    def test_what_comes_before_a_close_counts_and_its_code_is_kept(self, loop, compression):
        async def scenario():
            async def script(server):
                raw(server, text(b"last"), Frame(Opcode.CLOSE, Close(4004, "No data").serialize()), text(b"never"))
                await server.wait_closed()

            ear = Ear()
            async with connected(script, ear, compression=compression) as connection:
                await ear.wake.wait()
                assert connection.protocol.close_rcvd == Close(4004, "No data")
                await connection.wait_closed()
            assert (connection.close_code, connection.close_reason) == (4004, "No data")
            assert ear.heard == [(b"last", False)]

        run(loop, scenario)

    def test_an_abrupt_end_has_no_close_frame(self, loop, compression):
        async def scenario():
            async def script(server):
                raw(server, text(b"whole"))
                server.transport.write(text(b"cut off").serialize(mask=False)[:5])
                await asyncio.sleep(0.01)
                server.transport.abort()

            ear = Ear()
            async with connected(script, ear, compression=compression) as connection:
                assert connection.response.status_code == 101
                await connection.wait_closed()
            assert ear.wake.is_set()
            assert connection.transport.is_closing()
            assert (connection.close_code, connection.protocol.close_rcvd) == (1006, None)
            assert ear.heard in ([(b"whole", False)], [])  # a reset may overtake what was sent

        run(loop, scenario)

    @pytest.mark.parametrize(
        "bad", [b"\xa1\x00", b"\x83\x00", b"\x80\x01x", b"\x81\x81abcdx", b"\x89\x7e\x00\x7e" + b"p" * 126]
    )
    def test_what_is_against_the_protocol_ends_the_connection(self, loop, compression, bad):
        async def script(server):
            server.transport.write(text(b"good").serialize(mask=False) + bad + text(b"never").serialize(mask=False))
            await server.wait_closed()

        plain(loop, script, [(b"good", False)], compression=compression)

    def test_bytes_can_be_sent_as_text(self, loop, compression):
        async def scenario():
            async def script(server):
                got.set_result(await server.recv())

            got = asyncio.get_running_loop().create_future()
            async with connected(script, Ear(), compression=compression) as connection:
                await connection.send(b'{"op":"x"}', text=True)
                assert await got == '{"op":"x"}'

        run(loop, scenario)


@both
def test_a_frame_that_comes_with_the_handshakes_answer_is_read_wherever_it_is_cut(loop):
    """The own parser takes over between two frames only."""

    async def scenario() -> None:
        import base64
        import hashlib

        for cut in range(-6, 9):

            async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: int = cut):
                key = peer.heads[-1].split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
                digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
                head = (
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
                ).encode()
                data = head + text(b"first").serialize(mask=False) + text(b"second").serialize(mask=False)
                # So that the last bytes of the head come with the first of a frame, and nothing else.
                first = len(head) + min(cut, 0) if cut < 0 else len(head) - 2
                second = len(head) + max(cut, 1)
                for part in (data[:first], data[first:second], data[second:]):
                    writer.write(part)
                    await asyncio.sleep(0.002)

            ear = Ear()
            async with tcp(answer) as peer:
                connection = await Dial(
                    peer.url, create_connection=lambda *a, ear=ear, **k: Connection(*a, listener=ear, **k),
                    compression=None, proxy=None, ping_interval=None, close_timeout=0.5, max_size=CAP,
                )  # fmt: skip
                await connection.wait_closed()
            assert ear.heard == [(b"first", False), (b"second", False)], cut

    run(loop, scenario)


# -- dialling, in virtual time


def place(url: str, name: str = "okx", **changes: Any) -> Venue:
    return replace(venues.simulated("okx-v5", url, ""), name=name, **{"rest": None, **changes})


def stream(venue: Venue, **options: Any) -> Stream:
    return Stream(venue, **{"wall_ns": testing.wall_ns, "chance": random.Random(1), **options})


async def statuses(streaming: Stream, until: float) -> list[Status]:
    """Everything the link says of itself within `until` seconds."""
    said: list[Status] = []

    async def read() -> None:
        async for record in streaming:
            if isinstance(record, Status) and record.channel is None:
                said.append(record)

    reading = asyncio.create_task(read())
    await asyncio.wait([reading], timeout=until)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return said


async def wanting(streaming: Stream, text: str = "ticker:BTC-USDT", venue: Venue | None = None) -> None:
    with pytest.raises(TimeoutError):
        await streaming.subscribe(text, venue=venue, timeout=0.001)


def test_a_server_that_hangs_up_at_once_is_not_hammered():
    async def scenario():
        async def script(server):
            await server.close()

        dials = []
        async with serve(script, "127.0.0.1", 0, process_request=lambda *_: dials.append(1)) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with stream(place(url)) as streaming:
                asked = asyncio.create_task(streaming.subscribe("ticker:BTC-USDT"))
                await asyncio.sleep(600)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
        return len(dials)

    assert 20 <= testing.run(scenario) <= 80  # 15 s apart on average, once the ceiling of 30 s is reached


def test_delays_start_small_again_after_a_healthy_minute_only():
    async def scenario():
        times = []

        async def script(server):
            times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0 if len(times) < 12 else 61)

        async with serve(script, "127.0.0.1", 0, ping_interval=None) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            limits = replace(venues.V5_LIMITS, ping_after=1e6, ack_within=1e6)
            async with stream(place(url, limits=limits)) as streaming:
                asked = asyncio.create_task(streaming.subscribe("ticker:BTC-USDT"))
                await asyncio.sleep(1000)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
        return [later - earlier for earlier, later in pairwise(times)]

    waits = testing.run(scenario)
    assert max(waits[5:11]) > 5
    assert all(61 <= wait <= 61 + 0.5 + 0.5 for wait in waits[12:])


def test_connects_to_one_host_are_spaced_over_all_links():
    async def scenario():
        async with tcp(silence) as peer:
            subs = ["ticker:BTC-USDT", "candle-1m:BTC-USDT", "orders", "trades-all:BTC-USDT"]
            more = {"a": MARKED, "b": replace(MARKED, key="another")}
            async with stream(place(peer.url), accounts=more) as streaming:
                tasks = [asyncio.create_task(streaming.subscribe(text, account="a")) for text in subs]
                tasks.append(asyncio.create_task(streaming.subscribe("orders", account="b")))
                await asyncio.sleep(3)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return peer.times

    times = testing.run(scenario)
    assert len(times) >= 4
    assert all(later - earlier >= 1 / 3 - 1e-6 for earlier, later in pairwise(times))


@pytest.mark.parametrize(("status", "asked", "least"), [("429", "7", 7), ("503", "9", 9), ("502", "", 0)])
def test_busy_servers_are_tried_again_when_they_say(status, asked, least):
    async def scenario():
        async with tcp(http(f"{status} Busy", f"Retry-After: {asked}")) as peer, stream(place(peer.url)) as streaming:
            task = asyncio.create_task(streaming.subscribe("ticker:BTC-USDT"))
            said = await statuses(streaming, 40)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return peer.times, said

    times, said = testing.run(scenario)
    assert len(times) >= 3
    assert all(later - earlier >= least for earlier, later in pairwise(times))
    assert f"the handshake was answered with HTTP {status}" in [status.detail for status in said]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_before_the_first_success_is_fatal(status):
    async def scenario():
        async with tcp(http(f"{status} No")) as peer, stream(place(peer.url)) as streaming:
            waiting = asyncio.create_task(streaming.wait())
            with pytest.raises(RefusedError, match=f"HTTP {status}") as refusal:
                await streaming.subscribe("ticker:BTC-USDT")
            assert refusal.value.code == str(status)
            with pytest.raises(RefusedError, match=f"HTTP {status}"):
                await waiting
            with pytest.raises(RefusedError, match=f"HTTP {status}"):
                async for _ in streaming:
                    pass
            with pytest.raises(RefusedError):
                await streaming.subscribe("trades:BTC-USDT")
            return len(peer.heads)

    assert testing.run(scenario) == 1


def test_a_refusal_after_a_success_is_tried_again_slowly():
    async def scenario():
        settings = Settings(start_ms=START_MS)
        async with Simulator("okx-v5", settings) as sim, stream(place(sim.url)) as streaming:
            await streaming.subscribe("ticker:BTC-USDT")
            sim.inject("handshake:status=403,n=3")
            sim.inject("drop")
            said = await statuses(streaming, 400)
            return [status for status in said if status.state in {"refused", "live"}], streaming.state().subscriptions

    said, state = testing.run(scenario)
    assert [status.state for status in said] == ["live", "refused", "refused", "refused", "live"]
    assert said[1].detail["code"] == "403"
    gaps = [(later.recv - earlier.recv) / 1e9 for earlier, later in pairwise(said[1:])]
    assert all(45 <= gap <= 80 for gap in gaps)
    assert state[0].state == "live"


def test_a_later_link_that_is_refused_does_not_end_what_flows():
    async def scenario():
        async with Simulator("okx-v5", Settings(start_ms=START_MS)) as sim, stream(place(sim.url)) as streaming:
            await streaming.subscribe("ticker:BTC-USDT")
            sim.inject("handshake:status=403,n=2")
            asked = asyncio.create_task(streaming.subscribe("candle-1m:BTC-USDT"))
            said = await statuses(streaming, 300)
            await asked
            return [status.state for status in said if status.state in {"refused", "failed", "live"}]

    assert testing.run(scenario) == ["live", "refused", "refused", "live"]


def test_a_budget_that_is_spent_is_told_once_an_hour_with_when_it_goes_on(caplog):
    budget, warned = Budget(2), {}
    one, other = (SharedBudget(name, budget, warned) for name in ("okx public", "okx business"))
    assert one.take(0.0)
    assert not one.take(10.0)
    assert not other.take(20.0)
    assert [record.getMessage() for record in caplog.records] == [
        "okx public: the venue's requests for this hour are spent; it goes on in 3591 s"
    ]
    assert other.take(3700.0)
    assert not other.take(3710.0)
    assert "okx business" in caplog.records[-1].getMessage()


def test_a_subscription_that_has_several_gaps_is_counted_once():
    statements = Statements("t")
    one, other = (Feed(sub, "okx", load("okx-v5"), statements) for sub in parse("trades:BTC-USDT,ETH-USDT"))
    opened = [Delivery(feed, [statements.gap("okx", feed.sub, "sequence", 1, None)]) for feed in (one, one, other, one)]
    assert gap_lines(opened[:2], "open") == ["something may be missing (sequence) in trades:BTC-USDT"]
    assert gap_lines(opened, "open") == ["something may be missing (sequence) in trades:BTC-USDT and 1 more"]
    assert gap_lines(opened, "closed") == []


def test_headers_said_twice_or_nonsense_do_no_harm():
    async def scenario():
        headers = ["Date: x", "Date: y", "Retry-After: 1", "Retry-After: 2", "Location: ws://127.0.0.1:1/elsewhere"]
        async with tcp(http("302 Elsewhere", *headers)) as peer, stream(place(peer.url)) as streaming:
            task = asyncio.create_task(streaming.subscribe("ticker:BTC-USDT"))
            said = await statuses(streaming, 20)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return len(peer.heads), {status.detail for status in said if status.state == "disconnected"}

    dials, why = testing.run(scenario)
    assert dials >= 3
    assert why == {"the handshake was answered with HTTP 302"}, "redirects are not followed"


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [-+A-Z0-9]*"))
def test_any_date_or_delay_is_a_number_or_nothing(header):
    assert date_ms(header) is None or isinstance(date_ms(header), int)
    assert 0 <= retry_after(header, START_MS) <= 3600


def test_dates_and_delays_are_read():
    assert date_ms("Thu, 01 Jan 2026 00:00:00 GMT") == START_MS
    assert retry_after("Thu, 01 Jan 2026 00:00:07 GMT", START_MS) == 7
    assert (retry_after("12", 0), retry_after("9" * 400, 0), retry_after("-3", 0)) == (12, 3600, 0)
    assert shown("wss://user:word@host:1/path?token=x") == "wss://host:1/path"


def test_everything_wanted_is_asked_for_again_after_a_reconnect():
    async def scenario():
        async with Simulator("okx-v5", Settings(start_ms=START_MS)) as sim, stream(place(sim.url)) as streaming:
            await streaming.subscribe("ticker:BTC-USDT,ETH-USDT")
            await streaming.subscribe("trades:BTC-USDT")
            await streaming.unsubscribe("ticker:ETH-USDT")
            for _ in range(3):
                sim.inject("drop")
                await asyncio.sleep(20)
                assert {state.state for state in streaming.state().subscriptions} == {"live"}
            (connection,) = sim.connections
            return set(connection.subscriptions), sim.counters.faults["drop"]

    wanted, drops = testing.run(scenario)
    assert wanted == {"tickers:instId=BTC-USDT", "trades:instId=BTC-USDT"}
    assert drops == 3


def test_a_peer_that_takes_nothing_any_more_is_given_up():
    """Requests that fill every buffer must not outwait the watch over silence."""

    async def scenario():
        async def script(server):
            server.transport.pause_reading()
            await server.wait_closed()

        async with serve(script, "127.0.0.1", 0, ping_interval=None, close_timeout=0.1) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with stream(place(url)) as streaming:
                subs = [f"BTC-USDT-{number:05000d}" for number in range(2_400)]
                task = asyncio.create_task(streaming.subscribe("ticker", *subs))
                said = await statuses(streaming, 60)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return {status.detail for status in said if status.state == "disconnected"}

    assert "nothing could be sent for 10 s" in testing.run(scenario)


# -- logins and secrets


async def into(records: list[str], streaming: Stream) -> None:
    async for record in streaming:
        records.append(encode(record).decode())


@asynccontextmanager
async def private(settings: Settings, credentials: Credentials, rest: bool = False):
    async with Simulator("okx-v5", settings) as sim:
        venue = place(sim.url, rest=sim.rest_url if rest else None)
        async with stream(venue, accounts=credentials) as streaming:
            yield sim, streaming


@pytest.mark.parametrize(
    ("change", "code"),
    [({"key": "KEYMARK-unknown"}, "60032"), ({"secret": "SECRETMARK-wrong"}, "60007"),
     ({"passphrase": "PASSMARK-wrong"}, "60024")],
)  # fmt: skip
def test_wrong_credentials_are_fatal_and_never_shown(change, code, caplog):
    caplog.set_level(logging.DEBUG)

    async def scenario():
        async with private(Settings(start_ms=START_MS, accounts=(MARKED_ACCOUNT,)), replace(MARKED, **change)) as both:
            sim, streaming = both
            with pytest.raises(LoginRefusedError) as refusal:
                await streaming.subscribe("orders")
            records: list[str] = []
            with pytest.raises(LoginRefusedError):
                await into(records, streaming)
            return refusal.value, records, sim.counters.connections, repr(streaming)

    error, records, dials, shape = testing.run(scenario)
    assert (error.code, dials) == (code, 1)
    assert str(error).startswith("okx private main: login refused: ")
    failed = [said for said in map(json.loads, records) if said["type"] == "status" and said["state"] == "failed"]
    assert [said["detail"]["code"] for said in failed] == [code]
    assert failed[0]["detail"]["message"] in str(error)
    unseen(caplog, [str(error), repr(error), repr(error.__cause__), shape, *records])


def test_a_wrong_clock_is_told_by_how_much():
    async def scenario():
        settings = Settings(start_ms=START_MS, clock_offset=300, accounts=(MARKED_ACCOUNT,))
        async with private(settings, MARKED) as (_, streaming):
            with pytest.raises(LoginRefusedError, match=r"clock is 300 s behind the exchange's") as refusal:
                await streaming.subscribe("orders")
            return refusal.value.code

    assert testing.run(scenario) == "60006"


def test_a_wrong_clock_does_not_matter_where_the_exchanges_can_be_asked():
    async def scenario():
        settings = Settings(start_ms=START_MS, clock_offset=-300, accounts=(MARKED_ACCOUNT,))
        async with private(settings, MARKED, rest=True) as (sim, streaming):
            await streaming.subscribe("orders", timeout=10)
            return sim.counters.logins

    assert testing.run(scenario) == 1


def test_a_login_refused_after_a_success_is_tried_again():
    async def scenario():
        async with private(Settings(start_ms=START_MS, accounts=(MARKED_ACCOUNT,)), MARKED) as (sim, streaming):
            await streaming.subscribe("orders")
            sim.inject("refuse-login:code=60024")
            sim.inject("drop")
            said = await statuses(streaming, 120)
            return [status.state for status in said if status.state in {"refused", "live"}], sim.counters.logins

    assert testing.run(scenario) == (["live", "refused", "live"], 2)


def test_no_secret_in_any_log_record_or_status(caplog):
    """Not even at DEBUG of every logger, where websockets would show each frame it sends."""
    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "okstream", "okstream.link", "okstream.link.websockets"):
        caplog.set_level(logging.DEBUG, logger=name)

    async def scenario():
        settings = Settings(start_ms=START_MS, accounts=(MARKED_ACCOUNT,))
        async with private(settings, MARKED, rest=True) as (sim, streaming):
            await streaming.subscribe("orders")
            sim.inject(f"close:code=4001,reason=who is {MARKED.secret}?,after=1")
            said = [encode(status).decode() for status in await statuses(streaming, 30)]
            assert sim.counters.logins == 2
            return [*said, repr(streaming.state()), repr(streaming.stats()), repr(streaming._links)]

    said = testing.run(scenario)
    assert "closed by the exchange: 4001 who is ***?" in " ".join(said)
    unseen(caplog, said)


def unseen(caplog: pytest.LogCaptureFixture, texts: list[str]) -> None:
    assert caplog.records
    for told in [caplog.text, *(repr(record.__dict__) for record in caplog.records), *texts]:
        for mark in ("KEYMARK", "SECRETMARK", "PASSMARK"):
            assert mark not in told


# -- TLS and proxies


@both
def test_certificates_are_verified_always(loop):
    theirs, trusting = certificate()

    async def scenario():
        async def script(server):
            await server.wait_closed()

        async with serve(script, "127.0.0.1", 0, ssl=theirs, ping_interval=None) as server:
            venue = place(f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            async with Stream(venue) as streaming:
                with pytest.raises(RefusedError, match="certificate"):
                    await streaming.subscribe("ticker:BTC-USDT")
            async with Stream(venue, tls=trusting) as streaming:
                await wanting(streaming)
                said = await statuses(streaming, 0.3)
                assert not {"refused", "disconnected"} & {status.state for status in said}

    run(loop, scenario)


def test_tls_that_verifies_nothing_is_a_mistake():
    careless = ssl.create_default_context()
    careless.check_hostname = False
    with pytest.raises(ConfigError, match="must verify"):
        Stream("okx", tls=careless)
    careless.verify_mode = ssl.CERT_NONE
    with pytest.raises(ConfigError, match="must verify"):
        Stream("okx", tls=careless)


@both
def test_where_no_tls_is_spoken_the_url_is_named_as_what_may_be_wrong(loop):
    async def scenario():
        async with Simulator() as sim, Stream(place(sim.url.replace("ws:", "wss:"))) as streaming:
            asking = asyncio.create_task(streaming.subscribe("ticker:BTC-USDT"))
            while (said := await anext(streaming)).state != "disconnected":
                pass
            asking.cancel()
        assert said.detail == "cannot reach the exchange: what answers there speaks no TLS; is it ws:// and not wss://?"

    run(loop, scenario)


def test_tls_does_not_disturb_a_venue_without():
    async def scenario():
        tls = ssl.create_default_context()
        async with (
            Simulator("okx-v5", Settings(start_ms=START_MS)) as sim,
            stream(place(sim.url), tls=tls) as streaming,
        ):
            await streaming.subscribe("ticker:BTC-USDT", timeout=5)

    testing.run(scenario)


@pytest.mark.parametrize(
    "proxy",
    ["nonsense", "ftp://host:1", "http://", "http://u:PASSMARK@host:port", "http://PASSMARK@host:1", "http://host/x",
     "http://u:PASSMARK@host:99999", "http://u:PASSMARK@host//"],
)  # fmt: skip
def test_a_bad_proxy_is_a_mistake_that_does_not_show_its_password(proxy):
    with pytest.raises(ConfigError, match="proxy") as error:
        Stream("okx", proxy=proxy)
    assert "PASSMARK" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_proxy_that_websockets_does_not_take_shows_no_password(caplog, monkeypatch):
    monkeypatch.setattr("okstream.links._check_proxy", lambda proxy: None)

    async def scenario():
        async with stream(place("ws://127.0.0.1:9"), proxy="http://u:PASSMARK-4711@host//") as streaming:
            asking = asyncio.create_task(wanting(streaming))
            said = await statuses(streaming, 5)
            await asking
            return [encode(status).decode() for status in said]

    said = testing.run(scenario)
    assert any("the proxy cannot be used" in text for text in said)
    unseen(caplog, said)


@both
def test_the_proxy_is_used_when_given_and_the_environment_never(loop, monkeypatch):
    theirs, trusting = certificate()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY", "SOCKS_PROXY"):
        for spelled in (name, name.lower()):
            monkeypatch.setitem(os.environ, spelled, "http://127.0.0.1:9")

    async def scenario():
        async def script(server):
            heard.set()
            await server.wait_closed()

        for tls in (None, theirs):
            heard = asyncio.Event()
            async with serve(script, "127.0.0.1", 0, ssl=tls, ping_interval=None) as server, tcp(tunnel) as peer:
                port = server.sockets[0].getsockname()[1]
                venue = place(f"{'wss' if tls else 'ws'}://127.0.0.1:{port}")
                for proxy in (None, f"http://user:word@127.0.0.1:{peer.port}"):
                    async with Stream(venue, proxy=proxy, tls=trusting) as streaming:
                        asked = asyncio.create_task(streaming.subscribe("ticker:BTC-USDT"))
                        await asyncio.wait_for(heard.wait(), 5)
                        heard.clear()
                        assert len(peer.heads) == (1 if proxy else 0)
                        asked.cancel()
                        await asyncio.gather(asked, return_exceptions=True)
                assert peer.heads[0].startswith(f"CONNECT 127.0.0.1:{port} ")

    run(loop, scenario)


def test_websockets_is_told_to_leave_alone_what_is_ours(monkeypatch):
    """No keepalive of its own, no proxy of the environment, no bound but ours."""
    told = {}

    class Told(Dial):
        def __init__(self, *args: Any, **options: Any) -> None:
            told.update(options)
            super().__init__(*args, **options)

    monkeypatch.setattr("okstream.links.conversation.Dial", Told)

    async def scenario():
        async with Simulator("okx-v5", Settings(start_ms=START_MS)) as sim, stream(place(sim.url)) as streaming:
            await streaming.subscribe("ticker:BTC-USDT", timeout=5)

    testing.run(scenario)
    assert (told["ping_interval"], told["proxy"], told["max_size"], told["compression"]) == (None, None, CAP, None)


def test_spacing_survives_a_cancelled_turn():
    async def scenario():
        spacing = Spacing(2)
        async with spacing.turn():
            pass
        turn = asyncio.create_task(spacing.turn().__aenter__())
        await asyncio.sleep(0.1)
        turn.cancel()
        async with spacing.turn():
            return asyncio.get_running_loop().time()

    assert testing.run(scenario) == pytest.approx(0.5)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.9])
def test_no_more_connects_arrive_within_a_second_than_may_however_long_one_is_on_its_way(delay):
    """Each arrives at some moment between its beginning and its answer."""

    async def connect(spacing, first, spans):
        loop = asyncio.get_running_loop()
        async with spacing.turn():
            began = loop.time()
            await asyncio.sleep(delay if first else 0.0)
            spans.append((began, loop.time()))

    async def scenario():
        spacing, spans = Spacing(3), []
        await asyncio.gather(*(connect(spacing, number % 3 == 0, spans) for number in range(10)))
        return sorted(spans)

    spans = testing.run(scenario)
    for (_, answered), (began, _) in zip(spans, spans[3:], strict=False):
        assert began - answered >= 1.0 - 1e-9


def test_a_connect_that_is_never_answered_holds_up_others_for_a_moment_only():
    async def scenario():
        spacing = Spacing(1)
        hanging = spacing.turn()
        await hanging.__aenter__()
        async with spacing.turn():
            return asyncio.get_running_loop().time()

    assert testing.run(scenario) == pytest.approx(2.05)


def test_a_start_with_many_links_is_never_told_that_it_dials_too_often(caplog):
    """The simulated exchange counts handshakes as they arrive, and refuses the fourth within a second."""

    async def scenario():
        async with Simulator("okx-v5", Settings(start_ms=START_MS)) as sim, stream(place(sim.url)) as streaming:
            await streaming.subscribe("book", *(f"SIM{number:03}-USDT" for number in range(190)), timeout=30)
            return streaming.stats().links

    assert testing.run(scenario) == 7
    assert "429" not in caplog.text


def test_a_thousand_subscriptions_are_asked_for_within_the_budget_and_one_more_moves_none():
    channels = ("ticker", "trades", "book", "book5", "bbo", "candle-1m")
    subs = [f"{channel}:SIM{number:03}-USDT" for channel in channels for number in range(190)][:1000]

    async def scenario():
        async with Simulator("okx-v5", Settings(start_ms=START_MS)) as sim, stream(place(sim.url)) as streaming:
            await asyncio.gather(*(streaming.subscribe(sub, timeout=60) for sub in subs))
            carried = {connection: set(connection.subscriptions) for connection in sim.connections}
            requests = sim.counters.requests
            await streaming.subscribe("book:BTC-USDT", timeout=30)
            assert sim.counters.requests == requests + 1
            more = {key for one in sim.connections for key in set(one.subscriptions) ^ carried.get(one, set())}
            return requests, carried, more

    requests, carried, more = testing.run(scenario)
    assert requests < 480, "what one connection alone may ask for in an hour"
    assert sum(map(len, carried.values())) == len(subs)
    assert max(sum(key.startswith("books:") for key in keys) for keys in carried.values()) == 30
    assert more == {"books:instId=BTC-USDT"}

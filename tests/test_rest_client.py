"""REST: answers, refusals, and an exchange that is busy, slow, or talks nonsense; no faster than it allows."""

import asyncio
import gzip
import json
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from conftest import MARKERS
from hypothesis import given, settings
from hypothesis import strategies as st
from support import loops
from support.peers import Answer, Peer, certificate, http, silence, tcp

from okstream import testing, venues
from okstream.errors import ConfigError, RestError, RestRefusedError
from okstream.limiting import LIMITS, PATIENCE, WINDOW, Limiter
from okstream.rest import CAP, Rest, clock_offset
from okstream.simulator import Settings, Simulator
from okstream.simulator.v5_rest import PUBLIC
from okstream.venues import Venue

GOOD = {"code": "0", "msg": "", "data": [{"ts": "1597026383085"}]}
BUSY = {"code": "50011", "msg": "Too Many Requests", "data": []}


def place(url: str) -> Venue:
    return replace(venues.find("okx"), rest=url.replace("ws://", "http://"))


def client(url: str, **options: Any) -> Rest:
    return Rest(place(url), **{"wall_ns": testing.wall_ns, "chance": random.Random(1), **options})


def reply(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    """An answer of HTTP; what is not bytes becomes JSON."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", f"Content-Length: {len(content)}", "", ""])
    return head.encode() + content


def replies(*texts: bytes) -> Answer:
    """Answer the first request with the first text, and so on; from then on with the last."""

    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(texts[min(len(peer.heads), len(texts)) - 1])
        await silence(peer, reader, writer)

    return answer


def asked(answer: Answer, question: Callable[[Rest], Awaitable[Any]] = Rest.time, **options: Any) -> Any:
    """Ask a peer one question in virtual time; return the peer, what came of it, and the seconds it took."""

    async def scenario() -> Any:
        async with tcp(answer) as peer, client(peer.url, **options) as rest:
            try:
                outcome = await question(rest)
            except (RestError, RestRefusedError) as error:
                outcome = error
            return peer, outcome, asyncio.get_running_loop().time()

    return testing.run(scenario)


@asynccontextmanager
async def simulated(**changes: Any):
    chosen = Settings(start_ms=testing.START_NS // 1_000_000, **changes)
    async with Simulator(settings=chosen) as sim, client(sim.rest_url) as rest:
        yield sim, rest


# -- answers


def test_every_question_has_its_answer():
    async def scenario():
        async with simulated() as (_, rest):
            assert await rest.time() == testing.START_NS // 1_000_000
            assert "BTC-USDT" in [row["instId"] for row in await rest.instruments("SPOT")]
            assert {row["instFamily"] for row in await rest.instruments("OPTION", "BTC-USD")} == {"BTC-USD"}
            assert "BTC-USDT-SWAP" in [row["instId"] for row in await rest.tickers("SWAP")]
            assert (await rest.ticker("BTC-USDT"))["instId"] == "BTC-USDT"
            book = await rest.book("BTC-USDT", 7)
            assert [len(book[side]) for side in ("bids", "asks")] == [7, 7]
            assert all(isinstance(number, str) for number in book["bids"][0])
            assert len(await rest.trades("BTC-USDT", 1)) == 1

    testing.run(scenario)


def test_the_question_goes_out_as_the_exchange_reads_it():
    peer, _, _ = asked(replies(reply(GOOD)), lambda rest: rest.book("A/B C&D", 5))
    assert peer.heads[0].startswith("GET /api/v5/market/books?instId=A/B+C%26D&sz=5 HTTP/1.1\r\n")


def test_options_are_asked_for_by_family():
    async def scenario():
        async with client("http://127.0.0.1:1") as rest:
            with pytest.raises(ConfigError, match="for example BTC-USD"):
                await rest.instruments("OPTION")

    testing.run(scenario)


def test_compressed_answers_are_read():
    body = gzip.compress(orjson.dumps(GOOD))
    peer, outcome, _ = asked(replies(reply(body, "200 OK", "Content-Encoding: gzip")))
    assert outcome == 1597026383085
    assert "accept-encoding: gzip\r\n" in peer.heads[0].lower()


# -- refusals


@pytest.mark.parametrize(
    ("question", "code", "status"),
    [
        (lambda rest: rest.instruments("NO-SUCH"), "51000", 400),
        (lambda rest: rest.ticker("NO-SUCH"), "51001", 200),
        (lambda rest: rest.ticker(""), "50014", 400),
        (lambda rest: rest.book("BTC-USDT", 401), "51000", 400),
    ],
)
def test_a_refusal_carries_the_code_and_is_not_asked_again(question, code, status):
    async def scenario():
        async with simulated() as (sim, rest):
            with pytest.raises(RestRefusedError, match=rf"^okx: (public|market)/\w+: .* \({code}\)$") as caught:
                await question(rest)
            return caught.value, sim.counters.rest

    error, count = testing.run(scenario)
    assert (error.code, error.status, count) == (code, status, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 451])
def test_a_refusal_without_an_envelope_has_no_code(status):
    peer, error, _ = asked(http(f"{status} No"))
    assert (type(error), error.code, error.status, len(peer.heads)) == (RestRefusedError, None, status, 1)


def test_a_sub_code_stays_text():
    _, error, _ = asked(replies(reply({"code": "51004_1101", "msg": "No.", "data": []})))
    assert (type(error), error.code) == (RestRefusedError, "51004_1101")


def test_messages_fit_one_line():
    _, error, _ = asked(replies(reply({"code": "59999", "msg": "a\n\x1b[2J" + "b" * 1000})))
    assert str(error).isprintable()
    assert len(str(error)) < 300


def test_a_certificate_that_proves_nothing_is_a_refusal():
    async def scenario():
        theirs, ours = certificate()
        heads: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(reply(GOOD))
                await reader.read()
            writer.transport.abort()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=theirs)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            async with client(url, tls=ours) as rest:
                assert await rest.time() == 1597026383085
            async with client(url) as rest:
                with pytest.raises(RestRefusedError, match="does not prove who answers: "):
                    await rest.time()
        finally:
            server.close()
            await server.wait_closed()
        assert len(heads) == 1

    testing.run(scenario)


# -- busy


@pytest.mark.parametrize(
    "text",
    [
        reply(BUSY),
        reply(BUSY, "429 Too Many Requests"),
        reply(b"", "429 Too Many Requests"),
        reply({"code": "50013", "msg": "Systems are busy", "data": []}, "429 Busy"),
        reply({"code": "50001", "msg": "", "data": []}, "503 Unavailable"),
        reply({"code": "50004", "msg": "", "data": []}, "400 Timeout"),
        reply({"code": "50026", "msg": "", "data": []}, "500 Error"),
        reply({"code": "0", "msg": "", "data": []}, "500 Error"),
        reply(b"<html>", "502 Bad Gateway"),
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ],
    ids=range(12),
)
def test_what_passes_is_asked_again_and_again_but_not_for_ever(text):
    async def hang_up(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(GOOD) if len(peer.heads) == left else text)
        await writer.drain()

    left = 5
    peer, outcome, took = asked(hang_up)
    assert (outcome, len(peer.heads)) == (1597026383085, 5)
    left = 6
    peer, outcome, took = asked(hang_up)
    assert (type(outcome), len(peer.heads)) == (RestError, 5)
    assert str(outcome).startswith("okx: public/time: ")
    assert 0 < took < 15


def test_the_last_code_is_told():
    _, error, _ = asked(replies(reply(BUSY, "429 Slow Down")))
    assert (error.code, error.status, str(error)) == ("50011", 429, "okx: public/time: Too Many Requests (50011)")


@pytest.mark.parametrize(
    ("asks", "least"), [("7", 7.0), ("Thu, 01 Jan 2026 00:00:20 GMT", 20.0), ("nonsense", 0.0), ("-5", 0.0)]
)
def test_we_come_back_when_we_are_told_to(asks, least):
    busy = reply(BUSY, "429 Slow Down", f"Retry-After: {asks}")
    peer, outcome, _ = asked(replies(busy, reply(GOOD)))
    assert outcome == 1597026383085
    first, second = peer.times
    assert least <= second - first < least + 1


def test_whoever_wants_to_be_left_alone_for_long_is():
    """The question is given up at once, and the next ones are not even sent; other endpoints are."""

    async def scenario():
        texts = reply(BUSY, "429 Slow Down", "Retry-After: 600"), reply(GOOD)
        async with tcp(replies(*texts)) as peer, client(peer.url) as rest:
            with pytest.raises(RestError, match="Too Many Requests"):
                await rest.time()
            with pytest.raises(RestError, match="left alone for another 600 s"):
                await rest.time()
            assert len(peer.heads) == 1
            await rest.ticker("BTC-USDT")
            await asyncio.sleep(600 - PATIENCE)
            await rest.time()
            assert peer.times[-1] == pytest.approx(600)

    testing.run(scenario)


def test_being_told_to_wait_holds_back_what_comes_after():
    async def scenario():
        texts = reply(BUSY, "429 Slow Down", "Retry-After: 5"), reply(GOOD)
        async with tcp(replies(*texts)) as peer, client(peer.url) as rest:
            first = asyncio.create_task(rest.time())
            await asyncio.sleep(1)
            await asyncio.gather(first, rest.time(), rest.time())
            return peer.times

    times = testing.run(scenario)
    assert times[0] == 0
    assert min(times[1:]) == pytest.approx(5)


def test_silence_is_waited_for_but_not_for_ever():
    peer, error, took = asked(silence)
    assert str(error) == "okx: public/time: no answer within 10 s"
    assert len(peer.heads) == 5
    assert 50 <= took < 65


def test_where_nobody_listens_is_said():
    async def scenario():
        async with tcp(silence) as peer:
            url = peer.url
        async with client(url) as rest:
            with pytest.raises(RestError, match=r"cannot reach it: Connection refused$"):
                await rest.time()

    testing.run(scenario)


# -- nonsense


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (reply(b""), "without an answer that can be read"),
        (reply(b"<html>"), "without an answer that can be read"),
        (reply(b"[" * 100_000), "without an answer that can be read"),
        (reply([]), "without an answer that can be read"),
        (reply({"data": [{"ts": "1"}]}), "without an answer that can be read"),
        (reply({"code": 0, "data": [{"ts": "1"}]}), "without an answer that can be read"),
        (reply(b"", "302 Found", "Location: http://127.0.0.1:1/"), "HTTP 302"),
        (reply({"code": "0", "data": None}), "no rows"),
        (reply({"code": "0"}), "no rows"),
        (reply({"code": "0", "data": [1]}), "no rows"),
        (reply({"code": "0", "data": []}), "empty"),
        (reply({"code": "0", "data": [{}]}), "no time"),
        (reply({"code": "0", "data": [{"ts": 1}]}), "no time"),
        (reply({"code": "0", "data": [{"ts": "-1"}]}), "no time"),
        (reply(b"x" * (CAP + 1)), "longer than"),
        (reply(b"{}", "200 OK", "Content-Encoding: br"), "compressed as 'br'"),
        (reply(b"{}", "200 OK", "Content-Encoding: gzip"), "not gzip"),
        (reply(gzip.compress(b"{}")[:-5], "200 OK", "Content-Encoding: gzip"), "ends before"),
        (reply(gzip.compress(bytes(CAP + 1)), "200 OK", "Content-Encoding: gzip"), "inflates to more"),
    ],
    ids=range(19),
)
def test_nonsense_is_one_error_and_not_asked_for_again(text, says):
    peer, error, _ = asked(replies(text))
    assert type(error) is RestError
    assert says in str(error)
    assert len(peer.heads) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CODES = st.sampled_from(["0", "1", "50011", "50013", "51000", "51001", ""])
ENVELOPES = st.fixed_dictionaries({}, optional={"code": CODES | JSON, "msg": JSON, "data": st.lists(JSON) | JSON})
QUESTIONS = st.sampled_from(
    [Rest.time, lambda r: r.ticker("A-B"), lambda r: r.instruments("SPOT"), lambda r: r.trades("A-B")]
)


@settings(max_examples=60)
@given(
    st.integers(200, 599),
    (ENVELOPES | JSON).map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=50),
    QUESTIONS,
)
def test_whatever_body_comes_the_answer_is_rows_or_a_declared_error(status, body, question):
    _, outcome, _ = asked(replies(reply(body, f"{status} Whatever")), question, attempts=2)
    assert isinstance(outcome, int | list | dict | RestError | RestRefusedError)


@settings(max_examples=60)
@given(st.binary(max_size=60) | st.binary(max_size=60).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_whatever_bytes_come_the_answer_is_a_declared_error(text):
    async def hang_up(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    _, outcome, _ = asked(hang_up, attempts=2)
    assert isinstance(outcome, RestError | RestRefusedError)


# -- the pace


def most_within(times: list[float], seconds: float) -> int:
    """Return how many of `times` fall into the fullest window."""
    ordered = sorted(times)
    return max(sum(begin <= time < begin + seconds for time in ordered) for begin in ordered)


@settings(max_examples=30)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 4), st.floats(0, 1)), min_size=1, max_size=25),
)
def test_the_limit_holds_whenever_the_exchange_counts(most, requests):
    """Each request starts after a pause, lasts a while, and is counted somewhere in between."""
    counted: list[float] = []
    order: list[int] = []

    async def scenario() -> None:
        limiter, loop = Limiter(most), asyncio.get_running_loop()

        async def one(number: int, lasts: float, share: float) -> None:
            async with limiter:
                order.append(number)
                counted.append(loop.time() + lasts * share)
                await asyncio.sleep(lasts)

        async with asyncio.TaskGroup() as group:
            for number, (pause, lasts, share) in enumerate(requests):
                await asyncio.sleep(pause)
                group.create_task(one(number, lasts, share))

    testing.run(scenario)
    assert order == list(range(len(requests)))
    assert most_within(counted, WINDOW) <= most


def test_who_gives_up_waiting_keeps_no_place():
    async def scenario():
        limiter, loop = Limiter(1), asyncio.get_running_loop()
        async with limiter:
            limiter.shut(10)

        async def turn() -> float:
            async with limiter:
                return loop.time()

        turns = [asyncio.create_task(turn()) for _ in range(3)]
        await asyncio.sleep(5)
        turns[0].cancel()
        await asyncio.sleep(0)
        turns[1].cancel()
        return await turns[2]

    assert testing.run(scenario) == pytest.approx(10)


def test_who_came_first_goes_first_after_a_pause_too():
    order: list[int] = []

    async def scenario() -> None:
        limiter = Limiter(100)
        limiter.shut(10)

        async def turn(number: int) -> None:
            async with limiter:
                order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(turn(number))
                await asyncio.sleep(0.1)

    testing.run(scenario)
    assert order == list(range(50))


def test_the_exchange_never_says_too_many():
    """Its own limits are on; a client that exceeded one would get 50011 and ask once more."""

    async def scenario():
        async with simulated() as (sim, rest):
            loop = asyncio.get_running_loop()
            begun = loop.time()
            await asyncio.gather(*[rest.time() for _ in range(35)], *[rest.ticker("BTC-USDT") for _ in range(45)])
            return sim.counters.rest, loop.time() - begun

    count, took = testing.run(scenario)
    assert count == 80
    assert 6 <= took < 7


def test_kinds_of_instruments_count_apart():
    async def scenario():
        async with tcp(replies(reply({"code": "0", "data": []}))) as peer, client(peer.url) as rest:
            kinds = ["SPOT", "SWAP", "FUTURES"]
            await asyncio.gather(*[rest.instruments(kind) for kind in kinds for _ in range(20)])
            return peer.times

    times = testing.run(scenario)
    assert (len(times), max(times)) == (60, 0)


def test_the_table_is_that_of_the_simulated_exchange():
    assert {endpoint: most for endpoint, (most, _) in LIMITS.items()}.items() <= PUBLIC.items()


# -- where, and until when


@pytest.mark.parametrize("venue", [replace(venues.find("okx"), rest=None), venues.find("okex-v3"), place("")])
def test_a_venue_without_rest_is_a_mistake(venue):
    with pytest.raises(ConfigError, match="patterns need a venue with REST"):
        Rest(venue)


def test_the_rest_of_another_generation_is_not_asked():
    with pytest.raises(ConfigError):
        Rest(venues.simulated("okex-v3", "ws://127.0.0.1:1", "http://127.0.0.1:1"))


@pytest.mark.parametrize(("rest", "proxy"), [("ftp://127.0.0.1", None), ("http://[", "socks5://127.0.0.1:1080")])
def test_what_cannot_be_dialled_is_a_mistake(rest, proxy):
    with pytest.raises(ConfigError):
        Rest(place(rest), proxy=proxy)


def test_a_proxy_is_used():
    async def scenario():
        async with tcp(replies(reply(GOOD))) as peer:
            async with client("http://exchange.invalid", proxy=f"http://127.0.0.1:{peer.port}") as rest:
                await rest.time()
            return peer.heads

    assert testing.run(scenario)[0].startswith("GET http://exchange.invalid/api/v5/public/time HTTP/1.1\r\n")


def test_no_secret_of_a_url_is_told(caplog):
    caplog.set_level(logging.DEBUG)
    user = f"{MARKERS[0]}:{MARKERS[1]}@"
    said: list[str] = []

    async def scenario():
        async with tcp(silence) as peer:
            closed = f"http://{user}127.0.0.1:{peer.port}"
        for options in ({"rest": closed}, {"rest": "http://exchange.invalid", "proxy": closed}):
            venue = replace(venues.find("okx"), rest=options["rest"])
            async with Rest(venue, proxy=options.get("proxy")) as rest:
                with pytest.raises(RestError) as caught:
                    await rest.time()
                said.extend([str(caught.value), repr(caught.value), repr(rest)])
            await clock_offset(venue, testing.wall_ns, options.get("proxy"))

    testing.run(scenario)
    assert "cannot be asked" in caplog.text
    assert not [secret for secret in MARKERS if secret in caplog.text + "".join(said)]


def test_closing_ends_what_waits():
    async def scenario():
        async with tcp(silence) as peer:
            rest = client(peer.url)
            waiting = asyncio.create_task(rest.time())
            await asyncio.sleep(1)
            await rest.close()
            with pytest.raises(RestError):
                await waiting
            with pytest.raises(RestError, match="closed"):
                await rest.time()
            await rest.close()
            assert len(peer.heads) == 1

    testing.run(scenario)


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_nothing_is_left_behind(loop):
    async def scenario():
        async with Simulator() as sim, Rest(place(sim.rest_url)) as rest:
            await asyncio.gather(rest.time(), rest.ticker("BTC-USDT"), rest.instruments("SPOT"))
        async with tcp(silence) as peer, Rest(place(peer.url), timeout=0.05, attempts=2) as rest:
            with pytest.raises(RestError):
                await rest.time()

    loops.run(loop, scenario)


# -- the clock


@pytest.mark.parametrize(("offset", "said"), [(0.0, ""), (300.0, "300.0 s behind"), (-300.0, "300.0 s ahead of")])
def test_the_exchanges_clock_is_measured(offset, said, caplog):
    async def scenario():
        async with simulated(clock_offset=offset) as (sim, _):
            return await clock_offset(place(sim.rest_url), testing.wall_ns)

    assert testing.run(scenario) == offset * 1000
    assert said in caplog.text


def test_a_clock_that_cannot_be_asked_is_taken_to_be_ours(caplog):
    async def scenario():
        loop = asyncio.get_running_loop()
        assert await clock_offset(replace(venues.find("okx"), rest=None), testing.wall_ns) == 0
        assert await clock_offset(venues.find("okex-v3"), testing.wall_ns) == 0
        assert not of_rest()
        async with tcp(silence) as peer:
            assert await clock_offset(place(peer.url), testing.wall_ns) == 0
            assert (len(peer.heads), loop.time()) == (1, 5)
        assert await clock_offset(place(peer.url), testing.wall_ns, "socks5://127.0.0.1:1") == 0

    def of_rest() -> list[str]:
        return [record.levelname for record in caplog.records if record.name == "okstream.rest"]

    testing.run(scenario)
    assert of_rest() == ["WARNING"] * 2

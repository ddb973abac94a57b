"""The front door as a program meets it: against the simulated exchange, over real sockets."""

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from support.loops import LOOPS, run
from support.peers import http, silence, tcp

import okstream
from okstream import ConfigError, Credentials, SinkError, Stream, SubscriptionRefusedError, testing, venues
from okstream.channels import Subscription
from okstream.daemon import serve
from okstream.entries import Entry
from okstream.errors import RefusedError
from okstream.exits import REFUSED
from okstream.options import LaneOptions
from okstream.records import Gap, Status, Ticker
from okstream.simulator import TEST_ACCOUNT, Account, Settings, Simulator
from okstream.sinks.lines import Lines
from okstream.venues import Venue

START_MS = testing.START_NS // 1_000_000
SECOND = Account("second", "second-key-0002", "second-secret", "second-passphrase")
CREDENTIALS = {
    account.name: Credentials(account.key, account.secret, account.passphrase) for account in (TEST_ACCOUNT, SECOND)
}
BTC, ETH = "ticker:BTC-USDT", "ticker:ETH-USDT"

both = pytest.mark.parametrize("loop", LOOPS)


class Sink:
    """Keeps lines; fails where told to."""

    def __init__(self, fail: str = "") -> None:
        self.fail = fail
        self.lines: list[bytes] = []
        self.closed = 0

    async def open(self) -> None:
        if self.fail == "open":
            raise SinkError("cannot open")

    async def write(self, batch: Sequence[Entry]) -> None:
        assert not self.closed
        if self.fail == "write":
            raise SinkError("cannot write")
        self.lines += [entry.line for entry in batch]

    async def close(self) -> None:
        self.closed += 1


def place(sim: Simulator, name: str = "okx", dialect: str = "okx-v5") -> Venue:
    return replace(venues.simulated(dialect, sim.url, sim.rest_url), name=name)


def exchange(**settings: Any) -> Simulator:
    return Simulator("okx-v5", Settings(start_ms=START_MS, accounts=(TEST_ACCOUNT, SECOND), **settings))


def stream(venue: Venue | str, **options: Any) -> Stream:
    return Stream(venue, **{"wall_ns": testing.wall_ns, "chance": random.Random(1), **options})


async def cut(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def virtually(scenario: Callable[[Simulator, Stream], Any], **options: Any) -> Any:
    """Run `scenario` with a simulated exchange and an open stream to it, in virtual time."""

    async def whole() -> Any:
        async with exchange() as sim, stream(place(sim), **options) as streaming:
            return await scenario(sim, streaming)

    return testing.run(whole)


# -- subscribing


@both
def test_the_readmes_first_program(loop):
    async def scenario():
        async with okstream.Stream("sim") as streaming:
            assert [str(sub) for sub in await streaming.subscribe("ticker", "BTC-USDT", "ETH-USDT")] == [BTC, ETH]
            await streaming.subscribe("orders")
            first = await anext(aiter(streaming))
            async for record in streaming:
                if isinstance(record, Ticker):
                    break
            assert isinstance(first, Status)
            assert first.state == "started"
            assert {state.state for state in streaming.state().subscriptions} == {"live"}
            stats = streaming.stats()
            assert (stats.links, stats.links_wanted, stats.open_gaps, stats.dropped) == (2, 2, 0, 0)

    run(loop, scenario)


def test_a_subscription_is_acknowledged_across_a_drop():
    async def scenario(sim, streaming):
        sim.inject("slow-ack:seconds=5")
        asked = asyncio.create_task(streaming.subscribe(BTC))
        await asyncio.sleep(3)
        assert not asked.done()
        sim.inject("drop")
        await asked
        return sim.counters.faults, streaming.state().subscriptions[0].subscription, sim.counters.connections

    faults, sub, connections = virtually(scenario)
    assert (faults["drop"], faults["slow-ack"], connections) == (1, 1, 2)
    assert str(sub) == BTC


def test_a_refusal_says_what_and_why_and_the_others_live_on():
    async def scenario(sim, streaming):
        with pytest.raises(SubscriptionRefusedError, match=r"ticker:NO-SUCH.*ticker:NOR-THIS") as refusal:
            await streaming.subscribe("ticker", "NO-SUCH", "BTC-USDT", "NOR-THIS", timeout=60)
        assert refusal.value.code == "60018"
        with pytest.raises(SubscriptionRefusedError):  # asked again, not remembered
            await streaming.subscribe("ticker:NO-SUCH", timeout=60)
        return [(str(state.subscription), state.state) for state in streaming.state().subscriptions]

    assert virtually(scenario) == [(BTC, "live")]


def test_all_who_wait_for_the_same_hear_of_its_refusal():
    async def scenario(sim, streaming):
        tasks = [asyncio.create_task(streaming.subscribe("ticker:NO-SUCH")) for _ in range(3)]
        return await asyncio.gather(*tasks, return_exceptions=True), streaming.state().subscriptions

    answers, state = virtually(scenario)
    assert [type(answer) for answer in answers] == [SubscriptionRefusedError] * 3
    assert state == []


def test_no_answer_in_time_leaves_nothing_wanted():
    async def scenario(sim, streaming):
        sim.inject("slow-ack:seconds=60")
        with pytest.raises(TimeoutError, match="ticker:BTC-USDT: no answer from okx within 2 s"):
            await streaming.subscribe(BTC, timeout=2)
        assert streaming.state().subscriptions == []
        await asyncio.sleep(120)
        return [connection.subscriptions for connection in sim.connections]

    assert virtually(scenario) == [{}]


def test_one_who_loses_patience_takes_nothing_from_another():
    async def scenario(sim, streaming):
        sim.inject("slow-ack:seconds=5")
        patient = asyncio.create_task(streaming.subscribe(BTC))
        with pytest.raises(TimeoutError):
            await streaming.subscribe(BTC, timeout=1)
        await patient
        return [str(state.subscription) for state in streaming.state().subscriptions]

    assert virtually(scenario) == [BTC]


def test_the_same_twice_is_asked_once():
    async def scenario(sim, streaming):
        one, two = await asyncio.gather(streaming.subscribe(BTC), streaming.subscribe("ticker", "BTC-USDT"))
        three = await streaming.subscribe(Subscription("ticker", "BTC-USDT"))
        assert one == two == three
        return sim.counters.requests

    assert virtually(scenario) == 1


def test_what_is_the_same_to_the_exchange_is_not_asked_twice():
    async def scenario(sim, streaming):
        await streaming.subscribe("orders")
        with pytest.raises(ConfigError, match="same to the exchange as orders"):
            await streaming.subscribe("orders:instType=ANY", timeout=5)
        return len(streaming.state().subscriptions)

    assert virtually(scenario, accounts=CREDENTIALS["test"]) == 1


def test_unsubscribing_while_running():
    async def scenario(sim, streaming):
        await streaming.subscribe(BTC)
        await streaming.subscribe(ETH)
        with pytest.raises(ConfigError, match="not subscribed"):
            await streaming.unsubscribe("ticker", "BTC-USDT", "SOL-USDT")
        assert len(streaming.state().subscriptions) == 2, "all or nothing"
        await streaming.unsubscribe(BTC)
        await asyncio.sleep(2)
        (connection,) = sim.connections
        assert set(connection.subscriptions) == {"tickers:instId=ETH-USDT"}
        await streaming.subscribe(BTC, timeout=10)
        return {str(state.subscription): state.state for state in streaming.state().subscriptions}

    assert virtually(scenario) == {BTC: "live", ETH: "live"}


def ended(sim: Simulator, inst: str) -> None:
    """The exchange ends one ticker by itself."""
    (connection,) = sim.connections
    sim._talks[connection.id].say({"event": "unsubscribe", "arg": {"channel": "tickers", "instId": inst}})


def test_what_is_refused_later_is_logged_and_its_gap_ends_when_it_is_asked_anew(caplog):
    async def scenario(sim, streaming):
        reading = aiter(streaming)
        await streaming.subscribe(BTC)
        await asyncio.sleep(3)
        ended(sim, "BTC-USDT")
        await asyncio.sleep(3)
        assert [(state.state, state.gap.reason) for state in streaming.state().subscriptions] == [
            ("refused", "refused")
        ]
        await streaming.subscribe(BTC, timeout=10)
        await asyncio.sleep(3)
        await streaming.close()
        return [record async for record in reading if record.channel == "ticker"]

    said = virtually(scenario)
    told = [(record.state, getattr(record, "reason", None)) for record in said if isinstance(record, Gap | Status)]
    assert told == [
        ("live", None), ("open", "refused"), ("refused", None), ("closed", "refused"), ("ended", None), ("live", None),
    ]  # fmt: skip
    opened, closed = (record for record in said if isinstance(record, Gap))
    assert (closed.gap, closed.after_ts, closed.until) == (opened.gap, opened.after_ts, None)
    (logged,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert logged == "okx: ticker:BTC-USDT is no longer served: the exchange ended this subscription by itself"


def test_what_is_refused_for_a_while_goes_on_by_itself(caplog):
    async def scenario(sim, streaming):
        reading = aiter(streaming)
        await streaming.subscribe("ticker", "BTC-USDT", "ETH-USDT")
        await asyncio.sleep(3)
        sim.inject("refuse:channel=tickers,inst=BTC-USDT,times=2")
        ended(sim, "BTC-USDT")
        await asyncio.sleep(240)
        refused = sim.counters.faults["refuse"]
        states = {state.state for state in streaming.state().subscriptions}
        await streaming.close()
        return refused, states, [record async for record in reading if record.inst == "BTC-USDT"]

    refused, states, said = virtually(scenario)
    assert (refused, states) == (2, {"live"})
    told = [(record.state, getattr(record, "reason", None)) for record in said if isinstance(record, Gap | Status)]
    assert told == [("live", None), ("open", "refused"), ("refused", None), ("closed", "refused"), ("live", None)]
    assert caplog.text.count("no longer served") == 1


def test_once_everything_is_refused_that_can_be_waited_for():
    async def scenario(sim, streaming):
        await streaming.subscribe("ticker", "BTC-USDT", "ETH-USDT")
        waiting = asyncio.create_task(streaming.refused())
        ended(sim, "BTC-USDT")
        await asyncio.sleep(5)
        assert not waiting.done()
        ended(sim, "ETH-USDT")
        await asyncio.wait_for(waiting, 5)

    virtually(scenario)


def test_a_daemon_ends_when_nothing_is_left_that_is_not_refused(capsys):
    async def scenario():
        read, write = os.pipe()
        try:
            async with exchange() as sim:
                sink = Lines(write, "pipe")
                streaming = Stream(place(sim), sinks=[sink])
                serving = asyncio.create_task(
                    serve(streaming, [(Subscription("ticker", "BTC-USDT"), None)], reader_gone=sink.reader_gone)
                )
                for _ in range(1000):
                    await asyncio.sleep(0.01)
                    if [state.state for state in streaming.state().subscriptions] == ["live"]:
                        break
                ended(sim, "BTC-USDT")
                return await asyncio.wait_for(serving, 10)
        finally:
            os.close(read)
            os.close(write)

    assert asyncio.run(scenario()) == REFUSED
    assert "nothing is left that the exchange serves" in capsys.readouterr().err


def test_what_cannot_be_read_or_is_unknown_is_counted_over_all_connections(caplog):
    async def scenario(sim, streaming):
        await streaming.subscribe(BTC)
        for _ in range(2):
            sim.inject("unknown-event")
            sim.inject("malformed")
            sim.inject("notice:lead=2")
            await asyncio.sleep(20)
        return streaming.stats(), sim.counters.connections

    stats, connections = virtually(scenario)
    assert (stats.unknown, stats.unreadable, connections) == (2, 2, 3)
    notices = [record.getMessage() for record in caplog.records if "will soon be closed" in record.getMessage()]
    assert [text[:35] for text in notices] == [
        "okx public: 0 s after connecting: T",
        "okx public: 20 s after connecting: ",
    ]


def test_a_gap_that_is_logged_counts_what_was_asked_for(caplog):
    """The channel whose silence tells that this one is cut off has a gap, too, which is nobody's."""

    async def scenario(sim, streaming):
        await streaming.subscribe("orders")
        await asyncio.sleep(5)
        sim.inject("drop")
        await asyncio.sleep(20)

    virtually(scenario, accounts=CREDENTIALS[TEST_ACCOUNT.name])
    gaps = [record.getMessage().partition(": ")[2] for record in caplog.records if "(disconnected)" in record.message]
    assert gaps == ["something may be missing (disconnected) in orders", "the gap has ended (disconnected) in orders"]


def test_the_state_tells_what_a_gap_would_begin_after():
    async def scenario(sim, streaming):
        await streaming.subscribe(BTC)
        await streaming.subscribe("trades:BTC-USDT")
        await streaming.subscribe("book:BTC-USDT")
        await asyncio.sleep(5)
        before = {state.subscription.channel: state.last_id for state in streaming.state().subscriptions}
        sim.inject("drop")
        await asyncio.sleep(0.01)
        return before, {
            state.subscription.channel: state.gap.after for state in streaming.state().subscriptions if state.gap
        }

    last, after = virtually(scenario)
    assert last["ticker"] is None
    assert last["trades"].isdecimal()
    assert isinstance(last["book"], int)
    assert last == after


def test_an_instance_is_one_of_very_many():
    async def scenario(sim, streaming):
        return (await anext(aiter(streaming))).detail["instance"]

    assert len(virtually(scenario)) == 8


def test_unsubscribing_from_what_another_task_waits_for_ends_its_wait():
    async def scenario(sim, streaming):
        sim.inject("slow-ack:seconds=9")
        asked = asyncio.create_task(streaming.subscribe(BTC))
        await asyncio.sleep(1)
        await streaming.unsubscribe(BTC)
        with pytest.raises(RuntimeError, match="unsubscribed"):
            await asked
        return streaming.state().subscriptions

    assert virtually(scenario) == []


def test_closing_ends_every_wait():
    async def scenario(sim, streaming):
        sim.inject("slow-ack:seconds=9")
        asked = asyncio.create_task(streaming.subscribe(BTC))
        waiting = asyncio.create_task(streaming.wait())
        reading = asyncio.create_task(_all(streaming))
        await asyncio.sleep(1)
        await streaming.close()
        with pytest.raises(RuntimeError, match="not open"):
            await asked
        await waiting
        return [record.state for record in await reading if isinstance(record, Status)]

    said = virtually(scenario)
    assert (said[0], said[-1]) == ("started", "ended")


async def _all(streaming: Stream) -> list[Any]:
    return [record async for record in streaming]


def test_a_stream_is_opened_once():
    async def scenario(sim, streaming):
        with pytest.raises(RuntimeError, match="once"):
            await streaming.__aenter__()
        await streaming.close()
        with pytest.raises(RuntimeError, match="once"):
            await streaming.__aenter__()
        with pytest.raises(RuntimeError, match="not open"):
            await streaming.subscribe(BTC)
        await streaming.close()
        unopened = stream(place(sim))
        with pytest.raises(RuntimeError, match="not open"):
            await anext(aiter(unopened))

    virtually(scenario)


# -- several venues and accounts


def test_two_exchanges_and_two_accounts_in_one_stream():
    async def scenario():
        async with (
            exchange() as one,
            exchange(seed=2) as other,
            stream(place(one, "one"), accounts=CREDENTIALS) as streaming,
        ):
            await streaming.subscribe(BTC)
            await streaming.subscribe(BTC, venue=place(other, "other"))
            await streaming.subscribe("orders", account="test")
            await streaming.subscribe("orders", account="second")
            await streaming.subscribe(Subscription("account"), account="second", venue=place(other, "other"))
            with pytest.raises(ConfigError, match="another venue is called 'one'"):
                await streaming.subscribe(ETH, venue=place(other, "one"))
            assert {c.login for c in one.connections} == {None, "test", "second"}
            assert {c.login for c in other.connections} == {None, "second"}
            return {
                (state.venue, str(state.subscription), state.subscription.account)
                for state in streaming.state().subscriptions
            }

    assert testing.run(scenario) == {
        ("one", BTC, None), ("other", BTC, None), ("one", "orders", "test"), ("one", "orders", "second"),
        ("other", "account", "second"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "options", "said"),
    [
        (("orders",), {}, "needs an account; give its credentials"),
        (("orders",), {"accounts": CREDENTIALS}, "say which of test, second"),
        (("orders", {"account": "tset"}), {"accounts": CREDENTIALS}, r"no account 'tset'.*Did you mean 'test'"),
        (("tickers:BTC-USDT",), {}, "'ticker'"),
        (("ticker",), {}, "wants an instrument"),
        (("ticker:BTC-USDT", "ETH-USDT"), {}, "names its items already"),
        ((Subscription("ticker", "BTC-USDT"), "ETH-USDT"), {}, "whole subscription"),
        (("ticker", ["BTC-USDT", "ETH-USDT"]), {}, r"^\['BTC-USDT', 'ETH-USDT'\] is no text; write each by itself"),
        ((None,), {}, "^None is no text"),
        ((BTC, {"venue": "okkx"}), {}, "There are: .*okx"),
    ],
)
def test_what_cannot_be_asked_for_names_what_can(asked, options, said):
    async def scenario(sim, streaming):
        more = asked[-1] if isinstance(asked[-1], dict) else {}
        with pytest.raises(ConfigError, match=said):
            await streaming.subscribe(*[one for one in asked if not isinstance(one, dict)], **more, timeout=5)
        assert streaming.state().subscriptions == []
        return sim.counters.connections

    assert virtually(scenario, **options) == 0


def test_a_stream_that_cannot_be_says_what_there_is():
    with pytest.raises(ConfigError, match=r"no venue 'okxx'.*okx"):
        Stream("okxx")
    with pytest.raises(ConfigError, match=r"no dialect 'v5'.*okx-v5"):
        Stream("sim", dialect="v5")
    with pytest.raises(ConfigError, match="in this process"):
        Stream("sim", url="ws://127.0.0.1:1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sinks": [Lines]}, "'Lines' is no sink: that is an object with open, write, close"),
        ({"sinks": "stdout"}, "'str' is no sink"),
        ({"sinks": [LaneOptions()]}, "'LaneOptions' is no sink"),
        ({"journal": "folder"}, r"journal: 'folder' is none; make one with okstream\.Journal"),
        ({"local": ["eth0"]}, "local: 'eth0' is no address"),
        ({"local": "192.0.2.1"}, "local: '1' is no address; write a list"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named_before_anything_is_opened(options, said):
    with pytest.raises(ConfigError, match=said):
        Stream("sim", **options)


@pytest.mark.parametrize("name", ["okex-v3", "okcoin-v3", "okex-v1", "okcoin-v1"])
def test_a_venue_that_was_switched_off_wants_another_place(name):
    sub = Subscription("ticker", "BTC-USDT")
    with pytest.raises(ConfigError, match=f"{name} was switched off"):
        Stream(name).check(sub)
    Stream(name, url="ws://127.0.0.1:1").check(sub)


@pytest.mark.parametrize("name", ["okx", "okex-v3"])
def test_a_login_that_needs_a_passphrase_is_not_tried_without(name):
    streaming = Stream(name, url="ws://127.0.0.1:1", accounts=Credentials("key", "secret"))
    with pytest.raises(ConfigError, match="passphrase"):
        streaming.check(Subscription("orders", "BTC-USDT" if name == "okex-v3" else None))


# -- errors and sinks


def test_errors_arrive_unwrapped_and_leave_nothing_unretrieved():
    async def scenario():
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with tcp(http("403 No")) as peer:
            venue = replace(venues.simulated("okx-v5", peer.url, ""), rest=None)
            with pytest.raises(RefusedError) as error:
                async with stream(venue) as streaming:
                    await streaming.subscribe("ticker", "BTC-USDT", "ETH-USDT", "SOL-USDT")
        assert type(error.value) is RefusedError
        return complaints

    assert testing.run(scenario) == []


@pytest.mark.parametrize("fail", ["open", "write"])
def test_a_sink_that_fails_is_an_error_to_whoever_waits_if_it_was_the_last(fail):
    async def scenario():
        sink = Sink(fail)
        async with exchange() as sim:
            with pytest.raises(SinkError, match=f"cannot {fail}"):
                async with stream(place(sim), sinks=[sink]) as streaming:
                    await streaming.wait()
        assert sink.closed == 1

    testing.run(scenario)


def test_a_sink_that_fails_harms_no_other():
    async def scenario(sim, streaming):
        await streaming.subscribe(BTC)
        await asyncio.sleep(5)
        return [(each.name, each.state, each.detail, each.lost > 0) for each in streaming.state().sinks]

    sink, other = Sink("write"), Sink()
    assert virtually(scenario, sinks=[sink, other]) == [
        ("sink", "failed", "cannot write", False),
        ("sink-2", "ok", None, False),
    ]
    assert sum(b'"type":"ticker"' in line for line in other.lines) > 3
    assert (sink.closed, other.closed) == (1, 1)


def test_iterating_takes_nothing_from_a_sink():
    async def scenario(sim, streaming):
        reading = asyncio.create_task(_all(streaming))
        await streaming.subscribe(BTC)
        await asyncio.sleep(5)
        await streaming.close()
        return [record for record in await reading if isinstance(record, Ticker)]

    sink = Sink()
    read = virtually(scenario, sinks=[sink])
    assert len(read) > 3
    assert len(read) == sum(b'"type":"ticker"' in line for line in sink.lines)
    assert sink.closed == 1


def test_raw_sinks_leave_nothing_to_iterate_over():
    async def scenario(sim, streaming):
        with pytest.raises(ConfigError, match="raw"):
            await anext(aiter(streaming))
        with pytest.raises(ConfigError, match="`instruments` would need its records"):
            await streaming.add_sink(Sink(), LaneOptions(form="raw", instruments=("BTC-*",)))

    virtually(scenario, sinks=[(Sink(), LaneOptions(form="raw"))])


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside records"])
def test_a_raw_sink_gets_messages_of_its_instruments_whatever_other_sinks_there_are(beside: bool):
    async def scenario(sim, streaming):
        await streaming.subscribe("liquidations:instType=SWAP")
        await asyncio.sleep(60)

    chosen, whole = Sink(), Sink()
    sinks: list[Any] = [(chosen, LaneOptions(name="chosen", form="raw", instruments=("BTC-*-SWAP",)))]
    virtually(scenario, sinks=[*sinks, *[(whole, LaneOptions())] * beside])
    insts = {row["instId"] for line in chosen.lines for row in orjson.loads(line).get("data", ())}
    assert insts == {"BTC-USDT-SWAP"}


def test_what_was_lost_is_counted_once():
    async def scenario(sim, streaming):
        await streaming.subscribe(BTC)
        await asyncio.sleep(5)
        await streaming.close()
        first = streaming.lost
        await streaming.close()
        return first, streaming.lost

    first, second = virtually(scenario, lane_bytes=1, sinks=[Sink()])
    assert first == second > 0


def test_a_sink_that_outlasts_the_deadline_is_not_closed_while_it_writes():
    class Slow(Sink):
        async def write(self, batch: Sequence[Entry]) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                assert not self.closed
                self.lines += [entry.line for entry in batch]

    async def scenario(sim, streaming):
        await streaming.subscribe(BTC)
        await asyncio.sleep(2)
        began = asyncio.get_running_loop().time()
        await streaming.close(drain=7)
        return asyncio.get_running_loop().time() - began, streaming.lost

    sink = Slow()
    took, lost = virtually(scenario, sinks=[sink])
    assert took == pytest.approx(7, abs=0.5)
    assert lost > 0
    assert (bool(sink.lines), sink.closed) == (True, 1)


# -- cancelled anywhere, on both loops, in real time


async def _owner(venue: Venue | str, **options: Any) -> None:
    async with Stream(venue, **options) as streaming:
        await streaming.subscribe(BTC)
        await streaming.subscribe("orders")
        async for _ in streaming:
            pass


@both
def test_cancelled_at_any_moment_nothing_is_left(loop):
    """From before the first packet, through handshake, login and requests, to the reading."""

    async def scenario():
        settings = Settings(connects_per_second=None, requests_per_hour=None, rate=0.2)
        async with Simulator("okx-v5", settings) as sim:
            known = asyncio.all_tasks()
            for rounds in (*range(24), *range(24, 120, 8)):
                owner = asyncio.create_task(_owner(place(sim, "sim"), accounts=CREDENTIALS["test"]))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                await cut(owner)
                left = [task for task in asyncio.all_tasks() - known if "okstream" in task.get_name()]
                assert left == [], rounds
            for delay in (0.002, 0.01, 0.05, 0.4, 0.8):
                owner = asyncio.create_task(_owner(place(sim, "sim"), accounts=CREDENTIALS["test"]))
                await asyncio.sleep(delay)
                await cut(owner)
                assert [task for task in asyncio.all_tasks() - known if "okstream" in task.get_name()] == []

    run(loop, scenario)


@both
@pytest.mark.parametrize("rounds", [0, 1, 2, 3, 5, 8, 40, 400])
def test_cancelled_with_its_own_simulator_nothing_is_left(loop, rounds):
    async def scenario():
        owner = asyncio.create_task(_owner("sim"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        await cut(owner)

    run(loop, scenario)


@both
def test_cancelled_during_a_handshake_that_never_ends(loop):
    async def scenario():
        async with tcp(silence) as peer:
            owner = asyncio.create_task(_owner(replace(venues.simulated("okx-v5", peer.url, ""), rest=None)))
            await asyncio.sleep(0.05)
            assert len(peer.heads) == 1
            await cut(owner)

    run(loop, scenario)


@both
def test_cancelled_while_leaving_a_stuck_peer(loop):
    """The closing handshake is cut short, and the socket closed all the same."""

    async def scenario():
        async with Simulator("okx-v5") as sim:
            streaming = Stream(place(sim, "sim"))
            await streaming.__aenter__()
            await streaming.subscribe(BTC)
            sim.inject("half-open")
            began = asyncio.get_running_loop().time()
            leaving = asyncio.create_task(streaming.__aexit__(None, None, None))
            await asyncio.sleep(0.05)
            assert not leaving.done()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert asyncio.get_running_loop().time() - began < 1
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("okstream")]

    run(loop, scenario)


@both
def test_a_sink_that_is_stuck_is_left_when_cancelled(loop):
    async def scenario():
        class Stuck(Sink):
            async def write(self, batch: Sequence[Entry]) -> None:
                await asyncio.Event().wait()

        sink = Stuck()
        async with Simulator("okx-v5") as sim:
            streaming = Stream(place(sim, "sim"), sinks=[sink])
            await streaming.__aenter__()
            leaving = asyncio.create_task(streaming.close(drain=60))
            await asyncio.sleep(0.05)
            await cut(leaving)
        assert sink.closed == 1

    run(loop, scenario)

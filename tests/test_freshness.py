"""Connected is not flowing: silence is found, mended and said, and a quiet market is left in peace."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from okstream import Credentials, Stream, testing, venues
from okstream.records import Gap, Status
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator

START_MS = testing.START_NS // 1_000_000
CREDENTIALS = Credentials(TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
PUBLIC = ("ticker:BTC-USDT", "trades:BTC-USDT", "book:BTC-USDT")
VERDICTS = {"stale", "void", "refused", "disconnected"}


class Clock:
    """A wall clock that can be set; `ahead` is in ns."""

    ahead = 0

    def __call__(self) -> int:
        return testing.wall_ns() + self.ahead


class Scene:
    """A simulated exchange, a stream open to it, and all that it has delivered so far."""

    def __init__(self, sim: Simulator, streaming: Stream, clock: Clock) -> None:
        self.sim = sim
        self.streaming = streaming
        self.clock = clock
        self.said: list[Any] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for record in self.streaming:
            self.said.append(record)

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def subscribe(self, *subs: str) -> None:
        for sub in subs:
            await self.streaming.subscribe(sub, timeout=30)

    def verdicts(self) -> list[tuple[str, str]]:
        """What was said of subscriptions but that they live."""
        return [
            (f"{said.channel}:{said.inst or ''}", said.state)
            for said in self.said
            if isinstance(said, Status) and said.channel is not None and said.state in VERDICTS
        ]

    def gaps(self) -> list[tuple[str, str, str]]:
        return [(said.channel, said.state, said.reason) for said in self.said if isinstance(said, Gap)]

    def states(self) -> set[str]:
        return {state.state for state in self.streaming.state().subscriptions}

    async def until(self, true: Callable[[], Any], within: float = 120.0) -> float:
        """Return after how many seconds it came to that."""
        began = self.now
        while not true():
            assert self.now < began + within, "it did not come to that"
            await asyncio.sleep(0.05)
        return self.now - began


def virtually(scenario: Callable[[Scene], Any], dialect: str = "okx-v5", **options: Any) -> Any:
    settings = {"rate": 0.5, **options.pop("settings", {})}

    async def whole() -> Any:
        async with Simulator(dialect, Settings(start_ms=START_MS, **settings)) as sim:
            venue = replace(venues.simulated(dialect, sim.url, sim.rest_url), name="okx")
            clock = Clock()
            async with Stream(venue, wall_ns=clock, chance=random.Random(1), **options) as stream:
                scene = Scene(sim, stream, clock)
                result = await scenario(scene)
            await scene.reading
        return result

    return testing.run(whole)


def test_one_of_a_hundred_that_stalls_is_found_and_mended_alone():
    async def scenario(scene):
        insts = [f"SIM{number:03d}-USDT" for number in range(99)]
        await scene.streaming.subscribe("ticker", "BTC-USDT", *insts, timeout=30)
        await asyncio.sleep(20)
        requests = scene.sim.counters.requests
        scene.sim.inject("stall:channel=tickers,inst=BTC-USDT,seconds=600")
        await scene.until(lambda: scene.sim.counters.faults["stall"])
        found = await scene.until(scene.verdicts)
        await asyncio.sleep(10)
        return found, scene.verdicts(), scene.gaps(), scene.states(), scene.sim.counters, requests

    found, verdicts, gaps, states, counters, requests = virtually(scenario, settings={"rate": 2.0})
    assert found <= 20
    assert verdicts == [("ticker:BTC-USDT", "stale")]
    assert gaps == [("ticker", "open", "stale"), ("ticker", "closed", "stale")]
    assert states == {"live"}
    assert (counters.requests - requests, counters.connections) == (2, 1)
    assert counters.rest <= 40


@pytest.mark.parametrize(
    "sub",
    [
        "trades:BTC-USDT",
        "book:BTC-USDT",
        "book5:BTC-USDT",
        "candle-1m:BTC-USDT",
    ],
)
def test_what_rest_shows_is_found_in_each_channel(sub):
    async def scenario(scene):
        await scene.subscribe(sub, "bbo:ETH-USDT")
        await asyncio.sleep(10)
        own = {"trades": "trades", "book": "books", "book5": "books5"}.get(sub.partition(":")[0], "candle1m")
        scene.sim.inject(f"stall:channel={own},seconds=600")
        await scene.until(lambda: scene.sim.counters.faults["stall"])
        found = await scene.until(scene.verdicts)
        await asyncio.sleep(10)
        return found, scene.states()

    found, states = virtually(scenario, settings={"rate": 1.0})
    assert found <= (90 if sub.startswith("candle") else 20)
    assert states == {"live"}


def test_a_stall_that_outlasts_a_resubscription_costs_the_link():
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        scene.sim.inject("stall:channel=tickers,seconds=600,sticky=1")
        await scene.until(lambda: scene.sim.counters.faults["stall"])
        mended = await scene.until(lambda: ("ticker", "closed", "stale") in scene.gaps())
        await asyncio.sleep(20)
        return mended, scene.verdicts(), scene.gaps(), scene.states(), scene.sim.counters.connections

    mended, verdicts, gaps, states, connections = virtually(scenario, settings={"rate": 1.0})
    assert mended <= 60
    assert set(verdicts) == {("ticker:BTC-USDT", "stale")}
    assert gaps == [("ticker", "open", "stale"), ("ticker", "closed", "stale")]
    assert (states, connections) == ({"live"}, 2)


def test_a_link_that_falls_mute_as_it_is_left_for_one_subscription_is_not_followed_in_silence():
    async def scenario(scene):
        await scene.subscribe("ticker:BTC-USDT", "ticker:ETH-USDT")
        await asyncio.sleep(10)
        scene.sim.inject("stall:channel=tickers,inst=BTC-USDT,seconds=600,sticky=1")
        await scene.until(lambda: ("ticker", "open", "stale") in scene.gaps())
        await asyncio.sleep(8)  # it was asked for anew, stays silent, and is about to cost the link
        assert scene.sim.counters.connections == 1
        scene.sim.inject("mute:seconds=3600")
        await scene.until(lambda: scene.sim.counters.connections == 2)
        await asyncio.sleep(40)
        return scene.said, scene.states()

    said, states = virtually(scenario, settings={"rate": 5.0})
    gaps = [(gap.state, gap.reason) for gap in said if isinstance(gap, Gap) and gap.inst == "ETH-USDT"]
    assert (gaps, states) == ([("open", "stale"), ("closed", "stale")], {"live"})


@pytest.mark.parametrize(("dialect", "within"), [("okx-v5", 40), ("okex-v3", 90), ("okex-v1", 90)])
def test_a_link_that_is_mute_is_replaced_and_what_is_missing_declared(dialect, within):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(20)
        (mute,) = scene.sim.connections
        scene.sim.inject("mute:seconds=3600")
        await scene.until(lambda: mute not in scene.sim.connections, within)
        await asyncio.sleep(20)
        return scene.gaps(), scene.states(), scene.sim.counters.connections

    gaps, states, connections = virtually(scenario, dialect, settings={"rate": 1.0})
    assert (states, connections) == ({"live"}, 2)
    assert {channel for channel, state, _ in gaps if state == "open"} == {"ticker", "trades", "book"}
    assert Counter(state for _, state, _ in gaps) == {"open": 3, "closed": 3}


def test_a_quiet_book_whose_keep_alive_does_not_come_is_stale():
    async def scenario(scene):
        await scene.subscribe("book:BTC-USDT")
        scene.sim.inject("no-keepalive:channel=books,times=9")
        found = await scene.until(scene.verdicts, 200)
        await asyncio.sleep(30)
        return found, scene.verdicts(), scene.gaps(), scene.states()

    found, verdicts, gaps, states = virtually(scenario, settings={"rate": 0.0})
    assert 60 < found <= 85
    assert verdicts == [("book:BTC-USDT", "stale")]
    assert gaps == [("book", "open", "stale"), ("book", "closed", "stale")]
    assert states == {"live"}


def test_a_market_that_is_quiet_for_an_hour_is_left_in_peace():
    async def scenario(scene):
        await scene.streaming.subscribe("ticker", *[f"SIM{number:03d}-USDT" for number in range(20)], timeout=30)
        await scene.subscribe(*PUBLIC, "candle-1m:BTC-USDT")
        begun = len(scene.said)
        requests = scene.sim.counters.requests
        await asyncio.sleep(3600)
        said = [one for one in scene.said[begun:] if isinstance(one, Gap | Status)]
        return said, scene.states(), scene.sim.counters, requests

    said, states, counters, requests = virtually(scenario, settings={"rate": 0.0, "step": 1.0})
    assert (said, states) == ([], {"live"})
    assert counters.requests == requests
    assert counters.connections == 2
    assert counters.rest <= 23 * 18 + 130  # of each at 10 s, then ever more seldom; of a book after each keep-alive


@pytest.mark.parametrize("dialect", ["okex-v3", "okex-v1"])
def test_where_nothing_can_be_asked_a_quiet_link_is_replaced_ever_more_seldom(dialect):
    async def scenario(scene):
        await scene.subscribe("ticker:BTC-USDT", "trades:BTC-USDT")
        begun = len(scene.said)
        await asyncio.sleep(3600)
        gaps = [one for one in scene.said[begun:] if isinstance(one, Gap)]
        return scene.sim.counters.connections, gaps, scene.verdicts(), scene.states()

    connections, gaps, verdicts, states = virtually(scenario, dialect, settings={"rate": 0.0, "step": 1.0})
    assert connections <= 10
    assert (gaps, verdicts, states) == ([], [], {"live"})


# -- accounts


def private(scenario: Callable[[Scene], Any]) -> Any:
    return virtually(scenario, accounts=CREDENTIALS, settings={"orders_per_second": 0.5})


def test_orders_alone_that_are_cut_off_are_found_by_the_account_that_nobody_asked_for():
    async def scenario(scene):
        await scene.subscribe("orders")
        await asyncio.sleep(20)
        scene.sim.inject("mute:seconds=3600")
        (mute,) = scene.sim.connections
        found = await scene.until(lambda: mute not in scene.sim.connections)
        await asyncio.sleep(20)
        shown = {said.channel for said in scene.said}
        return found, scene.gaps(), scene.states(), shown

    found, gaps, states, shown = private(scenario)
    assert found <= 40
    assert gaps == [("orders", "open", "stale"), ("orders", "closed", "stale")]
    assert (states, shown) == ({"live"}, {None, "orders"})


def test_an_account_that_is_asked_for_while_it_watches_is_delivered():
    async def scenario(scene):
        await scene.subscribe("orders")
        await asyncio.sleep(12)
        await scene.subscribe("account")
        await asyncio.sleep(12)
        (connection,) = scene.sim.connections
        shown = sum(said.type == "balance" for said in scene.said)
        return shown, scene.gaps(), set(connection.subscriptions), len(scene.streaming.state().subscriptions)

    shown, gaps, carried, listed = private(scenario)
    assert shown > 3
    assert gaps == []
    assert (carried, listed) == ({"orders:instType=ANY", "account"}, 2)


def test_orders_are_watched_over_also_after_the_account_was_unsubscribed_from():
    async def scenario(scene):
        await scene.subscribe("orders", "account")
        await asyncio.sleep(5)
        await scene.streaming.unsubscribe("account")
        await asyncio.sleep(5)
        (connection,) = scene.sim.connections
        assert "account" in connection.subscriptions

    private(scenario)


def test_with_the_last_that_needs_it_the_account_goes():
    async def scenario(scene):
        await scene.subscribe("orders", "positions")
        await asyncio.sleep(5)
        await scene.streaming.unsubscribe("orders")
        await asyncio.sleep(1)
        (connection,) = scene.sim.connections
        assert set(connection.subscriptions) == {"positions:instType=ANY", "account"}
        await scene.streaming.unsubscribe("positions")
        await asyncio.sleep(1)
        return dict(connection.subscriptions)

    assert private(scenario) == {}


# -- time stands still, or jumps


def test_an_exchange_that_stood_still_is_not_called_stale():
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(30)
        scene.sim.inject("freeze:seconds=20")
        await asyncio.sleep(60)
        return scene.verdicts(), scene.gaps(), scene.states(), scene.sim.counters.connections

    assert virtually(scenario, settings={"rate": 1.0}) == ([], [], {"live"}, 1)


@pytest.mark.parametrize("redundancy", [1, 2])
def test_that_we_stood_still_ourselves_is_nobody_elses_fault(redundancy):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(30)
        asyncio.get_running_loop()._pass(20.0)  # type: ignore[attr-defined]
        await asyncio.sleep(60)
        return scene.verdicts(), scene.gaps(), scene.states(), scene.sim.counters.connections

    assert virtually(scenario, redundancy=redundancy) == ([], [], {"live"}, redundancy)


@pytest.mark.parametrize("redundancy", [1, 2])
@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_set_makes_nothing_stale(seconds, redundancy):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC, "account")
        await asyncio.sleep(30.123)
        scene.clock.ahead = seconds * 1_000_000_000
        await asyncio.sleep(60)
        return scene.verdicts(), scene.gaps(), scene.states(), scene.sim.counters.connections

    said = virtually(scenario, accounts=CREDENTIALS, redundancy=redundancy)
    assert said == ([], [], {"live"}, 2 * redundancy)


def test_who_operates_it_hears_of_a_silence_that_nothing_mends(caplog):
    async def scenario(scene):
        await scene.subscribe("ticker:BTC-USDT", "ticker:ETH-USDT")
        await asyncio.sleep(10)
        for _ in range(40):
            scene.sim.inject("stall:channel=tickers,inst=BTC-USDT,seconds=9000,sticky=1")
            await asyncio.sleep(10)
        return scene.gaps(), scene.sim.counters.connections, scene.verdicts()

    gaps, connections, verdicts = virtually(scenario, settings={"rate": 1.0})
    assert {channel for channel, _, _ in gaps} == {"ticker"}
    assert set(verdicts) == {("ticker:BTC-USDT", "stale")}
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors
    assert all("ticker:BTC-USDT stays silent on a new connection, too" in error for error in errors)
    assert connections <= 6


@pytest.mark.parametrize("dialect", ["okex-v3", "okex-v1"])
def test_without_rest_orders_alone_that_are_cut_off_are_found_by_a_ticker_that_nobody_asked_for(dialect):
    """A mute connection is replaced while nothing comes of the account; what comes next comes behind a gap."""

    async def scenario(scene):
        await scene.subscribe("orders:BTC-USDT")
        await scene.until(lambda: any(said.type == "order" for said in scene.said))
        (connection,) = scene.sim.connections
        assert [key for key in connection.subscriptions if "ticker" in key], "it is carried"
        scene.sim.inject("mute:seconds=600")
        found = await scene.until(lambda: scene.gaps(), within=120)
        assert {said.channel for said in scene.said} <= {None, "orders"}, "the ticker is seen by nobody"
        await scene.streaming.unsubscribe("orders:BTC-USDT")
        await asyncio.sleep(10)
        return found, scene.gaps(), [key for one in scene.sim.connections for key in one.subscriptions]

    settings = {"rate": 5.0, "orders_per_second": 0.5}
    found, gaps, carrying = virtually(scenario, dialect, accounts=CREDENTIALS, settings=settings)
    assert found <= 90
    assert gaps == [("orders", "open", "stale"), ("orders", "closed", "stale")]
    assert not [key for key in carrying if "ticker" in key or "order" in key]

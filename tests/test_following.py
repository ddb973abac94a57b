"""Patterns of instruments, from `subscribe` to the exchange, as listings come and go."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from okstream import ConfigError, Stream, SubscriptionRefusedError, testing, venues
from okstream.listings import EVERY
from okstream.records import Gap, Status
from okstream.simulator import Settings, Simulator
from okstream.venues import Venue

START_MS = testing.START_NS // 1_000_000
SWAPS = {"BTC-USDT-SWAP", "ETH-USDT-SWAP", "SOL-USDT-SWAP"}


class Scene:
    """A simulated exchange, a stream open to it, and all that it has delivered so far."""

    def __init__(self, sim: Simulator, streaming: Stream) -> None:
        self.sim = sim
        self.streaming = streaming
        self.said: list[Any] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for record in self.streaming:
            self.said.append(record)

    async def ask(self, *subs: str) -> set[str]:
        return {str(sub) for text in subs for sub in await self.streaming.subscribe(text, timeout=60)}

    def live(self) -> set[str]:
        return {str(state.subscription) for state in self.streaming.state().subscriptions if state.state == "live"}

    def carried(self) -> set[str]:
        """What the exchange serves."""
        return {key for connection in self.sim.connections for key in connection.subscriptions}

    def words(self, inst: str) -> list[str]:
        return [one.state for one in self.said if isinstance(one, Gap | Status) and one.inst == inst]


def virtually(scenario: Callable[[Scene], Any], change: Callable[[Venue], Venue] | None = None, **settings: Any) -> Any:
    async def whole() -> Any:
        async with Simulator("okx-v5", Settings(start_ms=START_MS, generated=0, **settings)) as sim:
            venue = replace(venues.simulated("okx-v5", sim.url, sim.rest_url), name="okx")
            venue = change(venue) if change else venue
            async with Stream(venue, wall_ns=testing.wall_ns, chance=random.Random(1)) as stream:
                scene = Scene(sim, stream)
                result = await scenario(scene)
            await scene.reading
            assert [task for task in asyncio.all_tasks() if task.get_name().startswith("okstream")] == []
        return result

    return testing.run(whole)


def listed(scene: Scene, ending: str = "-USDT-SWAP") -> set[str]:
    return {inst for inst in scene.sim.engine.market.instruments if inst.endswith(ending) and inst.count("-") == 2}


def test_a_pattern_means_all_that_is_listed():
    async def scenario(scene):
        asked = await scene.ask("ticker:*-USDT-SWAP")
        await asyncio.sleep(5)
        return asked, scene.live(), scene.carried(), listed(scene)

    asked, live, carried, insts = virtually(scenario)
    assert insts >= SWAPS
    assert asked == live == {f"ticker:{inst}" for inst in insts}
    assert carried == {f"tickers:instId={inst}" for inst in insts}


def test_a_pattern_beside_named_instruments_in_one_call():
    async def scenario(scene):
        asked = await scene.streaming.subscribe("ticker", "BTC-*", "ETH-USDT", "BTC-USDT", timeout=30)
        return [str(sub) for sub in asked]

    asked = virtually(scenario)
    assert {"ticker:ETH-USDT", "ticker:BTC-USDT"} <= set(asked)
    assert len(asked) == len(set(asked)), "each is named once"
    assert all(sub.count("-") == 1 for sub in asked), "a star stands for no dash"


def test_what_two_patterns_mean_is_asked_for_once_and_lives_until_neither_does():
    async def scenario(scene):
        await scene.ask("ticker:*-USDT-SWAP", "ticker:BTC-*-SWAP")
        assert len(scene.carried()) == len(scene.live())
        await scene.streaming.unsubscribe("ticker:*-USDT-SWAP")
        await asyncio.sleep(2)
        left = scene.live()
        await scene.streaming.unsubscribe("ticker:BTC-*-SWAP")
        await asyncio.sleep(2)
        return left, scene.live(), scene.carried(), scene.words("BTC-USDT-SWAP")

    left, live, carried, words = virtually(scenario)
    assert left == {"ticker:BTC-USDT-SWAP", "ticker:BTC-USD-SWAP"}
    assert (live, carried) == (set(), set())
    assert words == ["live", "ended"]


def test_a_name_that_was_refused_does_not_outlive_a_pattern_that_means_it():
    async def scenario(scene):
        scene.sim.inject("refuse:channel=tickers,inst=BTC-USDT")
        with pytest.raises(SubscriptionRefusedError):
            await scene.streaming.subscribe("ticker:BTC-USDT", timeout=30)
        await scene.streaming.subscribe("ticker:*-USDT", timeout=60)
        await scene.streaming.unsubscribe("ticker:*-USDT")
        return scene.streaming.state().subscriptions

    assert virtually(scenario) == []


@pytest.mark.parametrize("first", ["named", "pattern"])
def test_a_named_instrument_outlives_a_pattern_that_means_it(first):
    async def scenario(scene):
        asked = ["ticker:BTC-USDT-SWAP", "ticker:*-USDT-SWAP"]
        await scene.ask(*(asked if first == "named" else reversed(asked)))
        await scene.streaming.unsubscribe("ticker:*-USDT-SWAP")
        await asyncio.sleep(2)
        return scene.live()

    assert virtually(scenario) == {"ticker:BTC-USDT-SWAP"}


def test_what_is_listed_later_is_subscribed_to_then_and_what_ends_goes():
    async def scenario(scene):
        await scene.ask("ticker:*-USDT-SWAP")
        await asyncio.sleep(5)
        scene.sim.inject("list:inst=NEW-USDT-SWAP")
        scene.sim.inject("list:inst=NEW-USDT")
        await asyncio.sleep(EVERY + 2)
        assert "ticker:NEW-USDT-SWAP" in scene.live()
        scene.sim.inject("expire:inst=ETH-USDT-SWAP")
        await asyncio.sleep(EVERY + 2)
        return scene.live(), listed(scene), scene.words("ETH-USDT-SWAP"), scene.words("NEW-USDT-SWAP")

    live, insts, ended, new = virtually(scenario)
    assert live == {f"ticker:{inst}" for inst in insts}
    assert "ETH-USDT-SWAP" not in insts
    assert [word for word in ended if word in {"live", "ended", "refused"}] == ["live", "ended"]
    assert new == ["live"]


def test_what_is_renamed_is_followed_under_its_new_name():
    async def scenario(scene):
        await scene.ask("book:*-USDT-SWAP")
        await asyncio.sleep(5)
        scene.sim.inject("rename:inst=SOL-USDT-SWAP,to=LUNA-USDT-SWAP")
        await asyncio.sleep(2 * EVERY + 2)
        stats = scene.streaming.stats()
        return scene.live(), listed(scene), scene.words("SOL-USDT-SWAP")[-1], stats.open_gaps

    live, insts, last, gaps = virtually(scenario)
    assert live == {f"book:{inst}" for inst in insts}
    assert "LUNA-USDT-SWAP" in insts
    assert (last, gaps) == ("ended", 0)


def test_after_unsubscribing_nothing_is_looked_for_any_more():
    async def scenario(scene):
        await scene.ask("ticker:*-USDT-SWAP", "trades:*-USDT-SWAP")
        await scene.streaming.unsubscribe("ticker:*-USDT-SWAP")
        scene.sim.inject("list:inst=NEW-USDT-SWAP")
        await asyncio.sleep(EVERY + 2)
        live = scene.live()
        await scene.streaming.unsubscribe("trades:*-USDT-SWAP")
        asked = scene.sim.counters.rest
        await asyncio.sleep(3 * EVERY)
        with pytest.raises(ConfigError, match="not subscribed"):
            await scene.streaming.unsubscribe("trades:*-USDT-SWAP")
        return live, scene.live(), scene.sim.counters.rest - asked

    live, after, asked = virtually(scenario)
    assert "trades:NEW-USDT-SWAP" in live
    assert all(sub.startswith("trades:") for sub in live)
    assert (after, asked) == (set(), 0)


def test_a_pattern_that_was_given_up_is_not_followed():
    """What was not acknowledged in time is no longer wanted; nor what it would come to mean."""

    async def scenario(scene):
        scene.sim.inject("slow-ack:seconds=20")
        with pytest.raises(TimeoutError):
            await scene.streaming.subscribe("ticker:*-USDT-SWAP", timeout=5)
        assert scene.live() == set()
        scene.sim.inject("list:inst=NEW-USDT-SWAP")
        await asyncio.sleep(2 * EVERY)
        return scene.live()

    assert virtually(scenario) == set()


def test_a_pattern_that_means_nothing_is_a_mistake():
    async def scenario(scene):
        with pytest.raises(ConfigError, match="means nothing"):
            await scene.ask("ticker:*-NOPE-SWAP")
        return scene.streaming.state().subscriptions, scene.sim.counters.connections

    assert virtually(scenario) == ([], 0)


def test_a_venue_without_rest_has_no_patterns():
    async def scenario(scene):
        with pytest.raises(ConfigError, match="name each instrument instead"):
            await scene.ask("ticker:*-USDT-SWAP")
        return await scene.ask("ticker:BTC-USDT-SWAP")

    assert virtually(scenario, lambda venue: replace(venue, rest=None)) == {"ticker:BTC-USDT-SWAP"}


def test_a_gateway_with_a_rest_interface_has_patterns():
    async def scenario():
        async with (
            Simulator("okx-v5", Settings(start_ms=START_MS, generated=0)) as sim,
            Stream("okx", url=sim.url, rest_url=sim.rest_url, wall_ns=testing.wall_ns) as streaming,
        ):
            return {str(sub) for sub in await streaming.subscribe("ticker:*-USDT-SWAP", timeout=60)}

    assert testing.run(scenario) >= {f"ticker:{inst}" for inst in SWAPS}


def test_rest_that_is_down_at_the_start_is_waited_for(caplog):
    caplog.set_level(logging.WARNING)

    async def scenario(scene):
        scene.sim.inject("kill:seconds=30")
        asked = await scene.streaming.subscribe("ticker:*-USDT-SWAP", timeout=120)
        await asyncio.sleep(2)
        return {str(sub) for sub in asked}, scene.live(), listed(scene)

    asked, live, insts = virtually(scenario)
    assert asked == live == {f"ticker:{inst}" for inst in insts}
    assert "ticker:*-USDT-SWAP cannot be resolved yet" in caplog.text


def test_rest_that_goes_down_later_takes_nothing_away():
    async def scenario(scene):
        await scene.ask("ticker:*-USDT-SWAP")
        before = scene.live()
        scene.sim.inject("kill:seconds=70")
        await asyncio.sleep(65)
        scene.sim.inject("list:inst=NEW-USDT-SWAP")
        await asyncio.sleep(EVERY + 60)
        return before, scene.live()

    before, live = virtually(scenario)
    assert live == before | {"ticker:NEW-USDT-SWAP"}


def test_one_that_cannot_be_subscribed_to_leaves_the_others_alone(caplog):
    """What is listed anew may be taken under the exchange's own name already."""

    async def scenario(scene):
        await scene.ask("ticker:*-USDT-SWAP")
        scene.sim.inject("list:inst=NEW-USDT-SWAP")
        scene.sim.inject("list:inst=TOO-USDT-SWAP")
        await asyncio.sleep(1)
        await scene.ask("public/tickers:NEW-USDT-SWAP")
        await asyncio.sleep(EVERY + 2)
        assert not scene.reading.done()
        return scene.live()

    live = virtually(scenario)
    assert {"ticker:TOO-USDT-SWAP", "ticker:BTC-USDT-SWAP", "public/tickers:NEW-USDT-SWAP"} <= live
    assert "ticker:NEW-USDT-SWAP" not in live
    assert "ticker:NEW-USDT-SWAP is the same to the exchange as public/tickers:NEW-USDT-SWAP" in caplog.text


def test_what_is_listed_before_it_is_served_is_asked_for_again(caplog):
    async def scenario(scene):
        await scene.ask("ticker:*-USDT-SWAP")
        scene.sim.inject("list:inst=NEW-USDT-SWAP")
        scene.sim.inject("refuse:channel=tickers,inst=NEW-USDT-SWAP")
        await asyncio.sleep(EVERY + 2)
        before = scene.live()
        await asyncio.sleep(60)
        return before, scene.live(), scene.words("NEW-USDT-SWAP")

    before, after, words = virtually(scenario)
    assert after - before == {"ticker:NEW-USDT-SWAP"}
    assert words == ["refused", "live"]
    assert caplog.text.count("is not served") == 1


def test_what_is_refused_and_then_expires_is_not_asked_for_any_more():
    async def scenario(scene):
        await scene.ask("ticker:*-USDT-SWAP")
        scene.sim.inject("list:inst=NEW-USDT-SWAP")
        scene.sim.inject("refuse:channel=tickers,inst=NEW-USDT-SWAP,times=100")
        await asyncio.sleep(4 * EVERY)
        scene.sim.inject("expire:inst=NEW-USDT-SWAP")
        await asyncio.sleep(EVERY + 2)
        refused = scene.sim.counters.faults["refuse"]
        await asyncio.sleep(600)
        return refused, scene.sim.counters.faults["refuse"]

    before, after = virtually(scenario, rate=0.5, step=1.0)
    assert before == after > 1

"""Redundancy: several links carry each subscription, and losing all but one costs nothing."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from support.rotating import CREDENTIALS, PUBLIC, virtually

from okstream import ConfigError, Stream, SubscriptionRefusedError
from okstream.records import Status


@pytest.mark.parametrize("others", [0, 1])
def test_each_subscription_rides_on_two_connections_and_is_acknowledged_once(others):
    async def scenario(scene):
        asked = await scene.streaming.subscribe("ticker", "BTC-USDT", "ETH-USDT", timeout=10)
        await asyncio.sleep(10)
        stats = scene.streaming.stats()
        assert (stats.links, stats.links_wanted, stats.open_gaps) == (2, 2, 0)
        once = [said for said in scene.said if isinstance(said, Status) and said.channel == "ticker"]
        return asked, [set(one.subscriptions) for one in scene.sim.connections], once, scene.count(), scene.said

    asked, carried, once, _, said = virtually(scenario, redundancy=2, others=others)
    assert len(asked) == 2
    assert carried == [{"tickers:instId=BTC-USDT", "tickers:instId=ETH-USDT"}] * 2
    assert [status.state for status in once] == ["live", "live"]
    shown = [replace(one, recv=0) for one in said if one.type == "ticker"]
    assert all(one != other for one, other in pairwise(shown))


def test_twins_connect_from_the_addresses_they_are_given():
    async def scenario(scene):
        await scene.subscribe("ticker:BTC-USDT")
        await asyncio.sleep(2)
        return sorted(one._transport.get_extra_info("peername")[0] for one in scene.sim.connections)

    assert virtually(scenario, redundancy=3, local=("127.0.0.2", "127.0.0.3")) == [
        "127.0.0.2", "127.0.0.2", "127.0.0.3",
    ]  # fmt: skip


@pytest.mark.parametrize("dialect", ["okx-v5", "okex-v3"])
def test_losing_one_of_two_costs_nothing_and_it_is_dialled_again_soon(dialect):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        waits = []
        for turn in range(4):
            link = scene.sim.connections[turn % 2]
            scene.sim.inject(f"drop:connection={link.id}")
            began = asyncio.get_running_loop().time()
            made = scene.sim.counters.connections
            await asyncio.sleep(0.01)
            await scene.until(lambda made=made: scene.sim.counters.connections > made)
            waits.append(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(12)
            assert scene.streaming.stats().links == 2
        return scene.gaps(), scene.states(), waits

    gaps, states, waits = virtually(scenario, dialect, redundancy=2)
    assert (gaps, states) == ([], {"live"})
    assert max(waits) <= 0.5 + (1.1 if dialect == "okex-v3" else 0.4)


def test_one_of_two_that_cannot_come_up_is_tried_at_the_usual_pace_after_some_quick_attempts():
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        scene.sim.inject("handshake:status=503,n=12")
        scene.sim.inject(f"drop:connection={scene.sim.connections[0].id}")
        times, last = [], 0
        for _ in range(4000):
            await asyncio.sleep(0.05)
            if scene.sim.counters.rejected > last:
                last = scene.sim.counters.rejected
                times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(60)
        return times, scene.gaps(), scene.streaming.stats().links

    times, gaps, links = virtually(scenario, redundancy=2)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert (len(times), gaps, links) == (12, [], 2)
    assert max(waits[:4]) <= 0.5 + 0.4
    assert max(waits[6:]) > 5


def test_both_of_two_lost_at_once_is_one_gap_each():
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(20)
        scene.sim.inject("drop")
        await asyncio.sleep(20)
        return scene.gaps(), scene.states()

    gaps, states = virtually(scenario, redundancy=2)
    assert states == {"live"}
    assert sorted((gap.channel, gap.state) for gap in gaps) == sorted(
        (channel, state) for channel in ("ticker", "trades", "book") for state in ("open", "closed")
    )


def test_a_second_link_that_is_refused_is_no_more_than_a_nuisance():
    async def scenario(scene):
        scene.sim.inject("handshake:status=403,n=2,after=0.1")
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(5)
        assert scene.streaming.stats().links == 1
        await asyncio.sleep(200)
        return scene.gaps(), scene.states(), scene.streaming.stats().links

    gaps, states, links = virtually(scenario, redundancy=2)
    assert (gaps, states, links) == ([], {"live"}, 2)


def test_a_subscription_that_both_refuse_is_refused_once_and_one_that_one_refuses_lives(caplog):
    async def scenario(scene):
        await scene.subscribe("ticker:BTC-USDT")
        with pytest.raises(SubscriptionRefusedError, match="NO-SUCH"):
            await scene.streaming.subscribe("ticker:NO-SUCH", timeout=30)
        await asyncio.sleep(10)
        scene.sim.inject("refuse:channel=tickers,inst=BTC-USDT")
        scene.sim.inject(f"drop:connection={scene.sim.connections[0].id}")
        await asyncio.sleep(10)
        counts = sorted(len(one.subscriptions) for one in scene.sim.connections)
        refused = [said.inst for said in scene.said if getattr(said, "state", "") == "refused"]
        return refused, counts, scene.states(), scene.gaps()

    refused, counts, states, gaps = virtually(scenario, redundancy=2)
    assert refused == ["NO-SUCH"]
    assert counts == [0, 1]
    assert (states, gaps) == ({"live"}, [])
    assert "ticker:BTC-USDT is refused here, but asked for on another connection" in caplog.text


@pytest.mark.parametrize("channel", ["balance_and_position", 'account:extraParams={"updateInterval":"0"}', "positions"])
def test_of_a_user_each_state_is_delivered_once_and_in_order_though_each_connection_has_its_own_times(channel):
    async def scenario(scene):
        await scene.subscribe(channel)
        await asyncio.sleep(120)
        told = [said for said in scene.said if not isinstance(said, Status)]
        return told, scene.gaps()

    settings = {"orders_per_second": 0.3, "seed": 3}
    told, gaps = virtually(scenario, redundancy=2, accounts=CREDENTIALS, settings=settings)
    assert gaps == []
    assert len(told) > 20
    assert [one.recv for one in told] == sorted(one.recv for one in told)


def test_two_links_are_replaced_by_age_one_beside_the_other():
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        most = 0
        for _ in range(100):
            await asyncio.sleep(1)
            most = max(most, len(scene.sim.connections))
        return scene.gaps(), scene.states(), most, scene.sim.counters.connections

    gaps, states, most, connections = virtually(scenario, redundancy=2, rotate_after=30)
    assert (gaps, states) == ([], {"live"})
    assert most <= 4
    assert 6 <= connections <= 10


@pytest.mark.parametrize("redundancy", [0, 9])
def test_so_many_links_make_no_sense(redundancy):
    with pytest.raises(ConfigError, match="1 to 8"):
        Stream("okx", redundancy=redundancy)

"""Links that are replaced before they break, and links that carry the same twice; over real sockets in virtual time."""

import asyncio
import re
from collections import Counter

import pytest
from support.rotating import CREDENTIALS, PUBLIC, virtually

from okstream import ConfigError, Stream


@pytest.mark.parametrize(
    ("dialect", "subs"),
    [
        ("okx-v5", PUBLIC),
        ("okex-v3", PUBLIC),
        ("okex-v1", ("ticker:BTC-USDT", "trades:BTC-USDT")),
    ],
)
def test_a_link_is_replaced_at_its_age_and_nothing_is_missing(dialect, subs):
    async def scenario(scene):
        await scene.subscribe(*subs)
        await asyncio.sleep(130)
        assert scene.states() == {"live"}
        assert len(scene.sim.connections) == 1
        return scene.links(), scene.gaps(), scene.sim.counters

    links, gaps, counters = virtually(scenario, dialect, rotate_after=30)
    assert links == ["started", "connecting", "live", *["rotating", "live"] * 4]
    assert gaps == []
    assert counters.connections == 5
    assert counters.closed == {}


def test_an_account_without_news_is_no_sign_that_its_link_is_mute():
    """What the new link shows first is the whole account once more."""

    async def scenario(scene):
        await scene.subscribe('account:extraParams={"updateInterval":"0"}')
        await asyncio.sleep(100)
        return scene.links(), scene.gaps()

    links, gaps = virtually(scenario, rotate_after=30, accounts=CREDENTIALS, settings={"orders_per_second": 0.001})
    assert gaps == []
    assert links == ["started", "connecting", "live", *["rotating", "live"] * 3]


def test_a_book_of_the_oldest_venue_is_replaced_within_a_gap():
    async def scenario(scene):
        await scene.subscribe("book:BTC-USDT")
        await asyncio.sleep(55)
        return scene.gaps(), scene.states()

    gaps, states = virtually(scenario, "okex-v1", rotate_after=30)
    assert states == {"live"}
    assert [gap.state for gap in gaps] in ([], ["open", "closed"])


@pytest.mark.parametrize("lead", [3, 60])
def test_a_notice_is_followed_before_it_comes_true(lead, caplog):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(20)
        scene.sim.inject(f"notice:lead={lead}")
        await asyncio.sleep(lead + 20)
        return scene.links(), scene.gaps(), scene.states(), scene.sim.counters

    links, gaps, states, counters = virtually(scenario)
    assert links == ["started", "connecting", "live", "rotating", "live"]
    assert (gaps, states) == ([], {"live"})
    assert counters.connections == 2
    assert counters.closed == {}, "we left before we were closed"
    assert "20 s after connecting: " in caplog.text


def test_a_link_that_logs_in_is_replaced_as_well():
    async def scenario(scene):
        await scene.subscribe("orders", "account", "positions")
        await asyncio.sleep(100)
        return scene.links(), scene.gaps(), scene.states(), scene.sim.counters, scene.said

    links, gaps, states, counters, said = virtually(scenario, accounts=CREDENTIALS, rotate_after=30)
    assert links == ["started", "connecting", "live", *["rotating", "live"] * 3]
    assert (gaps, states) == ([], {"live"})
    assert (counters.connections, counters.logins) == (4, 4)
    orders = [(one.id, one.state, one.filled, one.ts) for one in said if one.type == "order"]
    assert len(orders) == len(set(orders)) > 20


def test_a_replacement_that_does_not_come_up_is_tried_again_while_the_old_one_lives(caplog):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        scene.sim.inject("handshake:status=503,n=3")
        scene.sim.inject("notice:lead=60")
        before = scene.count()
        await asyncio.sleep(2)
        during = scene.count()
        assert all(during[sub] > before[sub] for sub in before)
        await asyncio.sleep(78)
        return scene.links(), scene.gaps(), scene.sim.counters

    links, gaps, counters = virtually(scenario)
    assert gaps == []
    assert links == ["started", "connecting", "live", *["rotating"] * 4, "live"]
    assert (counters.connections, counters.rejected) == (2, 3)
    assert caplog.text.count("no replacement yet: the handshake was answered with HTTP 503") == 3


def test_a_connection_that_could_not_be_replaced_is_as_old_as_it_is(caplog):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        (old,) = scene.sim.connections
        scene.sim.inject("slow-ack:seconds=3.3")
        await scene.until(lambda: len(scene.sim.connections) == 2, within=120)
        (new,) = [one for one in scene.sim.connections if one is not old]
        scene.sim.inject(f"mute:connection={new.id},seconds=3600")
        await scene.until(lambda: scene.sim.connections == [old], within=60)
        await asyncio.sleep(5)
        scene.sim.inject("notice:lead=60")
        await asyncio.sleep(5)

    virtually(scenario, rotate_after=100)
    (age,) = re.findall(r"(\d+) s after connecting", caplog.text)
    assert int(age) > 100


@pytest.mark.parametrize("refused", ["handshake:status=403,n=2", "refuse-login:code=60009,times=2"])
def test_a_replacement_that_is_refused_does_not_end_what_flows(refused):
    async def scenario(scene):
        await scene.subscribe("orders", "account")
        await asyncio.sleep(10)
        scene.sim.inject(refused)
        scene.sim.inject("notice:lead=60")
        await asyncio.sleep(80)
        return scene.gaps(), scene.states(), scene.links()

    gaps, states, links = virtually(scenario, accounts=CREDENTIALS)
    assert (gaps, states) == ([], {"live"})
    assert links == ["started", "connecting", "live", *["rotating"] * 3, "live"]


def test_the_old_link_is_lost_while_the_new_one_is_not_there_yet():
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        (old,) = scene.sim.connections
        scene.sim.inject("handshake:status=503,n=2")
        scene.sim.inject("notice:lead=60")
        await scene.until(lambda: scene.sim.counters.rejected)
        scene.sim.inject(f"drop:connection={old.id}")
        await asyncio.sleep(20)
        return scene.gaps(), scene.states(), scene.links()

    gaps, states, links = virtually(scenario)
    assert states == {"live"}
    assert Counter((gap.channel, gap.state, gap.reason) for gap in gaps) == Counter(
        (channel, state, "disconnected") for channel in ("ticker", "trades", "book") for state in ("open", "closed")
    )
    assert links[-1] == "live"
    assert "disconnected" in links


def test_the_old_link_is_lost_while_the_new_one_subscribes():
    """The new one goes on from there: one gap, and no further dial."""

    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        (old,) = scene.sim.connections
        scene.sim.inject("slow-ack:seconds=3")
        scene.sim.inject("notice:lead=60")
        await scene.until(lambda: len(scene.sim.connections) == 2)
        scene.sim.inject(f"drop:connection={old.id}")
        await asyncio.sleep(20)
        return scene.gaps(), scene.states(), scene.links(), scene.sim.counters.connections

    gaps, states, links, connections = virtually(scenario)
    assert states == {"live"}
    assert sorted((gap.channel, gap.state) for gap in gaps) == sorted(
        (channel, state) for channel in ("ticker", "trades", "book") for state in ("open", "closed")
    )
    assert (links, connections) == (["started", "connecting", "live", "rotating", "live"], 2)


def test_the_new_link_is_lost_and_the_old_one_goes_on():
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        (old,) = scene.sim.connections
        scene.sim.inject("slow-ack:seconds=3")
        scene.sim.inject("notice:lead=60")
        await scene.until(lambda: len(scene.sim.connections) == 2)
        (new,) = [one for one in scene.sim.connections if one is not old]
        scene.sim.inject(f"drop:connection={new.id}")
        await asyncio.sleep(20)
        return scene.gaps(), scene.states(), scene.links(), scene.sim.counters.connections

    gaps, states, links, connections = virtually(scenario)
    assert (gaps, states, connections) == ([], {"live"}, 3)
    assert links == ["started", "connecting", "live", "rotating", "rotating", "live"]


def test_a_replacement_that_stays_silent_is_not_preferred_to_what_flows(caplog):
    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        (old,) = scene.sim.connections
        scene.sim.inject("slow-ack:seconds=3.3")
        await scene.until(lambda: len(scene.sim.connections) == 2, within=40)
        (new,) = [one for one in scene.sim.connections if one is not old]
        scene.sim.inject(f"mute:connection={new.id},seconds=3600")
        await asyncio.sleep(90)
        return scene.states(), scene.gaps(), old in scene.sim.connections

    states, gaps, kept = virtually(scenario, rotate_after=30)
    assert (states, gaps, kept) == ({"live"}, [], False)
    assert "not everything flows on the new connection; staying with the old one" in caplog.text


def test_what_is_asked_for_or_no_longer_during_a_rotation_is_so_on_both():
    async def scenario(scene):
        await scene.subscribe("orders", "account")
        await asyncio.sleep(10)
        scene.sim.inject("notice:lead=60")
        await scene.until(lambda: [len(one.subscriptions) for one in scene.sim.connections] == [2, 2])
        await scene.subscribe("positions")
        await scene.streaming.unsubscribe("account")
        at = len(scene.said)
        await asyncio.sleep(0.1)
        both = [set(one.subscriptions) for one in scene.sim.connections]
        await asyncio.sleep(30)
        (left,) = scene.sim.connections
        late = [said for said in scene.said[at:] if said.channel == "account"]
        assert scene.links().count("rotating") == 1
        return both, set(left.subscriptions), late, scene.gaps(), scene.states()

    both, after, late, gaps, states = virtually(scenario, accounts=CREDENTIALS)
    shown = {key.partition(":")[0] for one in both for key in one}
    assert {"orders", "positions"} <= shown
    assert [one == after for one in both] == [True, True]
    assert [said.type for said in late] in ([], ["status"])
    assert (gaps, states) == ([], {"live"})


@pytest.mark.parametrize("fault", ["handshake:status=503,n=99", "slow-ack:seconds=30", "freeze:seconds=60"])
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.4, 12.0])
def test_closing_in_the_middle_of_a_rotation_leaves_nothing(fault, seconds):
    """`virtually` looks for what is left."""

    async def scenario(scene):
        await scene.subscribe(*PUBLIC)
        await asyncio.sleep(10)
        scene.sim.inject(fault)
        scene.sim.inject("notice:lead=60")
        await scene.until(lambda: "rotating" in scene.links() or "freeze" in fault)
        await asyncio.sleep(seconds)
        if "freeze" in fault:
            scene.sim.engine.frozen_until = 0.0
            scene.sim.thawed.set()

    virtually(scenario)


def test_a_link_is_not_replaced_every_moment():
    with pytest.raises(ConfigError, match="10 s"):
        Stream("okx", rotate_after=9.9)


@pytest.mark.parametrize("dialect", ["okx-v5", "okex-v3", "okex-v1"])
def test_a_link_that_was_mute_is_not_replaced_as_if_it_had_brought_everything(dialect):
    """What it kept to itself is missing, also where it is replaced for its age before anybody found it mute."""

    async def scenario(scene):
        await scene.subscribe("orders:instType=SPOT,instId=BTC-USDT" if dialect == "okx-v5" else "orders:BTC-USDT")
        await scene.until(lambda: scene.count()["orders:BTC-USDT"] > 1)
        await scene.until(lambda: scene.links()[-1] == "rotating")
        await scene.until(lambda: scene.links()[-1] == "live")
        (connection,) = scene.sim.connections
        scene.sim.inject(f"mute:seconds=600,connection={connection.id}")
        await asyncio.sleep(90)
        lost = [entry for entry in scene.sim.log.entries() if entry.connection == connection.id and not entry.sent]
        assert any("rder" in entry.key for entry in lost), "nothing was lost"
        return scene.gaps()

    settings = {"rate": 5.0, "orders_per_second": 0.5}
    gaps = virtually(scenario, dialect, accounts=CREDENTIALS, settings=settings, rotate_after=13)
    assert [(gap.channel, gap.state, gap.reason) for gap in gaps] == [
        ("orders", "open", "stale"), ("orders", "closed", "stale"),
    ]  # fmt: skip

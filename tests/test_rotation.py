"""Links that are replaced before they break, and links that carry the same twice; over real sockets in virtual time."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from okstream import ConfigError, Credentials, Stream, SubscriptionRefusedError, testing, venues
from okstream.records import Gap, Status
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator
from okstream.venues import Venue

START_MS = testing.START_NS // 1_000_000
CREDENTIALS = Credentials(TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
PUBLIC = ("ticker:BTC-USDT", "trades:BTC-USDT", "book:BTC-USDT")


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

    async def subscribe(self, *subs: str) -> None:
        for sub in subs:
            await self.streaming.subscribe(sub, timeout=30)

    def links(self) -> list[str]:
        """What links have said of themselves."""
        return [said.state for said in self.said if isinstance(said, Status) and said.channel is None]

    def gaps(self) -> list[Gap]:
        return [said for said in self.said if isinstance(said, Gap)]

    def states(self) -> set[str]:
        return {state.state for state in self.streaming.state().subscriptions}

    def count(self) -> Counter[str]:
        return Counter(f"{said.channel}:{said.inst}" for said in self.said if not isinstance(said, Gap | Status))

    async def until(self, true: Callable[[], Any], within: float = 60.0, step: float = 0.01) -> None:
        for _ in range(int(within / step)):
            if true():
                return
            await asyncio.sleep(step)
        raise AssertionError("it did not come to that")


def virtually(scenario: Callable[[Scene], Any], dialect: str = "okx-v5", *, others: int = 0, **options: Any) -> Any:
    """Run `scenario` in virtual time; nothing may be left of it, and nobody may complain."""
    settings = options.pop("settings", {})

    async def whole() -> Any:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with Simulator(dialect, Settings(start_ms=START_MS, **settings)) as sim:
            before = asyncio.all_tasks()
            venue: Venue = replace(venues.simulated(dialect, sim.url, sim.rest_url), name="okx")
            venue = replace(venue, others=tuple(sim.url.replace("127.0.0.1", "localhost") for _ in range(others)))
            async with Stream(venue, **{"wall_ns": testing.wall_ns, "chance": random.Random(1), **options}) as stream:
                scene = Scene(sim, stream)
                result = await scenario(scene)
            await scene.reading
            await asyncio.sleep(3)
            assert sim.connections == []
            left = [task for task in asyncio.all_tasks() - before if not task.get_name().startswith("simulator")]
            assert left == []
        gc.collect()
        assert complaints == []
        return result

    return testing.run(whole)


# -- rotation


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


# -- redundancy


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
    assert "ticker:BTC-USDT is refused here, but another connection carries it" in caplog.text


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

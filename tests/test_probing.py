"""What REST says about a silence, asked of a simulated exchange."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from okstream import Stream, testing, venues
from okstream.feed import Feed
from okstream.links.probing import shows_newer
from okstream.rest import Rest
from okstream.simulator import Settings, Simulator

START_MS = testing.START_NS // 1_000_000
OWN = {"ticker": "tickers", "trades": "trades", "book": "books", "book5": "books5", "bbo": "bbo-tbt"}

each = pytest.mark.parametrize("channel", OWN)


def probed(
    channel: str,
    fault: str,
    seconds: float,
    inst: str = "BTC-USDT",
    rest_url: str = "",
    others: Callable[[Feed], None] = lambda feed: None,
    **settings: Any,
) -> bool:
    """Subscribe, let something happen, and ask after a while; `others` is what another connection did meanwhile."""

    async def whole() -> bool:
        async with Simulator("okx-v5", Settings(start_ms=START_MS, **settings)) as sim:
            venue = replace(venues.simulated("okx-v5", sim.url, sim.rest_url), name="okx")
            async with (
                Stream(venue, wall_ns=testing.wall_ns, chance=random.Random(1)) as streaming,
                Rest(replace(venue, rest=rest_url or venue.rest), wall_ns=testing.wall_ns, attempts=1) as rest,
            ):
                await streaming.subscribe(f"{channel}:{inst}", timeout=20)
                await asyncio.sleep(5)
                ((feed, _),) = streaming._feeds.values()
                (source,) = feed.sources
                if fault:
                    sim.inject(fault)
                await asyncio.sleep(seconds)
                others(feed)
                return await shows_newer(rest, source)

    return testing.run(whole)


@each
def test_in_a_quiet_market_there_is_nothing_newer(channel):
    assert not probed(channel, "", 60, rate=0.0)


@each
def test_what_is_withheld_shows(channel):
    assert probed(channel, f"stall:channel={OWN[channel]},seconds=600", 8, rate=3.0)


@each
def test_where_nobody_answers_nothing_is_said(channel, caplog):
    assert not probed(channel, "", 1, rest_url="http://127.0.0.1:9", rate=1.0)
    assert "cannot ask about the silence" in caplog.text


@each
def test_what_is_not_listed_any_more_says_nothing(channel):
    assert not probed(channel, "expire:inst=ETH-USDT-SWAP", 5, inst="ETH-USDT-SWAP", rate=1.0)


def shown_again(feed: Feed) -> None:
    """Another connection began, showed the same as of a later time, and leads."""
    assert feed.last is not None
    assert feed.last.ts is not None
    feed.last = replace(feed.last, ts=feed.last.ts + 30_000, recv=feed.last.recv + 30_000_000_000)
    feed.leader = feed.source()


@each
def test_what_another_connection_showed_again_is_nothing_newer(channel):
    assert not probed(channel, "", 60, others=shown_again, rate=0.0)


@each
def test_what_was_withheld_from_one_connection_shows_though_another_brought_it(channel):
    assert probed(channel, f"stall:channel={OWN[channel]},seconds=600", 8, others=shown_again, rate=3.0)

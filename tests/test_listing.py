"""Patterns at a living exchange: what is listed, expires and is renamed, and what is not known meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.peers import Answer, Peer, silence, tcp

from okstream import testing, venues
from okstream.errors import ConfigError, RestError, RestRefusedError
from okstream.listings import EVERY, Change, Listing
from okstream.patterns import matches
from okstream.rest import Rest
from okstream.simulator import Settings, Simulator

OPTIONS = "BTC-USD-*-*-C"


def rest_at(url: str) -> Rest:
    venue = replace(venues.find("okx"), rest=url.replace("ws://", "http://"))
    return Rest(venue, wall_ns=testing.wall_ns, chance=random.Random(1))


@asynccontextmanager
async def simulated(**changes: Any) -> AsyncIterator[tuple[Simulator, Listing]]:
    chosen = Settings(start_ms=testing.START_NS // 1_000_000, generated=0, **changes)
    async with Simulator(settings=chosen) as sim, rest_at(sim.rest_url) as rest:
        yield sim, Listing(rest)


@asynccontextmanager
async def followed(listing: Listing, every: float = EVERY) -> AsyncIterator[list[Change]]:
    """Follow, and collect what has changed."""
    changes: list[Change] = []

    async def changed(change: Change) -> None:
        changes.append(change)

    task = asyncio.create_task(listing.follow(changed, every))
    try:
        yield changes
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Exchange:
    """An exchange whose list is `insts`, and which answers as `failing` says where that says anything."""

    def __init__(self, *insts: str) -> None:
        self.insts = set(insts)
        self.failing: Callable[[str], str | None] = lambda _: None
        self.asked: list[str] = []

    async def answer(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = parse_qs(urlsplit(peer.heads[-1].split()[1]).query)
        kind = query["instType"][0]
        self.asked.append(kind)
        status = self.failing(kind)
        rows = [{"instId": inst, "state": "live"} for inst in sorted(self.insts) if kind_of(inst) == kind]
        body = orjson.dumps({"code": "0" if status is None else status[:5], "msg": "", "data": rows})
        head = f"HTTP/1.1 {'200 OK' if status is None else '400 No'}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await silence(peer, reader, writer)


def kind_of(inst: str) -> str:
    return {2: "SPOT", 3: "SWAP" if inst.endswith("-SWAP") else "FUTURES", 5: "OPTION"}[len(inst.split("-"))]


@asynccontextmanager
async def scripted(exchange: Exchange) -> AsyncIterator[Listing]:
    answer: Answer = exchange.answer
    async with tcp(answer) as peer, rest_at(peer.url) as rest:
        yield Listing(rest)


# -- resolving


def test_patterns_mean_what_the_exchange_lists():
    async def scenario():
        async with simulated() as (sim, listing):
            spot = await listing.resolve("*-USDT")
            assert spot == sorted(spot)
            assert {"BTC-USDT", "ETH-USDT"} <= set(spot)
            both = await listing.resolve("BTC-USD-*")
            assert "BTC-USD-SWAP" in both
            assert len(both) == 4
            calls = await listing.resolve(OPTIONS)
            assert len(calls) == 5
            assert all(inst.endswith("-C") for inst in calls)
            return sim.counters.rest

    assert testing.run(scenario) == 4


def test_many_patterns_at_once_cost_one_question_a_kind():
    async def scenario():
        exchange = Exchange("A-USDT", "B-USDT", "A-USDT-SWAP")
        async with scripted(exchange) as listing:
            for pattern in ("*-USDT", "A-*", "B-*", "A-USDT", "*-USDT-SWAP", "A-*-SWAP"):
                assert await listing.resolve(pattern)
            await asyncio.sleep(60)
            assert await listing.resolve("A*-USDT") == ["A-USDT"]
        return exchange.asked

    assert testing.run(scenario) == ["SPOT", "SWAP", "SPOT"]


def test_what_is_not_traded_is_not_meant():
    async def scenario():
        exchange = Exchange()
        rows = [{"instId": f"{state.upper()}-USDT", "state": state} for state in ("live", "preopen", "test", "expired")]

        async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            body = orjson.dumps({"code": "0", "data": rows})
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await silence(peer, reader, writer)

        exchange.answer = answer
        async with scripted(exchange) as listing:
            return await listing.resolve("*-USDT")

    assert testing.run(scenario) == ["LIVE-USDT", "PREOPEN-USDT"]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*-USTD", r"'\*-USTD' means nothing that okx lists now \(SPOT\). Did you mean '\*-USDT'\?"),
        ("BCT-USD-*", r"\(SWAP, FUTURES\). Did you mean 'BTC-USD-\*'\?"),
        ("BTC-USD-*-1-*", r"\(OPTION of BTC-USD\)"),
        ("QQQ-*", r"\(SPOT\)\.$"),
        ("*-USD-*-*-C", "cannot have a star"),
    ],
)
def test_a_pattern_that_means_nothing_is_a_mistake(pattern, says):
    async def scenario():
        async with simulated() as (_, listing):
            with pytest.raises(ConfigError, match=says):
                await listing.resolve(pattern)
            async with followed(listing, 10) as changes:
                await asyncio.sleep(30)
            return changes

    assert testing.run(scenario) == []


def test_what_the_exchange_does_not_answer_is_not_resolved():
    async def scenario():
        exchange = Exchange("A-USDT")
        async with scripted(exchange) as listing:
            exchange.failing = lambda _: "50013"
            with pytest.raises(RestError):
                await listing.resolve("*-USDT")
            exchange.failing = lambda _: "51000"
            with pytest.raises(RestRefusedError):
                await listing.resolve("*-USDT")
            exchange.failing = lambda _: None
            assert await listing.resolve("*-USDT") == ["A-USDT"]

    testing.run(scenario)


# -- following


def test_what_is_listed_expires_and_is_renamed_is_followed():
    async def scenario():
        async with simulated() as (sim, listing):
            await listing.resolve("*-USDT")
            await listing.resolve("*-USDT-SWAP")
            async with followed(listing) as changes:
                sim.inject("list:inst=NEW-USDT")
                await asyncio.sleep(EVERY + 1)
                assert changes == [Change("*-USDT", ("NEW-USDT",), ())]
                sim.inject("expire:inst=ETH-USDT-SWAP")
                await asyncio.sleep(EVERY)
                assert changes[1:] == [Change("*-USDT-SWAP", (), ("ETH-USDT-SWAP",))]
                sim.inject("rename:inst=NEW-USDT,to=NEWER-USDT")
                await asyncio.sleep(EVERY)
                assert changes[2:] == [Change("*-USDT", ("NEWER-USDT",), ("NEW-USDT",))]
                await asyncio.sleep(10 * EVERY)
            assert len(changes) == 3
            assert "NEWER-USDT" in await listing.resolve("*-USDT")

    testing.run(scenario)


def test_all_patterns_together_cost_one_question_a_kind():
    async def scenario():
        exchange = Exchange("A-USDT", "B-USDT", "A-USDT-SWAP", "A-USDT-260101")
        async with scripted(exchange) as listing:
            for pattern in ("*-USDT", "A-*", "*-USDT-SWAP", "A-USDT-*"):
                await listing.resolve(pattern)
            exchange.asked.clear()
            async with followed(listing, 10):
                await asyncio.sleep(25)
            return sorted(exchange.asked)

    assert testing.run(scenario) == ["FUTURES", "FUTURES", "SPOT", "SPOT", "SWAP", "SWAP"]


def test_a_pattern_that_has_lost_everything_is_followed_on():
    async def scenario():
        exchange = Exchange("A-USDT", "B-USDC")
        async with scripted(exchange) as listing:
            await listing.resolve("*-USDC")
            async with followed(listing) as changes:
                exchange.insts = {"A-USDT"}
                await asyncio.sleep(EVERY + 1)
                exchange.insts = {"A-USDT", "C-USDC"}
                await asyncio.sleep(EVERY)
            return changes

    assert testing.run(scenario) == [Change("*-USDC", (), ("B-USDC",)), Change("*-USDC", ("C-USDC",), ())]


def test_a_forgotten_pattern_is_not_asked_for():
    async def scenario():
        exchange = Exchange("A-USDT", "A-USDT-SWAP")
        async with scripted(exchange) as listing:
            await listing.resolve("*-USDT")
            await listing.resolve("*-USDT-SWAP")
            listing.forget("*-USDT")
            listing.forget("*-USDT")
            exchange.asked.clear()
            exchange.insts = {"B-USDT", "B-USDT-SWAP"}
            async with followed(listing) as changes:
                await asyncio.sleep(EVERY + 1)
            return exchange.asked, changes

    asked, changes = testing.run(scenario)
    assert asked == ["SWAP"]
    assert changes == [Change("*-USDT-SWAP", ("B-USDT-SWAP",), ("A-USDT-SWAP",))]


def test_a_pattern_forgotten_while_another_changes_changes_no_more():
    async def scenario():
        exchange = Exchange("A-USDT")
        changes: list[Change] = []
        async with scripted(exchange) as listing:

            async def changed(change: Change) -> None:
                changes.append(change)
                listing.forget("*-USDT")
                listing.forget("A*-USDT")

            await listing.resolve("*-USDT")
            await listing.resolve("A*-USDT")
            exchange.insts.add("AB-USDT")
            task = asyncio.create_task(listing.follow(changed))
            await asyncio.sleep(3 * EVERY)
            task.cancel()
        return changes

    assert testing.run(scenario) == [Change("*-USDT", ("AB-USDT",), ())]


def test_what_the_owner_could_not_do_comes_again():
    async def scenario():
        exchange = Exchange("A-USDT")
        changes: list[Change] = []
        async with scripted(exchange) as listing:
            await listing.resolve("*-USDT")
            exchange.insts = {"B-USDT"}

            async def changed(change: Change) -> None:
                changes.append(change)
                if len(changes) == 1:
                    raise OSError("not now")

            with pytest.raises(OSError, match="not now"):
                await listing.follow(changed)
            task = asyncio.create_task(listing.follow(changed))
            await asyncio.sleep(3 * EVERY)
            task.cancel()
        return changes

    assert testing.run(scenario) == [Change("*-USDT", ("B-USDT",), ("A-USDT",))] * 2


# -- outages


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "okstream.listings"]


@pytest.mark.parametrize("code", ["50013", "51000"])
def test_an_outage_removes_nothing_and_is_said_once(code, caplog):
    """One kind of a pattern's two is not answered: what changed of the other is told all the same."""

    async def scenario():
        exchange = Exchange("A-USDT", "A-USDT-SWAP", "A-USDT-260101")
        async with scripted(exchange) as listing:
            await listing.resolve("A-USDT-*")
            async with followed(listing) as changes:
                exchange.failing = lambda kind: code if kind == "SWAP" else None
                exchange.insts = {"A-USDT-260101", "A-USDT-260401"}
                await asyncio.sleep(10 * EVERY)
                assert changes == [Change("A-USDT-*", ("A-USDT-260401",), ())]
                assert lines(caplog) == ["WARNING"]
                exchange.insts.add("B-USDT-SWAP")
                exchange.failing = lambda _: None
                await asyncio.sleep(2 * EVERY)
                assert changes[1:] == [Change("A-USDT-*", (), ("A-USDT-SWAP",))]
                assert lines(caplog) == ["WARNING", "INFO"]

    testing.run(scenario)
    assert "SWAP" in caplog.text
    assert "FUTURES" not in caplog.text


def test_every_outage_is_said(caplog):
    async def scenario():
        exchange = Exchange("A-USDT", "A-USDT-SWAP", "A-USDT-260101")
        async with scripted(exchange) as listing:
            await listing.resolve("*-USDT")
            await listing.resolve("A-USDT-*")
            async with followed(listing) as changes:
                for _ in range(2):
                    exchange.failing = lambda _: "50013"
                    await asyncio.sleep(5 * EVERY)
                    exchange.failing = lambda _: None
                    await asyncio.sleep(5 * EVERY)
            return changes

    assert testing.run(scenario) == []
    assert lines(caplog) == ["WARNING", "INFO"] * 2


def test_an_exchange_that_goes_away_and_comes_back_is_followed_on():
    async def scenario():
        async with simulated() as (sim, listing):
            await listing.resolve("*-USDT")
            async with followed(listing) as changes:
                sim.inject("kill:seconds=300")
                await asyncio.sleep(200)
                assert changes == []
                sim.inject("list:inst=NEW-USDT")
                await asyncio.sleep(200)
            return changes

    assert testing.run(scenario) == [Change("*-USDT", ("NEW-USDT",), ())]


def test_an_empty_market_is_an_outage_but_options_may_all_expire(caplog):
    async def scenario():
        exchange = Exchange("A-USDT", "BTC-USD-260109-60000-C")
        async with scripted(exchange) as listing:
            await listing.resolve("*-USDT")
            await listing.resolve(OPTIONS)
            async with followed(listing) as changes:
                exchange.insts = set()
                await asyncio.sleep(5 * EVERY)
            return changes

    assert testing.run(scenario) == [Change(OPTIONS, (), ("BTC-USD-260109-60000-C",))]
    assert lines(caplog) == ["WARNING"]


INSTS = st.sets(st.sampled_from(["A-USDT", "B-USDT", "C-USDT", "A-USDT-SWAP", "B-USDT-SWAP", "A-USDT-260101"]))


@settings(max_examples=25)
@given(st.lists(st.tuples(INSTS, st.sets(st.sampled_from(["SPOT", "SWAP", "FUTURES"]))), max_size=6), INSTS)
def test_who_does_as_the_changes_say_has_what_is_listed(steps, last):
    """Through any lists and outages; at the end, all is well."""
    patterns = ("*-USDT", "A-USDT-*", "B-USDT-SWAP")
    anchors = {"Z-USDT", "Z-USDT-SWAP", "Z-USDT-260101"}  # no market is ever empty

    async def scenario():
        exchange = Exchange(*anchors, "A-USDT-SWAP", "B-USDT-SWAP")
        async with scripted(exchange) as listing:
            held = {pattern: set(await listing.resolve(pattern)) for pattern in patterns}

            async def changed(change: Change) -> None:
                assert not held[change.pattern] & set(change.added)
                assert held[change.pattern] >= set(change.removed)
                held[change.pattern] = (held[change.pattern] | set(change.added)) - set(change.removed)

            task = asyncio.create_task(listing.follow(changed))
            for insts, failing in [*steps, (last, set())]:
                exchange.insts = insts | anchors
                exchange.failing = lambda kind, failing=failing: "51000" if kind in failing else None
                await asyncio.sleep(EVERY)
            await asyncio.sleep(EVERY)
            task.cancel()
            for pattern in patterns:
                assert held[pattern] == {inst for inst in exchange.insts if matches(pattern, inst)}

    testing.run(scenario)

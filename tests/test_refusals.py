"""Refusals over real sockets: the one that is refused is named, the others do not notice."""

import asyncio

import pytest

from okstream import Credentials, LoginRefusedError, SubscriptionRefusedError, testing, venues
from okstream.records import Status
from okstream.simulator import TEST_ACCOUNT, Settings, Simulator
from okstream.stream import Stream

DIALECTS = venues.DIALECTS


def exchange(dialect, **settings):
    return Simulator(dialect, settings=Settings(start_ms=testing.START_NS // 1_000_000, rate=0.1, **settings))


def stream_of(sim, dialect, **options):
    return Stream(venues.simulated(dialect, sim.url, sim.rest_url), wall_ns=testing.wall_ns, **options)


async def _read(stream, records):
    async for record in stream:
        records.append(record)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_a_hundred_subscriptions_one_is_nonsense_and_99_live(dialect):
    names = [f"SIM{number:03}-USDT" for number in range(99)]
    names.insert(50, "NONSENSE-USDT")

    async def scenario():
        async with exchange(dialect) as sim, stream_of(sim, dialect) as stream:
            asked = [stream.subscribe("ticker", name, timeout=60) for name in names]
            answers = dict(zip(names, await asyncio.gather(*asked, return_exceptions=True), strict=True))
            await asyncio.sleep(5)
            live = [state.subscription.inst for state in stream.state().subscriptions if state.state == "live"]
            return answers, live, sim.counters.connections

    answers, live, connections = testing.run(scenario)
    refused = {name: error for name, error in answers.items() if isinstance(error, BaseException)}
    assert list(refused) == ["NONSENSE-USDT"]
    assert isinstance(refused["NONSENSE-USDT"], SubscriptionRefusedError)
    assert "ticker:NONSENSE-USDT refused by sim" in str(refused["NONSENSE-USDT"])
    assert len(live) == 99
    assert connections == 1


WRONG = [(dialect, wrong) for dialect in DIALECTS for wrong in ("key", "secret", "passphrase")]
WRONG.remove(("okex-v1", "passphrase"))  # that login has none


@pytest.mark.parametrize(("dialect", "wrong"), WRONG)
def test_a_wrong_credential_is_refused_before_anything_else(dialect, wrong):
    right = {"key": TEST_ACCOUNT.key, "secret": TEST_ACCOUNT.secret, "passphrase": TEST_ACCOUNT.passphrase}
    credentials = Credentials(**{**right, wrong: "marker-secret-9f2b"})

    async def scenario():
        async with exchange(dialect) as sim, stream_of(sim, dialect, accounts=credentials) as stream:
            with pytest.raises(LoginRefusedError) as raised:
                await stream.subscribe("orders", "BTC-USDT", timeout=60)
            with pytest.raises(LoginRefusedError):
                await stream.wait()
            seen = []
            with pytest.raises(LoginRefusedError):
                await _read(stream, seen)
            return str(raised.value), seen

    message, seen = testing.run(scenario)
    assert "main: login refused: " in message
    assert "marker-secret-9f2b" not in message + repr(seen)
    assert all(isinstance(record, Status) for record in seen)

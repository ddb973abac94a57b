"""What goes unseen with the channels of an account, to show that their connection flows."""

import pytest

from okstream.channels import parse
from okstream.dialects import load


@pytest.mark.parametrize(
    ("user", "ticker"),
    [
        ("orders:ETH-USDT", "spot/ticker:BTC-USDT"),
        ("orders:ETH-EUR", "spot/ticker:BTC-EUR"),
        ("orders:ETH-BTC", "spot/ticker:BTC-USDT"),
        ("orders:ETH-USD-SWAP", "spot/ticker:BTC-USDT"),
        ("positions:BTC-USD-191227", "spot/ticker:BTC-USDT"),
        ("account:business=spot,currency=BTC", "spot/ticker:BTC-USDT"),
    ],
)
def test_on_v3_it_is_a_ticker_that_is_never_quiet_for_long(user, ticker):
    v3 = load("okex-v3")
    (sub,) = parse(user)
    canary = v3.traits(sub).canary
    assert canary is not None
    assert v3.traits(canary).key == ticker
    assert not v3.traits(canary).login


def test_on_v1_likewise_and_on_v5_it_is_the_account():
    v1, v5 = load("okex-v1"), load("okx-v5")
    ((orders,), (account,)) = parse("orders:BTC-USDT"), parse("account")
    assert str(v1.traits(orders).canary) == "ticker:BTC-USDT"
    assert v5.traits(parse("orders")[0]).canary == account


@pytest.mark.parametrize("name", ["okx-v5", "okex-v3", "okex-v1"])
def test_public_channels_have_none(name):
    assert load(name).traits(parse("ticker:BTC-USDT")[0]).canary is None

"""Every channel can be subscribed to, and most of them flow."""

import pytest
from client import FREE, Client

from okstream.simulator import Simulator
from okstream.simulator.v5_channels import CHANNELS
from okstream.simulator.v5_derived import Quiet

TARGET = {"open-interest": "BTC-USDT-SWAP", "funding-rate": "BTC-USDT-SWAP"}


def argument(name):
    channel = CHANNELS[name]
    values = {"instId": TARGET.get(name, "BTC-USDT"), "instType": "ANY", "instFamily": "BTC-USD", "algoId": "1"}
    if channel.types and "ANY" not in channel.types:
        values["instType"] = "SWAP"
    if name == "option-trades":
        return {"channel": name, "instType": "OPTION", "instFamily": "BTC-USD"}
    return {"channel": name, **{k: values[k] for k in channel.required}}


@pytest.mark.parametrize("path", ["public", "business", "private"])
async def test_every_channel_is_acknowledged_and_flows(path):
    async with Simulator(settings=FREE) as sim, Client(sim.urls[path]) as client:
        await client.login()
        names = [n for n, c in CHANNELS.items() if path in c.paths and not n.startswith("books50")]
        names = [n for n in names if n != "books-l2-tbt"]
        await client.send("subscribe", *(argument(n) for n in names))
        silent = {n for n in names if issubclass(CHANNELS[n].serves, Quiet) and n != "status"}
        silent |= {"orders", "fills", "liquidation-orders"}
        acked, flowed = set(), set()
        while acked < set(names) or flowed < set(names) - silent:
            message = await client.next()
            assert message.get("event") != "error", message
            if message.get("event") == "subscribe":
                acked.add(message["arg"]["channel"])
            elif "data" in message:
                flowed.add(message["arg"]["channel"])

"""Whatever a client sends, it gets an answer and keeps its connection."""

import json
from dataclasses import replace

import pytest
from client import FREE, Client
from test_v1 import Oldest
from test_v3 import Old

from okstream.simulator import Simulator

VALUES = [None, True, 0, -1, 1.5, "", "x", "é\u0000", [], [[]], {}, {"a": []}, "BTC-USDT", "SWAP"]
FRAMES = ["", "{", "null", "[]", '""', "1", "'", "[null]", '{"op":null}', '{"event":null}', "pong", "\ufeff{}"]
FRAMES += [json.dumps({key: value}) for key in ("op", "event", "id") for value in VALUES]
FRAMES += [json.dumps({"op": op, "args": v}) for op in ("subscribe", "unsubscribe", "login") for v in VALUES]
FRAMES += [json.dumps({"op": op, "args": [v]}) for op in ("subscribe", "unsubscribe", "login") for v in VALUES]
FRAMES += [
    json.dumps({"op": "subscribe", "args": [{"channel": channel, key: value}]})
    for channel in ("books", "orders", "opt-summary", "option-trades", "index-tickers", "candle1m")
    for key in ("instId", "instType", "instFamily", "channel")
    for value in VALUES
]
FRAMES += [json.dumps({"op": "login", "args": [{key: v}]}) for key in ("apiKey", "sign", "timestamp") for v in VALUES]
FRAMES += [json.dumps({"op": "login", "args": [v] * 4}) for v in VALUES]
FRAMES += [json.dumps({"event": e, "channel": v}) for e in ("addChannel", "removeChannel") for v in VALUES]
FRAMES += [json.dumps({"event": "login", "parameters": v}) for v in VALUES]
FRAMES += [json.dumps({"event": "login", "parameters": {"api_key": v, "sign": v}}) for v in VALUES]


@pytest.mark.parametrize(
    ("dialect", "kind", "ping", "pong"),
    [
        ("okx-v5", Client, "ping", "pong"),
        ("okex-v3", Old, "ping", "pong"),
        ("okex-v1", Oldest, '{"event":"ping"}', {"event": "pong"}),
    ],
)
async def test_nonsense_does_no_harm(dialect, kind, ping, pong, caplog):
    settings = replace(FREE, close_failed_login=False)
    async with Simulator(dialect, settings) as sim, kind(sim.urls.get("spot") or sim.urls["public"]) as client:
        for frame in FRAMES:
            await client.ws.send(frame)
        await client.ws.send(ping)
        while await client.next() != pong:
            pass
        assert len(sim.connections) == 1
        assert [r for r in caplog.records if r.levelname == "ERROR"] == []

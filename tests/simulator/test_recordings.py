"""What was asked of the real exchange, asked of the simulated one: the answers have the same form."""

import asyncio
import base64
import json
import zlib

import pytest
from client import FREE, Client
from test_v3 import Old

from okstream.simulator import Simulator


def frames(path):
    """The requests of a recording, and the control messages among its answers."""
    asked, answers = [], []
    for line in path.read_text().splitlines():
        event = json.loads(line)
        if event["dir"] == "send":
            asked.append(event["text"])
        elif event["dir"] == "recv":
            text = event.get("text") or zlib.decompress(base64.b64decode(event["b64"]), -15)
            message = json.loads(text)
            if "event" in message:
                answers.append(message)
    return asked, answers


async def answers_of(client, asked, count, names):
    for text in asked:
        for old, new in names.items():
            text = text.replace(f'"{old}"', f'"{new}"').replace(f':{old}"', f':{new}"')
        await client.ws.send(text)
    back = {new: old for old, new in names.items()}
    found = []
    async with asyncio.timeout(10):
        while len(found) < count:
            message = await client.next()
            if "event" in message:
                message.pop("connId", None)
                text = json.dumps(message, separators=(",", ":"))
                for new, old in back.items():
                    text = text.replace(f'"{new}"', f'"{old}"').replace(f':{new}"', f':{old}"')
                found.append(json.loads(text))
    return found


def spare(wanted, sim):
    """Instruments of the simulated exchange that stand for those of a recording."""
    left = {}
    for inst in sim.engine.market.instruments.values():
        left.setdefault(inst.type, []).append(inst.inst)
    return {name: left[kind].pop(0) for name, kind in wanted.items()}


async def test_v5_answers(recordings):
    asked, answers = frames(recordings / "okx-v5" / "2022-05-public.jsonl")
    kinds = {"BTC-USD-220527": "FUTURES", "UNI-USD-SWAP": "SWAP"}
    async with Simulator(settings=FREE) as sim, Client(sim.urls["public"]) as client:
        assert await answers_of(client, asked, len(answers), spare(kinds, sim)) == answers


@pytest.mark.parametrize("name", ["okex-v3/2021-04-public.jsonl", "okcoin-v3/2021-04-public.jsonl"])
async def test_v3_answers(recordings, name):
    asked, answers = frames(recordings / name)
    kinds = {}
    for text in asked:
        for arg in json.loads(text)["args"]:
            table, _, inst = arg.partition(":")
            kinds[inst] = table.partition("/")[0].upper()
    async with Simulator("okex-v3", FREE) as sim, Old(sim.urls["public"]) as client:
        assert await answers_of(client, asked, len(answers), spare(kinds, sim)) == answers

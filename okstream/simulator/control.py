"""Faults and state over HTTP: POST a fault text, GET the counters. Loopback, bearer token."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from okstream.errors import ConfigError
from okstream.simulator.faults import FAULTS

if TYPE_CHECKING:
    from okstream.simulator.server import Simulator

PATH = "/control"


def routes(simulator: Simulator) -> list[web.RouteDef]:
    """GET: counters, connections, the list of faults. POST: one fault text a line, strikes at once."""

    def allowed(request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), simulator.token.encode())

    async def show(request: web.Request) -> web.Response:
        if not allowed(request):
            return web.Response(status=401)
        state = {
            "counters": simulator.counters.as_dict(),
            "armed": simulator.engine.armed.names(),
            "connections": [
                {"id": c.id, "path": c.path, "sent": c.sent, "subscriptions": sorted(c.subscriptions)}
                for c in simulator.connections
            ],
            "faults": {name: about for name, (_, about) in FAULTS.items()},
        }
        return web.Response(body=orjson.dumps(state), content_type="application/json")

    async def inject(request: web.Request) -> web.Response:
        if not allowed(request):
            return web.Response(status=401)
        try:
            done = [simulator.inject(line).name for line in (await request.text()).splitlines() if line.strip()]
        except ConfigError as error:
            return web.Response(status=400, text=str(error))
        return web.Response(body=orjson.dumps({"injected": done}), content_type="application/json")

    return [web.get(PATH, show), web.post(PATH, inject)]

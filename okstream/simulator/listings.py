"""What is listed, expires and is renamed while the exchange runs."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count

from okstream.simulator.engine import Engine
from okstream.simulator.faults import Fault
from okstream.simulator.instruments import listed

FAULTS = frozenset({"list", "expire", "rename"})
_OUTLIVES = re.compile("book|bbo|depth|trade|deal|position")
"""Channels whose subscriptions go on under the old name."""


def strike(engine: Engine, fault: Fault) -> bool:
    """Change what is traded. False where there is nothing to change: already listed, or not."""
    now = engine.clock.ms()
    if fault.name == "list":
        return _list(engine, fault.inst, now)
    if fault.name == "rename":
        return _rename(engine, fault.inst, fault.option("to"), now)
    return _expire(engine, fault.inst, now)


def _list(engine: Engine, inst: str, now: int) -> bool:
    market = engine.market
    name = inst or next(name for n in count() if (name := f"NEW{n:03d}-USDT-SWAP") not in market.instruments)
    made = listed(name, 60_000 + len(market.changes), now)
    if made is None or name in market.instruments:
        return False
    market.add(made)
    return True


def _expire(engine: Engine, inst: str, now: int) -> bool:
    if inst not in engine.market.instruments:
        return False
    for sub in engine.about(inst):
        engine.remove(sub)
    engine.market.expire(inst, now)
    for user in engine.users.values():
        for order in user.pending():
            if order.instrument.inst == inst:
                user.cancel(order.id)
    return True


def _rename(engine: Engine, inst: str, to: str, now: int) -> bool:
    market = engine.market
    old, model = market.instruments.get(inst), listed(to, 0, now)
    if old is None or model is None or model.type != old.type or to in market.instruments:
        return False
    for sub in engine.about(inst):
        if not _OUTLIVES.search(sub.channel):
            engine.remove(sub)
    family = model.family if old.family else ""
    new = replace(old, inst=to, base=model.base, quote=model.quote, family=family)
    market.rename(inst, new, now)
    for user in engine.users.values():
        user.renamed(old, new)
    return True

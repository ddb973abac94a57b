"""
The parts of okstream's way from frame to line, each alone, in this process: `python -m benchmarks.parts`.

Figures are µs a message of the usual mix, the best of a few turns; nothing is pinned and no socket takes part.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from okstream import venues
from okstream.channels import parse
from okstream.dialects import Push, load
from okstream.encoding import encode
from okstream.fanout.rendering import entries
from okstream.feed import Delivery, Feed
from okstream.inflate import CAP, inflate
from okstream.records import DataRecord
from okstream.session import Session
from okstream.session.budget import Budget
from okstream.session.terms import Terms
from okstream.statements import Statements

from .market import INSTRUMENTS, Market
from .wires import WIRES, Wire

_COUNT = 10_000
_TURNS = 5
_BATCH = 500


class Part:
    """One generation's messages, and a session that is ready for them."""

    def __init__(self, wire: Wire, raw: bool) -> None:
        venue = venues.find(wire.venue)
        self.dialect = load(venue.dialect)
        subs = [sub for name in ("ticker", "trades", "book") for sub in parse(f"{name}:{','.join(INSTRUMENTS)}")]
        statements = Statements("0000")
        feeds = [Feed(sub, wire.venue, self.dialect, statements, parsed=not raw) for sub in subs]
        terms = Terms(self.dialect, venue.limits, Budget(None), parsed=not raw, raw=raw)
        self.feeds = {feed.traits.key: feed for feed in feeds}
        self.session = Session(terms, self.feeds, 0.0, 0)
        self.session.to_send(0.0)
        market = Market(wire)
        self.binary = wire.deflated
        for snapshot in market.snapshots():
            self.session.receive(_payload(snapshot), self.binary, 0.0, 0)
        self.frames = [_payload(frame) for frame in market.messages(_COUNT)]
        self.texts = [inflate(frame) if self.binary else frame for frame in self.frames]

    def receive(self) -> list[Delivery]:
        """Return what all messages bring."""
        receive, binary = self.session.receive, self.binary
        return [delivery for frame in self.frames for delivery in receive(frame, binary, 0.0, 1)]


def _payload(frame: bytes) -> bytes:
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def _best(work: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> float:
    times = []
    for _ in range(_TURNS):
        prepare()
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1e6 / _COUNT


def _each(function: Callable[[Any], object], things: Iterable[Any]) -> Callable[[], None]:
    def work() -> None:
        for thing in things:
            function(thing)

    return work


def _whole(wire: Wire, form: str) -> float:
    """Time frames to lines, some hundred at a time, as a busy socket brings them."""
    raw = form == "raw"
    times = []
    for _ in range(_TURNS):
        part = Part(wire, raw)
        receive, binary = part.session.receive, part.binary
        began = time.process_time()
        for at in range(0, _COUNT, _BATCH):
            brought: list[Delivery] = []
            for frame in part.frames[at : at + _BATCH]:
                brought += receive(frame, binary, 0.0, 1)
            b"".join([entry.line for entry in entries(brought, form, statements=False)])
        times.append(time.process_time() - began)
    return min(times) * 1e6 / _COUNT


def _decoded(part: Part) -> list[tuple[Any, Any]]:
    pushes = [message for text in part.texts for message in part.dialect.read(text) if isinstance(message, Push)]
    decoders = {key: part.dialect.decoder(feed.sub, feed.venue) for key, feed in part.feeds.items()}
    return [(decoders[push.key], push.payload) for push in pushes]


def report(wire: Wire) -> None:
    """Print one line for each part."""
    part = Part(wire, raw=False)
    dialect = part.dialect
    rows: list[tuple[str, float]] = []
    if part.binary:
        rows.append(("inflate", _best(_each(lambda frame: inflate(frame, CAP), part.frames))))
    rows.append(("route", _best(_each(dialect.route, part.texts))))
    rows.append(("read", _best(_each(dialect.read, part.texts))))
    decoded = _decoded(part)
    rows.append(("decode", _best(_each(lambda pair: pair[0](pair[1], 1), decoded))))
    records: list[DataRecord] = [record for decode, payload in decoded for record in decode(payload, 1)]
    rows.append(("encode", _best(_each(encode, records))))
    rows += [(f"frame to line, {form}", _whole(wire, form)) for form in ("json", "raw")]
    for name, figure in rows:
        print(f"  {name:<22}{figure:6.2f}")


if __name__ == "__main__":
    for generation, wire in WIRES.items():
        print(f"{generation}, µs a message")
        report(wire)

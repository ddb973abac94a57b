"""What a store of the exchange's own texts holds, with the gaps it was told of, is all there was."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from oracle import CADENCE, _One
from soak.freezing import decoded

from okstream.dialects import Push, load
from okstream.records import AnyRecord, Gap, Status, Trade
from okstream.simulator.engine import _wrong_checksum

from .judging import _NS, TRADES, Held, Truth, _begins, _parts, _spans, _trades, twice
from .plan import Store


@dataclass(slots=True)
class Text:
    """A text as a store holds it. `recv` is when it was pushed to the process that it came by, ns, by our clock."""

    line: bytes
    recv: int


class Texts:
    """
    What the exchange sent in a scene, as texts.

    `topics` are the keys of the subscriptions that each text is of; `times` is how often each was sent; `pushed` has
    when each came first, in the loop's seconds, by its subscription and the process it was sent to, and `by` which
    connections it came by. What was damaged on its way was `perhaps` sent.
    """

    def __init__(self, truth: Truth) -> None:
        self.topics: defaultdict[bytes, set[str]] = defaultdict(set)
        self.times: Counter[bytes] = Counter()
        self.by: defaultdict[bytes, set[str]] = defaultdict(set)
        self.pushed: defaultdict[tuple[str, int], dict[bytes, float]] = defaultdict(dict)
        self.perhaps: set[bytes] = set()
        self._dialect = load(truth.scene.plan.dialect)
        accounts = {feed.traits.key: feed.sub.account for feed in truth.feeds}
        for entry in truth.scene.sim.log.entries():
            text = orjson.dumps(entry.payload)
            if not entry.sent:
                if b'"checksum":' not in text:
                    continue
                text = _wrong_checksum(text)
            line = _line(text)
            if not entry.sent:
                self.perhaps.add(line)
            keys = {message.key for message in self._dialect.read(text) if isinstance(message, Push)}
            # What only shows that the connection of an account flows nobody sees.
            keys = {key for key in keys if key in accounts and (accounts[key] or entry.login is None)}
            self.topics[line] |= keys
            self.times[line] += 1
            self.by[line].add(entry.connection)
            for key in keys:
                self.pushed[key, truth.life_of(entry.connection)].setdefault(line, entry.at)

    def records(self, feed: Any, text: Text) -> list[AnyRecord]:
        """Return the records that are made of a text of `feed`."""
        dialect = self._dialect
        found: list[AnyRecord] = []
        for message in dialect.read(text.line):
            if isinstance(message, Push) and message.key == feed.traits.key:
                found += dialect.decoder(feed.sub, feed.venue)(message.payload, text.recv)
        return found


def _line(text: bytes) -> bytes:
    # v1 says in each message whether it travels compressed; the log holds it before that is known.
    return text.replace(b'"binary":0', b'"binary":1') + b"\n"


def judged(store: Store, lines: Sequence[bytes], truth: Truth) -> Held:
    """
    Hold the `lines` of a store in raw form against what the exchange sent.

    Raises:
        AssertionError: something was lost in silence, came twice, is out of order, or was not so.
    """
    held = Held()
    texts = truth.cached(Texts)
    lines = [line if line.startswith(b'{"type":') else _line(line[:-1]) for line in lines]
    counts = Counter(lines)
    for line, count in counts.items():
        said = line.startswith(b'{"type":')
        assert said or texts.times[line], f"{store.name}: not what was pushed: {line!r}"
        if not (store.kind == "file" and line.startswith(b'{"type":"gap"')):  # as in other stores
            held.again += max(0, count - (1 if said else texts.times[line]))
    sent_again = truth.scene.sim.counters.faults["duplicate"]
    assert held.again <= twice(store, truth) + sent_again, f"{store.name}: {held.again} lines twice"
    own: defaultdict[str, list[Any]] = defaultdict(list)
    for line in counts:
        if line.startswith(b'{"type":'):
            record = decoded(line)
            for feed in truth.feeds:
                if (record.channel, record.inst) == (feed.sub.channel, feed.sub.inst):
                    own[feed.traits.key].append(record)
        else:
            for key in texts.topics[line]:
                own[key].append(line)
    for feed in truth.feeds:
        _subscription(store, feed, _placed(feed, own[feed.traits.key], truth, texts), truth, held)
    return held


def _placed(feed: Any, own: Iterable[Any], truth: Truth, texts: Texts) -> list[Any]:
    """Return what a store holds of a subscription, each text in the life of the process it came by."""
    life = 0
    placed: list[Any] = []
    for one in own:
        if isinstance(one, Gap | Status):
            life = max(life, truth.lived(one.recv))
            placed.append(one)
            continue
        # The same may have been sent to several: then to the first that it can have come by.
        lives = [number for number in range(len(truth.begins)) if one in texts.pushed[feed.traits.key, number]]
        life = next((number for number in lives if number >= life), lives[-1])
        at = texts.pushed[feed.traits.key, life][one]
        placed.append(Text(one, truth.scene.wall + int(at * _NS)))
    return placed


def _subscription(store: Store, feed: Any, own: list[Any], truth: Truth, held: Held) -> None:
    """One subscription, process by process."""
    name, sub, texts = f"{store.name}: {feed.sub}", feed.sub, truth.cached(Texts)
    shown = [one for one in own if isinstance(one, Text)]
    held.records += len(shown)
    if shown:
        held.last[sub, sub.inst] = shown[-1].line
    if sub.channel in TRADES:
        _trades(name, store, feed, _as_trades(store, feed, own, texts), truth, held)
    parts, final = _parts(own, truth), len(truth.scene.lives) - 1
    seen = set(texts.perhaps)
    for life, part in parts.items():
        one = _One(feed, [], part, 0.0, held.report)
        one.name = f"{name} of process {life}"
        one.gaps()
        held.spans += [(sub, reason, since, until) for reason, since, until in _spans(part)]
        if store.proves and min(parts) < life and any(isinstance(one, Text) for one in part):
            _begins(one.name, part)
        end = truth.until if life == final else 0.0
        pushed = texts.pushed[feed.traits.key, life]
        if truth.scene.plan.several:
            _each_in_order(one.name, feed, part, pushed, texts, end)
        else:
            held.report.excused += _in_order(one.name, store, part, pushed, seen, end)
        seen |= {text.line for text in part if isinstance(text, Text)}


def _in_order(
    name: str, store: Store, part: Sequence[Any], pushed: Mapping[bytes, float], before: set[bytes], end: float
) -> int:  # fmt: skip
    """What a process brought is what it was sent, in that order, and the rest lies within gaps; return how much."""
    sent = list(pushed)
    places = {line: at for at, line in enumerate(sent)}
    position, declared, excused = 0, False, 0
    seen = set(before)
    for index, one in enumerate(part):
        if isinstance(one, Gap):
            declared = True
        elif isinstance(one, Text):
            at = places[one.line]
            assert at >= position, f"{name}: not in order: {one.line!r}"
            missing = [line for line in sent[position:at] if line not in seen]
            said = declared or not missing or _rejected(store, part[index:])
            assert said, f"{name}: lost in silence: {missing[:3]} before {one.line!r}"
            seen.add(one.line)
            position, declared, excused = at + 1, False, excused + len(missing)
    late = [line for line in sent[position:] if line not in seen and pushed[line] < end]
    assert declared or not late, f"{name}: lost at its end: {late[:3]}"
    return excused + len(late)


def _rejected(store: Store, after: Sequence[Any]) -> bool:
    """Whether it is said behind the rest of a batch that something of it could not be written."""
    said = next((at for at, one in enumerate(after) if isinstance(one, Gap) and one.reason == "sink"), None)
    return said is not None and sum(isinstance(one, Text) for one in after[:said]) <= store.batch


def _each_in_order(
    name: str, feed: Any, part: Iterable[Any], pushed: Mapping[bytes, float], texts: Texts, end: float
) -> None:  # fmt: skip
    """What came by one connection alone is in order, and where no gap is open the last is not an old one."""
    newest: dict[str, float] = {}
    last, declared = 0.0, False
    for one in part:
        if isinstance(one, Gap):
            declared = one.state == "open"
        elif isinstance(one, Text):
            at = pushed[one.line]
            if len(texts.by[one.line]) == 1:
                (connection,) = texts.by[one.line]
                assert at >= newest.get(connection, 0.0), f"{name}: not in order: {one.line!r}"
                newest[connection] = at
            last = max(last, at)
    due = max((at for at in pushed.values() if at < end), default=0.0)
    late = 2 * CADENCE.get(feed.sub.channel, 1.0) + 1.0
    assert declared or last >= due - late, f"{name}: lost at its end, after {last:.3f}"


def _as_trades(store: Store, feed: Any, own: Iterable[Any], texts: Texts) -> list[AnyRecord]:
    """
    Return the trades of texts that were not shown before, and what is said between them.

    A gap that names none is about what is missing where it stands; one of a sink may stand behind the rest of a batch.
    """
    told: list[AnyRecord] = []
    known: set[str] = set()
    ids: list[str] = []
    nameless: list[int] = []
    for one in own:
        if isinstance(one, Gap):
            if one.until is None and one.state == "closed":
                nameless.append(len(told))
            last = ids[-store.batch if one.reason == "sink" else -1 :][:1]
            told.append(one if one.after is not None or not last else replace(one, after=last[0]))
        elif isinstance(one, Status):
            told.append(one)
        else:
            for trade in texts.records(feed, one):
                assert isinstance(trade, Trade)
                if trade.id not in known:
                    known.add(trade.id)
                    for at in nameless:
                        told[at] = replace(told[at], until=trade.id)
                    nameless.clear()
                    told.append(trade)
                    ids.append(trade.id)
    return told

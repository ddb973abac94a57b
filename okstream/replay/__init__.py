"""
Makes the calls of a journal again, on the same sessions and feeds: the same input gives the same records.

It reads no clock and decides nothing: every time comes from the journal, and so does every answer.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from okstream.dialects import Dialect, writable
from okstream.dialects.signing import Credentials
from okstream.errors import ConfigError, JournalError
from okstream.feed import Feed
from okstream.feed.continuity import Delivery
from okstream.feed.source import Source
from okstream.journal import JOURNAL
from okstream.records import Status
from okstream.sampling import Sampling
from okstream.session import Session
from okstream.session.budget import Budget
from okstream.session.secrecy import MASK
from okstream.session.terms import Terms
from okstream.statements import Statements
from okstream.venues import Limits
from okstream.wanted import ended

from . import calls
from .calls import END_OF_TIME, Call

_NOBODY = Credentials(f"{MASK} key", f"{MASK} secret", f"{MASK} passphrase")
"""Nobody's: what a journal masks is a part of these, so that it is not shown here, either."""


@dataclass(slots=True)
class Place:
    """The links that carry the same feeds, as links.Group."""

    venue: str
    dialect: Dialect
    limits: Limits
    budget: Budget
    feeds: dict[str, Feed] = field(default_factory=dict)


@dataclass(slots=True)
class Talk:
    """
    One connection, and the keys that are `wanted` there.

    `sent` and `probes`: what its session has sent, and asked REST about, that the journal has not come to yet.
    """

    session: Session
    place: Place
    now: float
    wanted: set[str]
    sent: deque[bytes] = field(default_factory=deque)
    probes: dict[str, Source] = field(default_factory=dict)


class Replay:
    """
    Takes a journal line by line; `deliver` gets what it brings.

    `wall` is the time of what was taken last, ns. `inputs` counts the calls, `lost` those that the journal says are
    missing in it, `differing` the frames that were sent then and would not be now: another okstream wrote it.

    Args:
        deliver: takes what is delivered, in order.
        forget: told of each feed that has ended.
        parsed, raw: whether anybody wants records, or the exchange's own text.
    """

    def __init__(
        self,
        deliver: Callable[[list[Delivery]], None],
        forget: Callable[[Feed], None] = lambda feed: None,
        *,
        parsed: bool = True,
        raw: bool = False,
    ) -> None:
        self.wall = 0
        self.inputs = 0
        self.lost = 0
        self.differing = 0
        self.instance: str | None = None
        self._segment = 0
        self._sends = True
        self._deliver = deliver
        self._forget = forget
        self.parsed = parsed
        self.raw = raw
        self._calls: dict[Any, Callable[[Call], None]] = {
            "recv": self._recv, "tick": self._tick, "ask": self._ask, "send": self._send, "journal": self._journal,
            "group": self._group, "add": self._add, "remove": self._remove, "end": self._end, "open": self._open,
            "keep": self._keep, "want": self._want, "unwant": self._unwant, "call": self._call, "doubt": self._doubt,
            "answer": self._answer, "close": self._close, "say": self._say, "lost": self._lose,
            "sampling": self._sample_from_here, "sample": self._sample,
        }  # fmt: skip
        self._places: dict[int, Place] = {}
        self._sampling: Sampling | None = None
        self._begin("")

    def take(self, line: bytes) -> None:
        """
        Make the call that `line` tells of.

        Raises:
            JournalError: it is none, or none that can follow on the ones before.
        """
        try:
            call = orjson.loads(line)
        except ValueError:
            raise JournalError("it is no line of a journal") from None
        self.make(call)

    def make(self, call: Call) -> None:
        """Make `call`, as `take` does with its line."""
        try:
            act = self._calls[call["dir"]]
        except (KeyError, TypeError):
            raise JournalError("it is no line of a journal") from None
        if self.instance is None and act != self._journal:
            raise JournalError("it does not begin as a journal does")
        act(call)
        self.inputs += 1

    def make_all(self, several: Sequence[Call]) -> None:
        """Make `several` calls in their order; frames of one read are taken together, as they were live."""
        at = 0
        while at < len(several):
            call, frames = several[at], _of_one_read(several, at)
            if len(frames) > 1 and (talk := self._talks.get(call["conv"])) is not None:
                self.wall, talk.now = call["wall"], call["now"]
                brought: list[Delivery] = []
                talk.session.receive_all(frames, False, talk.now, self.wall, brought)
                self._hand_over(brought)
                self.inputs += len(frames)
                at += len(frames)
            else:
                self.make(call)
                at += 1

    def leave(self) -> None:
        """What follows is of another journal: this one cannot go on."""
        self._begin("")

    # -- what is called

    def _recv(self, call: Call) -> None:
        try:
            now, wall, talk = call["now"], call["wall"], self._talks[call["conv"]]
        except (KeyError, TypeError):
            talk, now, wall = self._talk(call), calls.now(call), calls.wall(call)
        if type(wall) is not int or not 0 <= wall < calls.END_OF_TIME or type(now) is not float:
            now, wall = calls.now(call), calls.wall(call)
        self.wall, talk.now = wall, now
        text = call.get("text")
        if type(text) is str:
            data, binary = text.encode("utf-8", "surrogatepass"), False
        else:
            data, binary = calls.frame(call)
        if deliveries := talk.session.receive(data, binary, now, wall):
            self._hand_over(deliveries)

    def _tick(self, call: Call) -> None:
        talk, now, wall = self._talk(call), calls.now(call), calls.wall(call)
        self.wall, talk.now = wall, now
        session = talk.session
        session.stirred = False
        if deliveries := session.tick(now, wall):
            self._hand_over(deliveries)
        for source in session.oversight.probes:
            talk.probes[source.key] = source
        # What else the shell would do about these is in the journal by what came of it.
        for said in (session.oversight.probes, session.oversight.alarms, session.remarks, session.settled):
            said.clear()

    def _ask(self, call: Call) -> None:
        talk = self._talk(call)
        talk.now = calls.now(call)
        self.differing += len(talk.sent) if self._sends else 0
        talk.sent = deque(talk.session.to_send(talk.now))

    def _send(self, call: Call) -> None:
        talk = self._talk(call)
        frame = talk.sent.popleft() if talk.sent else None
        text = call.get("text")
        self.differing += frame is None or (text is not None and frame != calls.text(call, "text").encode())

    def _call(self, call: Call) -> None:
        self._talk(call).session.call(calls.now(call))

    def _doubt(self, call: Call) -> None:
        self._talk(call).session.doubt()

    def _answer(self, call: Call) -> None:
        talk, key, wall = self._talk(call), calls.text(call, "key"), calls.wall(call)
        newer = calls.get(call, "newer", bool)
        source = talk.probes.pop(key, None)
        if source is None:
            raise JournalError(f"REST was not asked about {key}")
        talk.session.oversight.answered(source, newer, wall)

    def _open(self, call: Call) -> None:
        number, place = calls.get(call, "conv", int), self._place(call)
        now, wall = calls.now(call), calls.wall(call)
        offset, hint = calls.get(call, "offset", int), call.get("hint")
        if hint is not None:
            hint = calls.get(call, "hint", int)
        if number in self._talks:
            raise JournalError(f"connection {number} is open already")
        credentials = _NOBODY if calls.get(call, "login", bool) else None
        terms = Terms(place.dialect, place.limits, place.budget, credentials, calls.cap(call), self.parsed, self.raw)
        asks = calls.get(call, "asks", bool)
        session = Session(terms, place.feeds, now, wall // 1_000_000, offset, hint, asks)
        self._talks[number] = Talk(session, place, now, set(place.feeds))

    def _close(self, call: Call) -> None:
        talk, wall = self._talk(call), calls.wall(call)
        self.wall = wall
        lost = calls.get(call, "lost", bool)
        del self._talks[call["conv"]]
        if lost:
            self._hand_over(talk.session.closed(wall))

    def _want(self, call: Call) -> None:
        talk, key = self._talk(call), calls.text(call, "key")
        _known(talk.place, key)
        if key in talk.wanted:
            raise JournalError(f"{key} is wanted already")
        talk.wanted.add(key)
        talk.session.want(key)

    def _unwant(self, call: Call) -> None:
        talk, key = self._talk(call), calls.text(call, "key")
        if key not in talk.wanted:
            raise JournalError(f"{key} is not wanted")
        talk.wanted.discard(key)
        talk.session.unwant(key)

    def _group(self, call: Call) -> None:
        number = calls.get(call, "group", int)
        dialect = calls.dialect(calls.text(call, "dialect"))
        limits = calls.limits(calls.get(call, "limits", dict))
        budget = self._budgets.setdefault(calls.get(call, "budget", int), Budget(limits.requests))
        own = budget if limits.requests_shared else Budget(limits.requests)
        self._places[number] = Place(calls.text(call, "venue"), dialect, limits, own)

    def _add(self, call: Call) -> None:
        place, sub = self._place(call), calls.subscription(call)
        parsed, keeps, canary = (calls.get(call, name, bool) for name in ("parsed", "keeps", "canary"))
        try:
            feed = Feed(
                sub, place.venue, place.dialect, self._statements, parsed=parsed or self.parsed, keeps=keeps
            )  # fmt: skip
        except (ConfigError, ValueError) as error:
            raise JournalError(str(error)) from None
        if feed.traits.key in place.feeds:
            raise JournalError(f"{sub} is there already")
        place.feeds[feed.traits.key] = feed
        if canary:
            self._canaries.add(feed)
        else:
            self._feeds[feed] = None

    def _keep(self, call: Call) -> None:
        _known(self._place(call), calls.text(call, "key")).keep()

    def _remove(self, call: Call) -> None:
        place = self._place(call)
        key = calls.text(call, "key")
        feed = _known(place, key)
        if any(talk.place is place and key in talk.wanted for talk in self._talks.values()):
            raise JournalError(f"{key} is still wanted")
        del place.feeds[key]
        if feed in self._canaries:
            self._canaries.discard(feed)
        else:
            del self._feeds[feed]
            self._forget(feed)

    def _end(self, call: Call) -> None:
        self.wall = calls.wall(call)
        self._hand_over([ended(_known(self._place(call), calls.text(call, "key")), self.wall)])

    def _sample_from_here(self, call: Call) -> None:
        depth, every = calls.get(call, "depth", int), calls.get(call, "every", int)
        if depth < 1 or every < 1:
            raise JournalError("no book comes at such times")
        self._sampling = Sampling(depth, every / 1e9, lambda: self._feeds, self._deliver)

    def _sample(self, call: Call) -> None:
        if self._sampling is None:
            raise JournalError("its books come as changes, not at fixed times")
        self.wall = calls.wall(call)
        self._sampling.look(self.wall)

    def _say(self, call: Call) -> None:
        self.wall = calls.wall(call)
        account = call.get("account")
        if account is not None:
            account = calls.text(call, "account")
        try:
            detail = writable(call.get("detail"))
        except TypeError:
            raise JournalError("what it says cannot be written") from None
        venue, state = calls.text(call, "venue"), calls.text(call, "state")
        status = Status(venue, None, None, account, None, self.wall, state, detail)
        self._hand_over([Delivery(None, [status])])

    def _lose(self, call: Call) -> None:
        """What is missing may have been anything: as where a frame of each connection cannot be read."""
        self.lost += calls.get(call, "count", int)
        for talk in self._talks.values():
            if deliveries := talk.session.receive(b"", False, talk.now, self.wall):
                self._hand_over(deliveries)

    def _journal(self, call: Call) -> None:
        number, instance = calls.get(call, "segment", int), calls.text(call, "instance")
        if (form := calls.get(call, "journal", int)) > JOURNAL:
            raise JournalError(f"it is of form {form}, and this okstream reads {JOURNAL}; a newer one wrote it")
        if number == 1:
            self._begin(instance)
            self._sends = call.get("sends", True) is True
            return
        if instance != self.instance:
            raise JournalError(f"it is segment {number} of {instance}, whose first is missing; a replay begins there")
        if number != self._segment + 1:
            raise JournalError(f"it is segment {number} of {instance}, and {self._segment} was the last before it")
        self._segment = number

    # -- inside

    def _begin(self, instance: str) -> None:
        for place in self._places.values():
            for feed in place.feeds.values():
                self._forget(feed)
        self._feeds: dict[Feed, None] = {}
        self._sampling = None
        self.instance = instance or None
        self._segment = 1
        self._statements = Statements(instance)
        self._places = {}
        self._budgets: dict[int, Budget] = {}
        self._talks: dict[int, Talk] = {}
        self._canaries: set[Any] = set()

    def _hand_over(self, deliveries: list[Delivery]) -> None:
        if self._canaries:
            deliveries = [delivery for delivery in deliveries if delivery.feed not in self._canaries]
        if deliveries:
            deliver = self._deliver if self._sampling is None else self._sampling.put
            deliver(deliveries)

    def _talk(self, call: Call) -> Talk:
        number = calls.get(call, "conv", int)
        if number not in self._talks:
            raise JournalError(f"connection {number} is not open")
        return self._talks[number]

    def _place(self, call: Call) -> Place:
        number = calls.get(call, "group", int)
        if number not in self._places:
            raise JournalError(f"there is no group {number}")
        return self._places[number]


def _of_one_read(several: Sequence[Call], at: int) -> list[bytes]:
    """Return the texts that one read brought from `at` on, as far as they are plain and their times make sense."""
    first, frames = several[at], []
    conv, now, wall = first.get("conv"), first.get("now"), first.get("wall")
    if type(conv) is int and type(now) is float and type(wall) is int and 0 <= wall < END_OF_TIME:
        for call in islice(several, at, None):
            try:
                if call["wall"] != wall or call["now"] != now or call["conv"] != conv or call["dir"] != "recv":
                    break
                text = call["text"]
            except KeyError:
                break
            if type(text) is not str:
                break
            frames.append(text.encode("utf-8", "surrogatepass"))
    return frames


def _known(place: Place, key: str) -> Feed:
    if key not in place.feeds:
        raise JournalError(f"{key} is not there")
    return place.feeds[key]

"""
One conversation with the exchange, without I/O: login, requests, acknowledgements, ping, routing.

It knows neither wire format nor clock; both are handed in. It lives as long as its connection; the feeds live on.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..dialects import Ack, Dropped, LoginReply, Message, Notice, Other, Pong, Push, Refusal
from ..errors import DecodeError, InflateError, LinkError, LoginRefusedError
from ..feed import RECORD_WEIGHT, Delivery, Feed
from ..feed.source import Pulse, Source
from ..inflate import inflate
from .budget import Budget
from .heartbeat import Heartbeat
from .ledger import Ledger
from .login import refused
from .oversight import Oversight
from .secrecy import Secrecy
from .terms import Terms

_UNREADABLE_IN_A_ROW = 20
_TOKEN = 1024


class Session:
    """
    One connection's conversation about `feeds` (by key, shared with the link; they outlive the session).

    Times `now` are seconds of a monotonic clock, `recv` and `wall_ms` are of the wall clock (ns, ms). After each
    call the link sends what `to_send` yields, and closes the connection once `ending` is set. `stirred` tells that
    something arrived which may change what is to be sent. `leaving` says why the connection should be replaced soon.

    Args:
        clock_offset_ms: the exchange's clock minus ours, as measured; logins are signed for the exchange's.
        clock_hint_ms: the same as far as it can be told otherwise, for the error message only.
        asks: whether there is a REST interface that can be asked about a silence.
    """

    def __init__(
        self,
        terms: Terms,
        feeds: Mapping[str, Feed],
        now: float,
        wall_ms: int,
        clock_offset_ms: int = 0,
        clock_hint_ms: int | None = None,
        asks: bool = False,
    ) -> None:
        self.ending: LinkError | LoginRefusedError | None = None
        self.ready = False
        self.stirred = False
        self.settled: list[tuple[Feed, Refusal | None]] = []
        self.counters: Counter[str] = Counter()
        self.leaving: str | None = None
        self.remarks: list[str] = []
        self._terms = terms
        self._dialect = terms.dialect
        self._feeds = feeds
        self._clock_hint = clock_offset_ms or clock_hint_ms
        budget = terms.budget if terms.limits.requests_shared else Budget(terms.limits.requests)
        self._ledger = Ledger(terms.limits.request_bytes, terms.limits.ack_within, budget)
        self._outbox: list[bytes] = []
        self._sources: dict[str, Source] = {}
        self._routes: dict[bytes | None, Source] = {}
        self._left: dict[str, Feed] = {}
        self._refused: set[str] = set()
        self._secrecy = Secrecy(terms.credentials.secrets if terms.credentials else ())
        self.scrub = self._secrecy.scrub
        self.heartbeat = Heartbeat(terms.limits, now)
        self._opened = now
        self._bad_in_a_row = 0
        self._wall = wall_ms * 1_000_000
        self._pulse = Pulse(self._wall)
        self.oversight = Oversight(self._sources, self._ask_anew, asks, now, wall_ms * 1_000_000)
        for key, feed in feeds.items():
            self._want(key, feed)
        if terms.credentials is None:
            self.ready = True
        elif budget.take(now, healing=True):
            login = self._dialect.login(terms.credentials, wall_ms + clock_offset_ms)
            self._outbox.append(login)
            self._secrecy.add(login.decode())  # its signature is as good as the secret for half a minute
        else:
            self.ending = LinkError("the venue's budget of requests an hour is spent; no login now")

    def want(self, key: str) -> None:
        """Subscribe to the feed under `key`."""
        self._want(key, self._feeds[key])

    def unwant(self, key: str) -> None:
        """Unsubscribe from `key`; called while its feed is still there."""
        self._routes.clear()
        self._ledger.unwant(key)
        self.oversight.forget(key)
        if (source := self._sources.pop(key, None)) is not None:
            source.feed.sources.remove(source)
        self._left = {left: feed for left, feed in self._left.items() if self._ledger.leaving(left)}
        if self._ledger.leaving(key):
            self._left[key] = self._feeds[key]

    def to_send(self, now: float) -> list[bytes]:
        """Return the frames that are to be sent now, in order."""
        if self.ready and self.ending is None:
            for op, keys, request in self._ledger.requests(now):
                if op == "subscribe":
                    for key in keys:
                        self._sources[key].ask()
                subs = [(self._feeds.get(key) or self._left[key]).sub for key in keys]
                self._outbox.append(self._dialect.request(op, subs, request))
        frames, self._outbox = self._outbox, []
        return frames

    def deadline(self, now: float) -> float:
        """Return when `tick` and `to_send` should be called next, if nothing arrives before."""
        times = [self.heartbeat.due]
        if not self.ready:
            times.append(self._opened + self._terms.limits.ack_within)
        elif (due := self._ledger.deadline(now)) is not None:
            times.append(due)
        if self._sources:
            times.append(self.oversight.next)
        return max(min(times), now)

    def tick(self, now: float, recv: int) -> list[Delivery]:
        """Watch silence, of the link and of each subscription; return what is to be said and delivered of it."""
        self._wall = recv
        limits = self._terms.limits
        if not self.ready and now >= self._opened + limits.ack_within:
            self.ending = LinkError(f"no answer to the login within {limits.ack_within:g} s")
        if now >= self.heartbeat.due:
            if self.heartbeat.waiting:
                silence = now - self.heartbeat.heard
                self.ending = LinkError(f"nothing was received for {silence:.0f} s, not even a pong")
            else:
                self._ping(now)
        if now < self.oversight.next:
            return []
        deliveries: list[Delivery] = []
        for source in list(self._sources.values()):
            if len(source.feed.sources) > 1:
                deliveries += source.feed.impatient(source, recv)
            if source.broken is not None:
                deliveries += self._watched(source, [], recv)
            if source.again:
                source.again = False
                self._ledger.forget(source.key)
                self._ledger.want(source.key, self._dialect.size(source.feed.sub), source.feed.traits.incremental)
        deliveries += self.oversight.look(now, recv)
        self.leaving = self.leaving or self.oversight.leaving
        return deliveries

    def doubt(self) -> None:
        """What was not brought by this connection, another one that brings it at once shows to be lost."""
        for source in self._sources.values():
            source.doubt()

    def call(self, now: float) -> None:
        """Ask for a sign of life, whatever was heard last."""
        if not self.heartbeat.waiting:
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._outbox.append(self._dialect.ping())
        self.heartbeat.ping(now)

    @property
    def flowing(self) -> bool:
        """Whether each subscription flows, or was acknowledged long enough ago and had nothing to show."""
        return self.ready and all(source.settled(self._wall) for source in self._sources.values())

    @property
    def ahead(self) -> bool:
        """Whether it shows what another connection, long silent there, may be about to bring."""
        return any(source.feed.ahead(source, self._wall) for source in self._sources.values())

    def receive(self, data: bytes, binary: bool, now: float, recv: int) -> list[Delivery]:
        """
        Take one frame; return what it brings, in order.

        Never raises for what the exchange sends: an unreadable frame is counted, and opens a gap for every
        subscription that may have lost something by it.
        """
        brought: list[Delivery] = []
        self.receive_all((data,), binary, now, recv, brought)
        return brought

    def receive_all(
        self, frames: Iterable[bytes], binary: bool, now: float, recv: int, brought: list[Delivery]
    ) -> None:
        """Take several frames of one read; append to `brought` what they bring. See `receive`."""
        self.heartbeat.beat(now)
        self._pulse.alive = recv
        cap, raw, routes = self._terms.cap, self._terms.raw, self._routes
        route, payload = self._dialect.route, self._dialect.payload
        for frame in frames:
            try:
                text = inflate(frame, cap) if binary else frame
                # The short way, for a message whose feed is known by its route.
                if (source := routes.get(route(text))) is not None:
                    weight = RECORD_WEIGHT * len(text)
                    try:
                        if source.feed.parsed:
                            deliveries = source.push(payload(text), recv, text if raw else None, weight)
                        else:
                            deliveries = source.push_raw(recv, text, weight)
                    except DecodeError:
                        pass  # it must be read with care
                    else:
                        self._bad_in_a_row = 0
                        watched = not deliveries or source.broken is not None
                        brought += self._watched(source, deliveries, recv) if watched else deliveries
                        continue
                messages = self._dialect.read(text)
            except (InflateError, DecodeError) as error:
                brought += self._unreadable(error, self._sources.values(), recv)
                continue
            if len(messages) == 1 and type(messages[0]) is Push:
                brought += self._push(messages[0], recv, text, len(text))
            else:
                brought += self._several(messages, text, now, recv)

    def closed(self, recv: int) -> list[Delivery]:
        """The connection is gone: every subscription may lose something from now on, unless another brings it."""
        sources = list(self._sources.values())
        self._sources.clear()
        if self.heartbeat.waiting:
            for source in sources:
                source.unanswered()
        return [
            delivery
            for source in sources
            for delivery in source.feed.leave(source, "disconnected", recv, "disconnected")
        ]

    def _several(self, messages: list[Message], text: bytes, now: float, recv: int) -> list[Delivery]:
        """Take a frame of several messages; its text goes out once, with the last that would carry one."""
        deliveries: list[Delivery] = []
        for message in messages:
            if type(message) is Push:
                deliveries += self._push(message, recv, b"", len(text) // len(messages))
            else:
                deliveries += self._reply(message, now, recv)
        carriers = [delivery for delivery in deliveries if delivery.text is not None]
        for carrier in carriers:
            carrier.text = None
        if carriers:
            carriers[-1].text = text
            carriers[-1].weight = max(carriers[-1].weight, RECORD_WEIGHT * len(text))
        return [delivery for delivery in deliveries if delivery.statements or delivery.records or delivery.text]

    def _want(self, key: str, feed: Feed) -> None:
        self._refused.discard(key)
        if feed.state == "refused" and feed.served:
            feed.state = "disconnected"  # a new connection may try
        if feed.state != "refused":
            self._sources[key] = feed.source(self._pulse)
            self._ledger.want(key, self._dialect.size(feed.sub), feed.traits.incremental)

    def _push(self, push: Push, recv: int, text: bytes, share: int) -> list[Delivery]:
        source = self._sources.get(push.key)
        if source is None:
            self.counters["unrouted"] += 1
            return []
        if share == len(text):
            self._learn(source, text)
        weight = RECORD_WEIGHT * share
        if not source.feed.parsed:
            self._bad_in_a_row = 0
            return source.push_raw(recv, text, weight)
        try:
            deliveries = source.push(push.payload, recv, text if self._terms.raw else None, weight)
        except DecodeError as error:
            self._bad_in_a_row = 0
            return self._unreadable(error, [source], recv)
        self._bad_in_a_row = 0
        return self._watched(source, deliveries, recv)

    def _watched(self, source: Source, deliveries: list[Delivery], recv: int) -> list[Delivery]:
        """Ask for a book anew that is no longer right, or never came."""
        if source.broken is not None:
            (reason, detail), source.broken = source.broken, None
            self.counters[reason] += 1
            if source.chain is not None and source.chain.distrusted:
                self.remarks.append(
                    f"{source.feed.sub}: its checksums are none; only its sequence is checked from now on"
                )
            return deliveries + self._heal(source, reason, recv, detail)
        if source.overdue:
            return deliveries + self._heal(source, "sequence", recv)
        return deliveries

    def _learn(self, source: Source, text: bytes) -> None:
        token = self._dialect.route(text)
        if token is not None and len(token) <= _TOKEN:
            if len(self._routes) > 8 * len(self._feeds):
                self._routes.clear()
            self._routes[token] = source

    def _unreadable(self, error: Exception, sources: Iterable[Source], recv: int) -> list[Delivery]:
        self.stirred = True
        self.counters["unreadable"] += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _UNREADABLE_IN_A_ROW:
            last = self.scrub(str(error))
            self.ending = LinkError(f"{self._bad_in_a_row} unreadable messages in a row, the last: {last}")
        deliveries = []
        for source in list(sources):
            # Where data flows, it is served, though the acknowledgement may have been lost.
            if source.proves or not (source.flowing or self._ledger.live(source.key)):
                continue
            if source.chain is not None:
                deliveries += self._heal(source, "malformed", recv)
            else:
                deliveries += source.lose("malformed", recv)
        return deliveries

    def _heal(self, source: Source, reason: str, recv: int, detail: dict[str, Any] | None = None) -> list[Delivery]:
        """A book is no longer right: say so, and ask for its next snapshot, once in a while."""
        if source.feed.state == "refused":
            return []
        deliveries = source.lose(reason, recv, "void", detail)
        self._ask_anew(source)
        return deliveries

    def _ask_anew(self, source: Source) -> None:
        self._ledger.heal(source.key, self.heartbeat.heard)
        self.stirred = True

    def _reply(self, message: Message, now: float, recv: int) -> list[Delivery]:
        self.stirred = True
        if not isinstance(message, Other) or message.known:
            self._bad_in_a_row = 0
        match message:
            case Ack():
                return self._acknowledged(message, recv)
            case Refusal():
                return self._refuse(self._ledger.refused(message, now), recv)
            case LoginReply():
                self._login(message)
            case Dropped():
                lost = [key for key, feed in self._feeds.items() if message.covers(key) and feed.state != "refused"]
                return self._refuse([(key, Refusal(None, message.message)) for key in lost], recv)
            case Notice():
                self.leaving = self.scrub(message.message)
            case Other():
                self.counters["known" if message.known else "unknown"] += 1
            case Pong() | Push():
                pass
        return []

    def _acknowledged(self, ack: Ack, recv: int) -> list[Delivery]:
        if ack.op == "unsubscribe" and self._ledger.live(ack.key) and self._ledger.overtaken(ack.key):
            deliveries = self._sources[ack.key].lose("disconnected", recv, "disconnected")
            self._ask_anew(self._sources[ack.key])
            return deliveries
        # What we ask to end is no longer live by then, so this is neither our doing nor late nor told twice.
        if ack.op == "unsubscribe" and ack.request is None and self._ledger.live(ack.key):
            return self._refuse([(ack.key, Refusal(None, "the exchange ended this subscription by itself"))], recv)
        deliveries = []
        settled = self._ledger.acknowledged(ack.op, ack.key, ack.request)
        source = self._sources.get(ack.key)
        if ack.op == "subscribe" and source is not None and self._ledger.live(ack.key):
            self._refused.discard(ack.key)
            deliveries += source.acknowledge(recv)
            self.settled.append((source.feed, None))
        return deliveries + self._refuse(settled, recv)

    def _refuse(self, refusals: list[tuple[str, Refusal]], recv: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for key, refusal in refusals:
            source = self._sources.get(key)
            if source is None or not source.feed.served:
                self._ledger.forget(key)
            else:
                self._ledger.postpone(key, self.heartbeat.heard)
            if source is not None:
                deliveries += self._refused_to(source, refusal, recv)
        return deliveries

    def _refused_to(self, source: Source, refusal: Refusal, recv: int) -> list[Delivery]:
        """Say that one subscription is refused; once, however often it is asked for again."""
        feed = source.feed
        refusal.message = self.scrub(refusal.message)
        refusal.code = self.scrub(refusal.code) if refusal.code is not None else None
        if refusal.unfit and feed.traits.alternative is not None:
            refusal.message += f"; {replace(feed.sub, channel=feed.traits.alternative)} is open to all"
        remarked = source.key in self._refused and not source.flowing
        self._refused.add(source.key)
        said = feed.refusal_said
        deliveries = feed.refuse(source, refusal.code, refusal.message, recv)
        if feed.refusal_said and not said:
            self.settled.append((feed, refusal))
        elif not (feed.refusal_said or remarked):
            self.remarks.append(f"{feed.sub} is refused here, but asked for on another connection: {refusal.message}")
        return deliveries

    def _login(self, reply: LoginReply) -> None:
        if self.ready:
            self.counters["unknown"] += 1
            return
        if reply.ok:
            self.ready = True
            return
        self.ending = refused(reply, self.scrub, self._clock_hint)

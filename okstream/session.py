"""
One conversation with the exchange, without I/O: login, requests, acknowledgements, ping, routing.

Rule 1: everything that decides what to say next lives here and in the ledger.
Rule 2: this file knows neither the wire format nor the clock; both are handed in.
Rule 3: a session lives as long as its connection; the feeds live on.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .dialects import Ack, Dialect, Dropped, LoginReply, Message, Notice, Other, Pong, Push, Refusal
from .dialects.signing import Credentials
from .errors import DecodeError, InflateError, LinkError, LoginRefusedError
from .feed import RECORD_WEIGHT, Delivery, Feed
from .inflate import CAP, inflate
from .ledger import Budget, Ledger
from .records import Statement
from .venues import Limits

_UNREADABLE_IN_A_ROW = 20
_MESSAGE = 500
"""Characters shown of what the exchange says."""

_TOKEN = 1024
_PART = 8
_LONG = re.compile(r"[\w+/=-]{20,}")
_HIDDEN = "(not shown: it repeats a part of the credentials)"


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What the sessions of one link have in common.

    Args:
        dialect: the wire generation.
        limits: what the venue allows.
        budget: requests an hour of an address; where the venue counts connections, each session has its own.
        credentials: for the login, None where there is none.
        cap: the longest text that a frame may inflate to, in bytes.
        parsed: whether anybody wants records; False passes text on unparsed.
        raw: whether anybody wants the exchange's own text.
    """

    dialect: Dialect
    limits: Limits
    budget: Budget
    credentials: Credentials | None = None
    cap: int = CAP
    parsed: bool = True
    raw: bool = False


class Session:
    """
    One connection's conversation about `feeds` (by key, shared with the link; they outlive the session).

    Times `now` are seconds of a monotonic clock, `recv` and `wall_ms` are of the wall clock (ns, ms). After each
    call the link sends what `to_send` yields, and closes the connection once `ending` is set. `stirred` tells that
    something arrived which may change what is to be sent.

    Args:
        clock_offset_ms: the exchange's clock minus ours, as measured; logins are signed for the exchange's.
        clock_hint_ms: the same as far as it can be told otherwise, for the error message only.
    """

    def __init__(
        self,
        terms: Terms,
        feeds: Mapping[str, Feed],
        now: float,
        wall_ms: int,
        clock_offset_ms: int = 0,
        clock_hint_ms: int | None = None,
    ) -> None:
        self.ending: LinkError | LoginRefusedError | None = None
        self.ready = False
        self.stirred = False
        self.settled: list[tuple[Feed, Refusal | None]] = []
        self.counters: Counter[str] = Counter()
        self.notice: str | None = None
        self._terms = terms
        self._dialect = terms.dialect
        self._feeds = feeds
        self._clock_hint = clock_offset_ms or clock_hint_ms
        budget = terms.budget if terms.limits.requests_shared else Budget(terms.limits.requests)
        self._ledger = Ledger(terms.limits.request_bytes, terms.limits.ack_within, budget)
        self._outbox: list[bytes] = []
        self._routes: dict[bytes, Feed] = {}
        self._left: dict[str, Feed] = {}
        self._secrets = _forms(terms.credentials.secrets) if terms.credentials else []
        self._heard = now
        self._pinged: float | None = None
        self._last_ping = now
        self._opened = now
        self._bad_in_a_row = 0
        for key, feed in feeds.items():
            self._want(key, feed)
        if terms.credentials is None:
            self.ready = True
        elif budget.take(now, healing=True):
            login = self._dialect.login(terms.credentials, wall_ms + clock_offset_ms)
            self._outbox.append(login)
            # The signature is as good as the secret for half a minute.
            self._secrets += _LONG.findall(login.decode())
        else:
            self.ending = LinkError("the venue's budget of requests an hour is spent; no login now")

    def want(self, key: str) -> None:
        """Subscribe to the feed under `key`."""
        self._want(key, self._feeds[key])

    def unwant(self, key: str) -> None:
        """Unsubscribe from `key`; called while its feed is still there."""
        self._routes.clear()
        self._ledger.unwant(key)
        self._left = {left: feed for left, feed in self._left.items() if self._ledger.leaving(left)}
        if self._ledger.leaving(key):
            self._left[key] = self._feeds[key]

    def to_send(self, now: float) -> list[bytes]:
        """Return the frames that are to be sent now, in order."""
        if self.ready and self.ending is None:
            for op, keys, request in self._ledger.requests(now):
                feeds = [self._feeds.get(key) or self._left[key] for key in keys]
                if op == "subscribe":
                    for feed in feeds:
                        feed.asked()
                self._outbox.append(self._dialect.request(op, [feed.sub for feed in feeds], request))
        frames, self._outbox = self._outbox, []
        return frames

    def deadline(self, now: float) -> float:
        """Return when `tick` and `to_send` should be called next, if nothing arrives before."""
        limits = self._terms.limits
        if self._pinged is not None:
            times = [self._pinged + limits.pong_within]
        else:
            times = [self._heard + limits.ping_after]
            if limits.ping_every is not None:
                times.append(self._last_ping + limits.ping_every)
        if not self.ready:
            times.append(self._opened + limits.ack_within)
        elif (due := self._ledger.deadline(now)) is not None:
            times.append(due)
        return max(min(times), now)

    def tick(self, now: float) -> None:
        """Watch silence: ping after some, end the link after more."""
        limits = self._terms.limits
        if not self.ready and now >= self._opened + limits.ack_within:
            self.ending = LinkError(f"no answer to the login within {limits.ack_within:g} s")
        if self._pinged is not None:
            if now >= self._pinged + limits.pong_within:
                self.ending = LinkError(f"nothing was received for {now - self._heard:.0f} s, not even a pong")
            return
        silent = now >= self._heard + limits.ping_after
        if silent or (limits.ping_every is not None and now >= self._last_ping + limits.ping_every):
            self._outbox.append(self._dialect.ping())
            self._last_ping = now
            self._pinged = now

    def receive(self, data: bytes, binary: bool, now: float, recv: int) -> list[Delivery]:
        """
        Take one frame; return what it brings, in order.

        Never raises for what the exchange sends: an unreadable frame is counted, and opens a gap for every
        subscription that may have lost something by it.
        """
        self._heard = now
        self._pinged = None
        try:
            text = inflate(data, self._terms.cap) if binary else data
            token = self._dialect.route(text)
            if token is not None and (feed := self._routes.get(token)) is not None:
                deliveries = self._known(feed, text, recv)
                if deliveries is not None:
                    return deliveries
            messages = self._dialect.read(text)
        except (InflateError, DecodeError) as error:
            return self._unreadable(error, self._feeds.values(), recv)
        if len(messages) == 1 and type(messages[0]) is Push:
            return self._push(messages[0], recv, text, len(text))
        return self._several(messages, text, now, recv)

    def closed(self, recv: int) -> list[Delivery]:
        """The connection is gone: every subscription may lose something from now on."""
        deliveries = [Delivery(feed, feed.interrupted("disconnected", recv, "disconnected"))
                      for feed in self._feeds.values() if feed.state != "refused"]  # fmt: skip
        return [delivery for delivery in deliveries if delivery.statements]

    def _several(self, messages: list[Message], text: bytes, now: float, recv: int) -> list[Delivery]:
        """Take a frame of several messages; its text goes out once, with the last that would carry one."""
        deliveries: list[Delivery] = []
        for message in messages:
            if type(message) is Push:
                deliveries += self._push(message, recv, b"", len(text) // len(messages))
            else:
                deliveries += [Delivery(feed, said) for feed, said in self._reply(message, now, recv) if said]
        carriers = [delivery for delivery in deliveries if delivery.text is not None]
        for carrier in carriers:
            carrier.text = None
        if carriers:
            carriers[-1].text = text
            carriers[-1].weight = max(carriers[-1].weight, RECORD_WEIGHT * len(text))
        return [delivery for delivery in deliveries if delivery.statements or delivery.records or delivery.text]

    def _want(self, key: str, feed: Feed) -> None:
        if feed.state != "refused":
            self._ledger.want(key, self._dialect.size(feed.sub))

    def _known(self, feed: Feed, text: bytes, recv: int) -> list[Delivery] | None:
        """The short way, for a message whose feed is known by its route; None where it must be read with care."""
        if not feed.parsed:
            self._bad_in_a_row = 0
            return feed.pushed_raw(recv, text)
        try:
            deliveries = feed.push(self._dialect.payload(text), recv)
        except DecodeError:
            return None
        return self._pushed(feed, deliveries, recv, text, len(text))

    def _push(self, push: Push, recv: int, text: bytes, share: int) -> list[Delivery]:
        feed = self._feeds.get(push.key)
        if feed is None:
            self.counters["unrouted"] += 1
            return []
        if share == len(text):
            self._learn(feed, text)
        if not feed.parsed:
            self._bad_in_a_row = 0
            return feed.pushed_raw(recv, text)
        try:
            deliveries = feed.push(push.payload, recv)
        except DecodeError as error:
            self._bad_in_a_row = 0
            return self._unreadable(error, [feed], recv)
        return self._pushed(feed, deliveries, recv, text, share)

    def _pushed(self, feed: Feed, deliveries: list[Delivery], recv: int, text: bytes, share: int) -> list[Delivery]:
        self._bad_in_a_row = 0
        if not deliveries and feed.overdue:
            deliveries = self._heal(feed, "sequence", recv)
        if self._terms.raw and feed.asked_for:
            deliveries = deliveries or [Delivery(feed)]
            deliveries[-1].text = text
        if deliveries:
            deliveries[-1].weight = RECORD_WEIGHT * share
        return deliveries

    def _learn(self, feed: Feed, text: bytes) -> None:
        token = self._dialect.route(text)
        if token is not None and len(token) <= _TOKEN:
            if len(self._routes) > 8 * len(self._feeds):
                self._routes.clear()
            self._routes[token] = feed

    def _unreadable(self, error: Exception, feeds: Iterable[Feed], recv: int) -> list[Delivery]:
        self.stirred = True
        self.counters["unreadable"] += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _UNREADABLE_IN_A_ROW:
            last = self.scrub(str(error))
            self.ending = LinkError(f"{self._bad_in_a_row} unreadable messages in a row, the last: {last}")
        deliveries = []
        for feed in feeds:
            # Where data flows, it is served, though the acknowledgement may have been lost.
            if feed.proves or not (feed.state == "live" or self._ledger.live(feed.traits.key)):
                continue
            if feed.traits.incremental and feed.parsed:
                deliveries += self._heal(feed, "malformed", recv)
            elif said := feed.skipped("malformed", recv):
                deliveries.append(Delivery(feed, said))
        return deliveries

    def _heal(self, feed: Feed, reason: str, recv: int) -> list[Delivery]:
        """A book is no longer right: say so, and ask for its next snapshot, once in a while."""
        if feed.state == "refused":
            return []
        said = feed.interrupted(reason, recv, "void")
        self._ledger.heal(feed.traits.key, self._heard)
        self.stirred = True
        return [Delivery(feed, said)] if said else []

    def _reply(self, message: Message, now: float, recv: int) -> list[tuple[Feed | None, list[Statement]]]:
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
                self.notice = self.scrub(message.message)
            case Other():
                self.counters["known" if message.known else "unknown"] += 1
            case Pong() | Push():
                pass
        return []

    def _acknowledged(self, ack: Ack, recv: int) -> list[tuple[Feed | None, list[Statement]]]:
        # What we ask to end is no longer live by then, so this is neither our doing nor late nor told twice.
        if ack.op == "unsubscribe" and ack.request is None and self._ledger.live(ack.key):
            return self._refuse([(ack.key, Refusal(None, "the exchange ended this subscription by itself"))], recv)
        said: list[tuple[Feed | None, list[Statement]]] = []
        settled = self._ledger.acknowledged(ack.op, ack.key, ack.request)
        feed = self._feeds.get(ack.key)
        if ack.op == "subscribe" and feed is not None and self._ledger.live(ack.key):
            said.append((feed, feed.acknowledged(recv)))
            self.settled.append((feed, None))
        return said + self._refuse(settled, recv)

    def _refuse(self, refusals: list[tuple[str, Refusal]], recv: int) -> list[tuple[Feed | None, list[Statement]]]:
        said: list[tuple[Feed | None, list[Statement]]] = []
        for key, refusal in refusals:
            feed = self._feeds.get(key)
            self._ledger.forget(key)
            if feed is not None:
                refusal.message = self.scrub(refusal.message)
                refusal.code = self.scrub(refusal.code) if refusal.code is not None else None
                said.append((feed, feed.refused(refusal.code, refusal.message, recv)))
                self.settled.append((feed, refusal))
        return said

    def _login(self, reply: LoginReply) -> None:
        if self.ready:
            self.counters["unknown"] += 1
            return
        if reply.ok:
            self.ready = True
            return
        refusal = self.scrub(reply.code) if reply.code else None
        message = f"login refused: {self.scrub(reply.message)}{f' ({refusal})' if refusal else ''}"
        if reply.retry:
            self.ending = LinkError(message)
            return
        if reply.clock and self._clock_hint is not None:
            side = "behind" if self._clock_hint > 0 else "ahead of"
            message += f"; this machine's clock is {abs(self._clock_hint) / 1000:.0f} s {side} the exchange's"
        self.ending = LoginRefusedError(message, refusal)

    def scrub(self, text: str) -> str:
        """Return `text`, not too long and without any part of the credentials: some refusals echo the request."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for secret in self._secrets:
            if any(secret[start : start + _PART] in text for start in range(len(secret) - _PART + 1)):
                return _HIDDEN
        return text if len(text) <= _MESSAGE else text[:_MESSAGE] + "..."


def _forms(secrets: Iterable[str]) -> list[str]:
    """Return how `secrets` may stand in a text: as they are, and as JSON writes them; the longest first."""
    forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])}
    forms |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets}
    return sorted(forms, key=len, reverse=True)

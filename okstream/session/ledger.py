"""
What is wanted of one connection, what was asked, what was acknowledged and what was refused.

Rule 1: one acknowledgement an argument; a refusal is pinned on exactly one argument and the others live on.
Rule 2: requests keep to the venue's size and to its budget an hour, of which a part is kept for healing.
Rule 3: whatever is not answered in time is asked again.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, filterfalse, takewhile

from ..dialects import Op, Refusal
from .asked import Request, Wish
from .budget import Budget
from .healing import Healing

_OPS: tuple[Op, ...] = ("subscribe", "unsubscribe")
_BACKOFF = 30.0
_BACKOFF_CAP = 600.0
_TOGETHER = 1.0
"""Seconds that subscribes wait for the rest of the answers to one unsubscribe, so as to share a request."""

_DOUBLINGS = 10
_RETIRED = 256
_ENVELOPE = 64
"""Bytes of a request around its arguments."""


class Ledger:
    """
    The subscriptions of one connection, by key; nothing of it outlives the connection but what is wanted.

    Args:
        request_bytes: the size of one request's arguments.
        ack_within: seconds after which an unanswered request is asked again.
        budget: shared by all connections that the venue counts together.
    """

    def __init__(self, request_bytes: int, ack_within: float, budget: Budget) -> None:
        self._request_bytes = request_bytes
        self._ack_within = ack_within
        self._budget = budget
        self._wishes: dict[str, Wish] = {}
        self._to_subscribe: dict[str, None] = {}
        self._to_unsubscribe: dict[str, int] = {}
        self._healing = Healing()
        self._requests: dict[str, Request] = {}
        self._asked: dict[tuple[Op, str], Request] = {}
        self._known: dict[str, int] = {}
        self._retired: deque[str] = deque()
        self._alone = False
        self._numbers = 0
        self._groups = 0
        self._held_until = 0.0
        self._holds = 0

    def want(self, key: str, size: int, book: bool = False) -> None:
        """Subscribe to `key` and keep it so."""
        if key in self._wishes:
            return
        self._wishes[key] = Wish(size)
        self._healing.add(key, book)
        if not self.leaving(key):
            self._to_subscribe[key] = None

    def unwant(self, key: str) -> None:
        """Unsubscribe from `key`, if it was ever asked for."""
        wish = self._wishes.pop(key, None)
        self._to_subscribe.pop(key, None)
        self._healing.drop(key)
        if wish is not None and self._may_be_served(key, wish):
            self._to_unsubscribe[key] = wish.size

    def forget(self, key: str) -> None:
        """`key` was refused, or ended by the exchange: neither keep it nor ask again."""
        self._wishes.pop(key, None)
        self._to_subscribe.pop(key, None)
        self._healing.drop(key)

    def heal(self, key: str, now: float) -> bool:
        """
        Unsubscribe from `key`, and subscribe again once that is acknowledged.

        Returns whether that is begun: not where it is under way. Where the last time was too short ago it waits; a
        moment also for others, so that what breaks together shares its requests.
        """
        wish = self._wishes.get(key)
        if wish is None or not self._may_be_served(key, wish):
            return False
        self._healing.done(key)
        if self.leaving(key) or not self._healing.begins(key, now):
            return False
        self._begin_anew(key, wish)
        return True

    def postpone(self, key: str, now: float) -> None:
        """`key` was refused, though it was served before: ask again later, ever more seldom."""
        if (wish := self._wishes.get(key)) is not None:
            wish.live, wish.healing, wish.attempts = False, False, 0
            self._to_subscribe.pop(key, None)
            self._healing.postpone(key, now)

    def _may_be_served(self, key: str, wish: Wish) -> bool:
        """Whether the exchange has what ends with an unsubscribe; without an acknowledgement, it may have."""
        return wish.live or wish.attempts > 0 or ("subscribe", key) in self._asked

    def _begin_anew(self, key: str, wish: Wish) -> None:
        if not self._may_be_served(key, wish):
            self._to_subscribe[key] = None
            return
        wish.healing, wish.live = True, False
        self._to_subscribe.pop(key, None)
        self._to_unsubscribe[key] = wish.size

    def live(self, key: str) -> bool:
        """Whether the exchange serves `key` as far as is known."""
        wish = self._wishes.get(key)
        return wish is not None and wish.live

    def overtaken(self, key: str) -> bool:
        """Whether an unsubscribe of `key` had no answer before it was subscribed to again, and may end that; once."""
        wish = self._wishes.get(key)
        overtaken = wish is not None and wish.overtaken
        if wish is not None:
            wish.overtaken = False
        return overtaken

    def leaving(self, key: str) -> bool:
        """Whether an unsubscribe of `key` is to be sent, or to be answered."""
        return key in self._to_unsubscribe or ("unsubscribe", key) in self._asked

    def requests(self, now: float) -> Iterator[tuple[Op, list[str], str]]:
        """Yield what is to be asked now, as (op, keys, request id), and count it as asked."""
        self._ask_again(now)
        for key in self._healing.ready(now):
            self._begin_anew(key, self._wishes[key])
        if now < self._held_until:
            return
        for op in ("unsubscribe", "subscribe"):
            if op == "subscribe" and now < self._answered_by():
                return
            while batch := self._batch(op):
                if self._alone and self._requests:
                    return
                if not self._budget.take(now, any(map(self._is_healing, batch))):
                    break
                yield self._ask(op, batch, now)

    def deadline(self, now: float) -> float | None:
        """Return when `requests` should be looked at next."""
        times = [request.due for request in self._requests.values()]
        if (heal := self._healing.deadline(now)) is not None:
            times.append(heal)
        if not (self._alone and self._requests):
            for pending, held in ((self._to_unsubscribe, 0.0), (self._to_subscribe, self._answered_by())):
                if pending:
                    ready = self._budget.ready(now, any(map(self._is_healing, pending)))
                    times.append(max(self._held_until, held, ready))
        return min(times, default=None)

    def acknowledged(self, op: Op, key: str, number: str | None = None) -> list[tuple[str, Refusal]]:
        """
        The exchange did `op` with `key`, as the request `number` asked where it says so.

        Replies come in the order of the arguments, so errors that named none belong to those skipped over, if
        there are as many. Returns what that settles.
        """
        request, current = self._find(op, key, number), self._asked.get((op, key))
        settled: list[tuple[str, Refusal]] = []
        if request is not None:
            if request.errors and number in (None, request.id):
                skipped = list(takewhile(lambda other: other != key, request.open))
                if len(skipped) == len(request.errors):
                    settled = self._pin(request, skipped)
            self._answered(request, key)
        if op == "subscribe":
            if not _before(number, self._known.get(key, 0)):
                self._served(key)
        elif current is not None and request is current and key in self._wishes:
            # Any other answer is late: what follows it has been asked for already.
            self._wishes[key].live = False
            self._to_subscribe[key] = None
        elif key not in self._wishes:
            self._retire(key)
        return settled + (self._pin_rest(request) if request else [])

    def _find(self, op: Op, key: str, number: str | None) -> Request | None:
        """Return the request that an answer belongs to: that of its number, else the last for `key`, unless too old."""
        request = self._requests.get(number) if number is not None else None
        if request is not None and request.op == op and key in request.open:
            return request
        return None if _before(number, self._known.get(key, 0)) else self._asked.get((op, key))

    def _served(self, key: str) -> None:
        self._holds = 0
        wish = self._wishes.get(key)
        if wish is not None and not self.leaving(key):
            self._to_subscribe.pop(key, None)
            wish.live, wish.healing, wish.attempts, wish.group = True, False, 0, 0

    def refused(self, refusal: Refusal, now: float) -> list[tuple[str, Refusal]]:
        """
        Pin `refusal` on an argument if that is possible yet; return what is settled.

        A refusal that may be retried puts its arguments back and holds all requests for a while.
        """
        request = self._spoken_of(refusal)
        if refusal.retry:
            self._hold(request, now)
            return []
        if (key := refusal.key) is not None:
            for op in _OPS:
                if (asked := self._find(op, key, refusal.request)) is not None:
                    self._answered(asked, key)
                    self._gone(op, key)
                    return ([(key, refusal)] if op == "subscribe" else []) + self._pin_rest(asked)
            if key in self._wishes:
                return [(key, refusal)]
            if key in self._known:
                return []
        if request is None:
            return []
        request.errors.append(refusal)
        if refusal.request is None and len(self._requests) > 1:
            # It may be the answer to another request: from now on ask one at a time, so that there is no doubt.
            self._alone = True
            return []
        return self._pin_rest(request)

    def _spoken_of(self, refusal: Refusal) -> Request | None:
        if refusal.request is not None:
            return self._requests.get(refusal.request)
        if refusal.key is not None:
            for op in _OPS:
                if (asked := self._asked.get((op, refusal.key))) is not None:
                    return asked
        return next(iter(self._requests.values()), None)

    def _pin_rest(self, request: Request) -> list[tuple[str, Refusal]]:
        """Once there are as many errors as arguments without an answer, each has its own."""
        return self._pin(request, list(request.open)) if len(request.open) <= len(request.errors) else []

    def _pin(self, request: Request, keys: list[str]) -> list[tuple[str, Refusal]]:
        pinned = list(zip(keys, request.errors, strict=False))
        del request.errors[: len(pinned)]
        for key, _ in pinned:
            self._answered(request, key)
            self._gone(request.op, key)
        return pinned if request.op == "subscribe" else []

    def _gone(self, op: Op, key: str) -> None:
        # An unsubscribe that is refused means that there is nothing to unsubscribe from.
        if op == "unsubscribe" and key in self._wishes:
            self._to_subscribe[key] = None
        elif op == "unsubscribe":
            self._retire(key)

    def _retire(self, key: str) -> None:
        """Forget that `key` was ever asked for, but not at once: late replies still name it."""
        self._retired.append(key)
        if len(self._retired) > _RETIRED and (oldest := self._retired.popleft()) not in self._wishes:
            self._known.pop(oldest, None)

    def _hold(self, request: Request | None, now: float) -> None:
        # One request may be answered with one such error for each of its arguments.
        if now >= self._held_until:
            self._held_until = now + min(_BACKOFF * 2**self._holds, _BACKOFF_CAP)
            self._holds = min(self._holds + 1, _DOUBLINGS)
        if request is None:
            return
        if request.op == "unsubscribe":
            for key, size in list(request.open.items()):
                if self._answered(request, key):
                    self._to_unsubscribe[key] = size
        else:
            self._put_back(request, request.open)

    def _ask_again(self, now: float) -> None:
        for request in list(self._requests.values()):
            if now < request.due:
                continue
            keys = list(request.open)
            if request.errors and len(keys) > 1:
                # Some of these are refused and nobody says which: halve until each error has one argument.
                half = len(keys) // 2
                self._put_back(request, keys[:half], split=True)
                self._put_back(request, keys[half:], split=True)
            else:
                self._put_back(request, keys)

    def _put_back(self, request: Request, keys: Iterable[str], split: bool = False) -> None:
        if split:
            self._groups += 1
        for key in list(keys):
            wish = self._wishes.get(key)
            if not self._answered(request, key):
                continue
            if request.op == "unsubscribe":
                # Without an answer it may or may not be gone; a subscribe after it is right in both cases.
                self._gone(request.op, key)
                if wish is not None:
                    wish.overtaken = True
            elif wish is not None:
                wish.group = self._groups if split else wish.group
                wish.attempts += 0 if split else 1
                if not self.leaving(key):
                    self._to_subscribe[key] = None

    def _answered_by(self) -> float:
        """Return until when answers are waited for that are just coming in."""
        return max((request.sent + _TOGETHER for request in self._requests.values() if request.answering), default=0.0)

    def _answered(self, request: Request, key: str) -> bool:
        """Wait no longer for what `request` says of `key`; return whether it was the last to ask for it."""
        request.open.pop(key, None)
        if not request.open:
            self._requests.pop(request.id, None)
        last = self._asked.get((request.op, key)) is request
        if last:
            del self._asked[request.op, key]
        return last

    def _is_healing(self, key: str) -> bool:
        wish = self._wishes.get(key)
        return wish is not None and wish.healing

    def _batch(self, op: Op) -> list[str]:
        """Return what the next request asks for: what is healed goes first, for it may use the reserve."""
        keys = self._to_subscribe if op == "subscribe" else self._to_unsubscribe
        batch: list[str] = []
        room = self._request_bytes - _ENVELOPE
        group: int | None = None
        for key in chain(filter(self._is_healing, keys), filterfalse(self._is_healing, keys)):
            wish = self._wishes.get(key)
            size = wish.size if wish else self._to_unsubscribe[key]
            belongs = wish.group if wish else 0
            if batch and (size > room or belongs != group):
                break
            batch.append(key)
            room -= size
            group = belongs
        return batch

    def _ask(self, op: Op, keys: list[str], now: float) -> tuple[Op, list[str], str]:
        self._numbers += 1
        attempts = max((self._wishes[key].attempts for key in keys if key in self._wishes), default=0)
        patience = self._ack_within * 2 ** min(attempts, 5)
        request = Request(str(self._numbers), op, {}, now, patience)
        self._requests[request.id] = request
        for key in keys:
            wish = self._wishes.get(key)
            size = wish.size if wish else self._to_unsubscribe[key]
            (self._to_subscribe if op == "subscribe" else self._to_unsubscribe).pop(key)
            request.open[key] = size
            request.arguments += 1
            self._known[key] = self._numbers if op == "unsubscribe" else self._known.get(key, 0)
            self._asked[op, key] = request
            # What is asked for anew begins anew: there is nothing left to heal.
            self._healing.done(key)
        return op, keys, request.id


def _before(number: str | None, other: int) -> bool:
    """Whether `number`, as echoed, is that of an earlier request than `other`."""
    return number is not None and number.isdecimal() and len(number) < 20 and int(number) < other

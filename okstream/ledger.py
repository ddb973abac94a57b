"""
What is wanted of one connection, what was asked, what was acknowledged and what was refused.

Rule 1: one acknowledgement an argument; a refusal is pinned on exactly one argument and the others live on.
Rule 2: requests keep to the venue's size and to its budget an hour, of which a part is kept for healing.
Rule 3: whatever is not answered in time is asked again.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from .dialects import Op, Refusal

_HOUR = 3600.0
_RESERVE = 0.15
_BACKOFF = 30.0
_BACKOFF_CAP = 600.0


class Budget:
    """
    Requests an hour, over a sliding window; a share of them is spent on healing only.

    Args:
        limit: requests an hour, None where no limit is known.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._spent: deque[float] = deque()

    def take(self, now: float, healing: bool = False) -> bool:
        """Spend one request, if there is one to spend."""
        if self.ready(now, healing) > now:
            return False
        if self._limit is not None:
            self._spent.append(now)
        return True

    def ready(self, now: float, healing: bool = False) -> float:
        """Return the time from which one more request may be spent."""
        if self._limit is None:
            return now
        while self._spent and self._spent[0] <= now - _HOUR:
            self._spent.popleft()
        limit = self._limit if healing else int(self._limit * (1 - _RESERVE))
        excess = len(self._spent) - limit
        return now if excess < 0 else self._spent[excess] + _HOUR


@dataclass(slots=True)
class Request:
    """One request on its way: `open` are the keys without an answer yet, in the order asked."""

    id: str
    op: Op
    open: dict[str, None]
    sent: float
    patience: float
    errors: list[Refusal] = field(default_factory=list)

    @property
    def due(self) -> float:
        """When to ask again; sooner where an error came that names no argument."""
        return self.sent + (self.patience / 4 if self.errors else self.patience)


@dataclass(slots=True)
class Wish:
    """What is to become of one key. `size` is its share of a request's bytes."""

    size: int
    live: bool = False
    healing: bool = False
    group: int = 0
    attempts: int = 0


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
        self._requests: dict[str, Request] = {}
        self._asked: dict[tuple[Op, str], Request] = {}
        self._numbers = 0
        self._groups = 0
        self._held_until = 0.0
        self._holds = 0

    def want(self, key: str, size: int) -> None:
        """Subscribe to `key` and keep it so."""
        if key in self._wishes:
            return
        self._wishes[key] = Wish(size)
        if key not in self._to_unsubscribe and ("unsubscribe", key) not in self._asked:
            self._to_subscribe[key] = None

    def unwant(self, key: str) -> None:
        """Unsubscribe from `key`, if it was ever asked for."""
        wish = self._wishes.pop(key, None)
        self._to_subscribe.pop(key, None)
        if wish is not None and (wish.live or ("subscribe", key) in self._asked):
            self._to_unsubscribe[key] = wish.size

    def forget(self, key: str) -> None:
        """`key` was refused, or ended by the exchange: neither keep it nor ask again."""
        self._wishes.pop(key, None)
        self._to_subscribe.pop(key, None)

    def heal(self, key: str) -> None:
        """Unsubscribe from `key`, and subscribe again once that is acknowledged."""
        wish = self._wishes.get(key)
        if wish is None or wish.healing or not wish.live:
            return
        wish.healing, wish.live = True, False
        self._to_unsubscribe[key] = wish.size

    def live(self, key: str) -> bool:
        """Whether the exchange serves `key` as far as is known."""
        wish = self._wishes.get(key)
        return wish is not None and wish.live

    def requests(self, now: float) -> Iterator[tuple[Op, list[str], str]]:
        """Yield what is to be asked now, as (op, keys, request id), and count it as asked."""
        self._ask_again(now)
        if now < self._held_until:
            return
        for op in ("unsubscribe", "subscribe"):
            while batch := self._batch(op):
                healing = any(key in self._wishes and self._wishes[key].healing for key in batch)
                if not self._budget.take(now, healing):
                    break
                yield self._ask(op, batch, now)

    def deadline(self, now: float) -> float | None:
        """Return when `requests` should be looked at next."""
        times = [request.due for request in self._requests.values()]
        if self._to_subscribe or self._to_unsubscribe:
            healing = any(wish.healing for wish in self._wishes.values())
            times.append(max(self._held_until, self._budget.ready(now, healing)))
        return min(times, default=None)

    def acknowledged(self, op: Op, key: str) -> list[tuple[str, Refusal]]:
        """
        The exchange did `op` with `key`; whether that was asked for, `asked` told before.

        Replies come in the order of the arguments, so errors that named none belong to those skipped over.
        Returns what that settles.
        """
        request = self._asked.get((op, key))
        skipped = takewhile(lambda other: other != key, request.open) if request and request.errors else ()
        settled = self._pin(request, list(skipped)) if request else []
        self._answered(op, key)
        wish = self._wishes.get(key)
        if op == "subscribe":
            self._holds = 0
            self._to_subscribe.pop(key, None)
            if wish is not None:
                wish.live, wish.healing, wish.attempts = True, False, 0
        elif wish is not None:
            wish.live = False
            self._to_subscribe[key] = None
        return settled + (self._pin_rest(request) if request else [])

    def asked(self, op: Op, key: str) -> bool:
        """Whether an answer to `op` with `key` is outstanding."""
        return (op, key) in self._asked

    def refused(self, refusal: Refusal, now: float) -> list[tuple[str, Refusal]]:
        """
        Pin `refusal` on an argument if that is possible yet; return what is settled.

        A refusal that may be retried puts its arguments back and holds all requests for a while.
        """
        if refusal.key is not None:
            for op in ("subscribe", "unsubscribe"):
                if (op, refusal.key) in self._asked and not refusal.retry:
                    request = self._answered(op, refusal.key)
                    settled = [(refusal.key, refusal)] if op == "subscribe" else []
                    self._gone(op, refusal.key)
                    return settled + (self._pin_rest(request) if request else [])
            if self.live(refusal.key):
                return [(refusal.key, refusal)]
        request = self._spoken_of(refusal)
        if refusal.retry:
            self._hold(request, now)
            return []
        if request is None:
            return []
        request.errors.append(refusal)
        return self._pin_rest(request)

    def _spoken_of(self, refusal: Refusal) -> Request | None:
        if refusal.request is not None:
            return self._requests.get(refusal.request)
        return next(iter(self._requests.values()), None)

    def _pin_rest(self, request: Request) -> list[tuple[str, Refusal]]:
        """Once there are as many errors as arguments without an answer, each has its own."""
        return self._pin(request, list(request.open)) if len(request.open) <= len(request.errors) else []

    def _pin(self, request: Request, keys: list[str]) -> list[tuple[str, Refusal]]:
        pinned = list(zip(keys, request.errors, strict=False))
        del request.errors[: len(pinned)]
        for key, _ in pinned:
            self._answered(request.op, key)
            self._gone(request.op, key)
        return pinned if request.op == "subscribe" else []

    def _gone(self, op: Op, key: str) -> None:
        # An unsubscribe that is refused means that there is nothing to unsubscribe from.
        if op == "unsubscribe" and key in self._wishes:
            self._to_subscribe[key] = None

    def _hold(self, request: Request | None, now: float) -> None:
        self._held_until = now + min(_BACKOFF * 2**self._holds, _BACKOFF_CAP)
        self._holds += 1
        if request is not None:
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
            self._answered(request.op, key)
            if request.op == "unsubscribe":
                # Without an answer it may or may not be gone; a subscribe after it is right in both cases.
                self._gone(request.op, key)
            elif wish is not None:
                wish.group = self._groups if split else wish.group
                wish.attempts += 0 if split else 1
                self._to_subscribe[key] = None

    def _answered(self, op: Op, key: str) -> Request | None:
        request = self._asked.pop((op, key), None)
        if request is not None:
            request.open.pop(key, None)
            if not request.open:
                self._requests.pop(request.id, None)
        return request

    def _batch(self, op: Op) -> list[str]:
        batch: list[str] = []
        room = self._request_bytes
        group: int | None = None
        for key in self._to_subscribe if op == "subscribe" else self._to_unsubscribe:
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
        request = Request(str(self._numbers), op, dict.fromkeys(keys), now, patience)
        self._requests[request.id] = request
        for key in keys:
            (self._to_subscribe if op == "subscribe" else self._to_unsubscribe).pop(key)
            self._asked[op, key] = request
        return op, keys, request.id

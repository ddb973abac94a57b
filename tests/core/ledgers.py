"""A ledger to ask, with some keys wanted or live, for the tests of its parts."""

from typing import Any

from okstream.dialects import Refusal
from okstream.session.budget import Budget
from okstream.session.ledger import Ledger

HOUR = 3600.0
SIZE = 50


def ledger(request_bytes: int = 65536, limit: int | None = 480) -> Ledger:
    return Ledger(request_bytes, 10.0, Budget(limit))


def wanting(*keys: str, **options: Any) -> Ledger:
    one = ledger(**options)
    for key in keys:
        one.want(key, SIZE)
    return one


def asked(one: Ledger, now: float = 0.0) -> list[tuple[str, list[str]]]:
    return [(op, keys) for op, keys, _ in one.requests(now)]


def no(key: str | None = None, number: str | None = None) -> Refusal:
    return Refusal("60018", "no", key, number)


def live(*keys: str, **options: Any) -> Ledger:
    one = wanting(*keys, **options)
    asked(one)
    for key in keys:
        one.acknowledged("subscribe", key)
    return one

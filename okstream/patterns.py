"""
Patterns of instruments.

`*` stands for any run of characters without a dash, an empty one included. So `BTC-USD-*` means the swap and the dated
futures, but no option; `BTC-USD-*-*-C` means calls, `*-USDT` pairs on the spot market, `*-USDT-SWAP` swaps.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from .errors import ConfigError

_UNTRADED = frozenset({"test", "expired"})


class Kind(NamedTuple):
    """What the exchange lists in one answer: SPOT, SWAP or FUTURES, or OPTION with the `family` it lists them by."""

    name: str
    family: str | None = None

    def __str__(self) -> str:
        return self.name if self.family is None else f"{self.name} of {self.family}"


def matches(pattern: str, inst: str) -> bool:
    """Say whether `pattern` means `inst`; without a star it means the one of that name."""
    parts = inst.split("-")
    compiled = _compiled(pattern)
    return len(parts) == len(compiled) and all(map(_fits, compiled, parts))


def kinds(pattern: str) -> tuple[Kind, ...]:
    """
    Return what must be asked for to find all that `pattern` means.

    Raises:
        ConfigError: no instrument can have such a name, or it means options of any family.
    """
    parts = pattern.split("-")
    if len(parts) == 2:
        return (Kind("SPOT"),)
    if len(parts) == 3:
        # Dates have no letters: what has is SWAP, or was meant to be.
        swaps = _fits(_compiled(parts[2])[0], "SWAP") or any(map(str.isalpha, parts[2]))
        swap = (Kind("SWAP"),) if swaps else ()
        dated = (Kind("FUTURES"),) if parts[2] != "SWAP" else ()
        return swap + dated
    if len(parts) == 5:
        family = "-".join(parts[:2])
        if "*" in family:
            raise ConfigError(
                f"{pattern!r}: options are listed by family, which cannot have a star; "
                f"write BTC-USD-{'-'.join(parts[2:])} and so on"
            )
        return (Kind("OPTION", family),)
    hint = " (a star stands for no dash)" if "*" in pattern else ""
    raise ConfigError(
        f"{pattern!r} means no instrument{hint}; write *-USDT for pairs, *-USDT-SWAP for swaps, BTC-USD-* for swaps "
        "and futures, BTC-USD-*-*-* for options"
    )


def traded(rows: Iterable[dict[str, Any]]) -> frozenset[str]:
    """Return the names in the exchange's list of instruments, without those that are tests or have expired."""
    return frozenset(
        inst
        for row in rows
        if isinstance(inst := row.get("instId"), str) and inst and row.get("state") not in _UNTRADED
    )


def nearest(pattern: str, insts: Iterable[str]) -> str | None:
    """Return `pattern` as it was probably meant, so that it means one of `insts`; None where nothing is near."""
    parts = pattern.split("-")
    compiled = _compiled(pattern)
    respelt = {
        "-".join(
            mine if _fits(one, theirs) else theirs for mine, one, theirs in zip(parts, compiled, names, strict=True)
        )
        for names in (inst.split("-") for inst in insts)
        if len(names) == len(parts)
    }
    # Upper case is what all but a few are written in.
    close = get_close_matches(pattern.upper(), sorted(respelt), n=1, cutoff=0.55)
    return close[0] if close else None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> tuple[tuple[str, ...], ...]:
    """Return the parts between dashes, each as what stands between its stars."""
    return tuple(tuple(part.split("*")) for part in pattern.split("-"))


def _fits(between: tuple[str, ...], part: str) -> bool:
    """Look for the pieces from left to right, each where it first occurs: nothing is tried twice."""
    first, *middle, last = between if len(between) > 1 else (between[0], "")
    if len(between) == 1:
        return part == first
    if len(part) < len(first) + len(last) or not part.startswith(first) or not part.endswith(last):
        return False
    at, end = len(first), len(part) - len(last)
    for piece in middle:
        found = part.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True

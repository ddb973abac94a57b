"""What the instruments are that patterns mean, now and as they are listed, expire and change their names."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from .errors import ConfigError, RestError, RestRefusedError
from .patterns import Kind, kinds, matches, nearest, traded
from .rest import Rest

log = logging.getLogger("okstream.listings")

EVERY = 30.0
"""Seconds between two looks at what is listed."""

_FRESH = 5.0


@dataclass(frozen=True, slots=True)
class Change:
    """
    What `pattern` means from now on and did not before (`added`), or no longer does (`removed`), both sorted.

    A change of name is one of each.
    """

    pattern: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


class Listing:
    """
    What is listed at one venue, as far as patterns ask for it.

    The owner resolves a pattern and subscribes to what it means; `follow` then hands it each Change. A change may
    repeat what the owner has done already, but none is left out.

    Args:
        rest: of the venue; its owner closes it.
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._venue = rest.venue.name
        self._listed: dict[Kind, frozenset[str]] = {}
        self._asked: dict[Kind, float] = {}
        self._meant: dict[str, frozenset[str]] = {}
        self._failing: set[Kind] = set()
        self._changing = asyncio.Lock()

    async def resolve(self, pattern: str) -> list[str]:
        """
        Return the instruments that `pattern` means, sorted, and follow it from now on.

        Raises:
            ConfigError: it means nothing that is listed, or nothing that could be.
            RestError: the exchange does not answer; RestRefusedError where it refuses to.
        """
        wanted = kinds(pattern)
        async with self._changing:
            if pattern not in self._meant:
                for kind in wanted:
                    if not self._fresh(kind):
                        await self._ask(kind)
                meant = self._means(pattern)
                if not meant:
                    raise self._nothing(pattern, wanted)
                self._meant[pattern] = meant
            return sorted(self._meant[pattern])

    def forget(self, pattern: str) -> None:
        """Follow `pattern` no longer."""
        self._meant.pop(pattern, None)

    async def follow(self, changed: Callable[[Change], Awaitable[None]], every: float = EVERY) -> None:
        """
        Look every so many seconds, for ever, one question a kind for all patterns together; await `changed` for each.

        Where the exchange does not answer, what it listed last holds. What `changed` raises ends this; the change then
        comes again when `follow` is begun anew.
        """
        while True:
            await asyncio.sleep(every)
            await self._look()
            for change in self._changes():
                if change.pattern in self._meant:  # not forgotten while the one before was dealt with
                    await changed(change)
                    self._done(change)

    async def _look(self) -> None:
        async with self._changing:
            wanted = {kind for pattern in self._meant for kind in kinds(pattern)}
            self._report(dict(await asyncio.gather(*[self._try(kind) for kind in sorted(wanted, key=str)])))

    def _changes(self) -> list[Change]:
        changes = []
        for pattern, before in self._meant.items():
            now = self._means(pattern)
            if now != before:
                changes.append(Change(pattern, tuple(sorted(now - before)), tuple(sorted(before - now))))
        return changes

    def _done(self, change: Change) -> None:
        if change.pattern in self._meant:
            self._meant[change.pattern] = self._meant[change.pattern].difference(change.removed).union(change.added)

    def _means(self, pattern: str) -> frozenset[str]:
        listed = (inst for kind in kinds(pattern) for inst in self._listed.get(kind, ()))
        return frozenset(inst for inst in listed if matches(pattern, inst))

    def _fresh(self, kind: Kind) -> bool:
        """Say whether `kind` was asked for a moment ago: at the start come many patterns at once."""
        return kind in self._asked and asyncio.get_running_loop().time() - self._asked[kind] < _FRESH

    async def _ask(self, kind: Kind) -> None:
        insts = traded(await self._rest.instruments(kind.name, kind.family))
        # Options of a family may all expire; a market as a whole does not.
        if not insts and kind.family is None and self._listed.get(kind):
            raise RestError(f"{self._venue}: nothing at all is listed of {kind}, which cannot be")
        self._listed[kind] = insts
        self._asked[kind] = asyncio.get_running_loop().time()

    async def _try(self, kind: Kind) -> tuple[Kind, RestError | RestRefusedError | None]:
        try:
            await self._ask(kind)
        except (RestError, RestRefusedError) as error:
            return kind, error
        return kind, None

    def _report(self, outcomes: dict[Kind, RestError | RestRefusedError | None]) -> None:
        """Log what fails now and did not before, in one line, and when everything is well again."""
        errors = {kind: error for kind, error in outcomes.items() if error is not None}
        if new := [kind for kind in errors if kind not in self._failing]:
            log.warning(
                "%s: what is listed of %s is not known (%s); patterns mean what they did before",
                self._venue, _names(new), errors[new[0]],
            )  # fmt: skip
        elif self._failing and not errors:
            log.info("%s: what is listed is known again", self._venue)
        self._failing = set(errors)

    def _nothing(self, pattern: str, wanted: tuple[Kind, ...]) -> ConfigError:
        meant = nearest(pattern, {inst for kind in wanted for inst in self._listed.get(kind, ())})
        hint = f" Did you mean {meant!r}?" if meant else ""
        return ConfigError(f"{pattern!r} means nothing that {self._venue} lists now ({_names(wanted)}).{hint}")


def _names(listed: Iterable[Kind]) -> str:
    return ", ".join(map(str, listed))

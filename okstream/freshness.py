"""
When a channel is late: connected is not flowing.

Only data counts; pongs and acknowledgements prove nothing. Silence is at first a suspicion. It becomes a verdict where
something was due whatever happens, or where the exchange's REST interface shows what the stream did not bring.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How often a channel speaks, as documented.

    Args:
        every: seconds between two pushes while things change.
        due: seconds after which something comes even if nothing changed; None where nothing needs to come.
        asked: whether REST can tell if something newer exists.
    """

    every: float = 0.1
    due: float | None = None
    asked: bool = False


def skew(pace: Pace | None, bars: bool = False) -> float:
    """Return the seconds within which two connections that live bring the same; without a pace at once, but `bars`."""
    return 2 * (pace.every if pace is not None else 1.0 if bars else 0.1) + 0.1


def patience(pace: Pace | None, bars: bool = False) -> float:
    """Return the seconds that one connection may be behind another with what both bring."""
    return max(1.0, skew(pace, bars))


_SUSPECT = 10.0
_RECHECK_CAP = 300.0
_QUIET = 30.0
_MARGIN = 5.0
_CONFIRM = 2.0
_FIRST = 15.0
_PROBES = 4
_NS = 1e9


@dataclass(slots=True)
class _Doubt:
    """What is known of one silence: when to ask REST next, and since when it is known to be newer (ns, 0: never)."""

    heard: int
    next: int
    wait: float = _SUSPECT
    newer: int = 0


class Watch:
    """
    Watches the silence of one connection's subscriptions, by key.

    `look` is called about once a second with what each has shown; it tells which are stale, and which to ask REST
    about; `answered` takes what REST says.
    """

    def __init__(self, asks: bool) -> None:
        self._asks = asks
        self._doubts: dict[str, _Doubt] = {}
        self._asked: dict[str, _Doubt] = {}

    def look(self, heard: Iterable[tuple[str, Pace, int, bool]], now: int) -> tuple[list[str], list[str]]:
        """
        Return the keys of those that are stale, and of those to ask REST about.

        Args:
            heard: key, pace, when data came last or was first awaited (ns), and whether it flows now.
            now: ns, of the same clock.
        """
        stale: list[str] = []
        suspects: list[tuple[int, str, _Doubt]] = []
        for key, pace, last, flowing in heard:
            silence = (now - last) / _NS
            if silence < max(_SUSPECT, 5 * pace.every):
                continue
            if not flowing:
                if silence >= _FIRST:
                    stale.append(key)
            elif pace.due is not None and silence > 1.25 * pace.due + _MARGIN:
                stale.append(key)
            elif pace.asked and self._asks:
                doubt = self._doubt(key, last, now)
                if doubt.newer and now - doubt.newer >= _CONFIRM * _NS:
                    stale.append(key)
                elif key not in self._asked and not doubt.newer and now >= doubt.next:
                    suspects.append((last, key, doubt))
        suspects.sort(key=lambda suspect: suspect[0])
        for _, key, doubt in suspects[:_PROBES]:
            self._asked[key] = doubt
        return stale, [key for _, key, _ in suspects[:_PROBES]]

    def answered(self, key: str, newer: bool, now: int) -> None:
        """
        REST shows something `newer` than the stream, or not (or nothing at all): then it is asked again later.

        Once the stream has brought something since it was asked, its answer means nothing.
        """
        doubt = self._asked.pop(key, None)
        if doubt is None or doubt is not self._doubts.get(key):
            return
        if newer:
            doubt.newer = now
        else:
            doubt.wait = min(2 * doubt.wait, _RECHECK_CAP)
            doubt.next = now + int(doubt.wait * _NS)

    def forget(self, key: str) -> None:
        """What `key` was silent for is dealt with, or it is watched no longer."""
        self._doubts.pop(key, None)

    def _doubt(self, key: str, last: int, now: int) -> _Doubt:
        doubt = self._doubts.get(key)
        if doubt is None:
            doubt = self._doubts[key] = _Doubt(last, now)
        elif doubt.heard != last:
            # What is quiet for long between its keep-alives is not asked about ever anew.
            wait = doubt.wait if last - doubt.heard >= _QUIET * _NS else _SUSPECT
            doubt = self._doubts[key] = _Doubt(last, last + int(wait * _NS), wait)
        return doubt

"""`okstream list`: what there is."""

from collections.abc import Iterable, Sequence

from okstream import venues
from okstream.channels import BARS, PUBLIC, USER
from okstream.dialects import Dialect, load

_LOGINS = dict.fromkeys(USER, " (login)") | dict.fromkeys(
    ("book-l2-tbt", "book50-l2-tbt", "fills"), " (login and fee tier VIP4 on okx-v5)"
)


def venues_table() -> str:
    """Return what `okstream list venues` prints."""
    rows = [(venue.name, venue.dialect, venue.url, venue.note) for venue in venues.VENUES.values()]
    rows.append((venues.SIM, "any", "in this process", "the simulated exchange; --dialect picks the generation"))
    return _table(("venue", "dialect", "where", "what"), rows)


def channels_table() -> str:
    """Return what `okstream list channels` prints."""
    dialects = [load(name) for name in venues.DIALECTS]
    rows = []
    for name, what in {**PUBLIC, "candle-<bar>": "bars, see below", **USER}.items():
        example = "candle-1m" if name.startswith("candle") else name
        marks = ["yes" if example in dialect.CHANNELS else "-" for dialect in dialects]
        rows.append((name, *marks, what + _LOGINS.get(name, "")))
    bars = [f"bars of {dialect.NAME}: {_bars(dialect)}\n" for dialect in dialects]
    return (
        _table(("channel", *venues.DIALECTS, "what"), rows)
        + f"\n{''.join(bars)}\n"
        + "Any other channel of a venue goes by the exchange's own name and arrives as `native` records.\n"
    )


def _bars(dialect: Dialect) -> str:
    return " ".join(bar for bar in BARS if f"candle-{bar}" in dialect.CHANNELS)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    all_rows = [head, *rows]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(head))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in all_rows]
    return "".join(f"{text.rstrip()}\n" for text in texts)

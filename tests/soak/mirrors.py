"""Books made anew from records, by other code than the stream's own."""

from okstream.records import Book


class Mirror:
    """A book made of its records, as simple as can be."""

    def __init__(self) -> None:
        self._levels: dict[tuple[str, str], int] = {}
        self._state = 0

    def take(self, book: Book) -> int:
        """Take one more record; return what is equal for equal books."""
        if book.action == "snapshot":
            self._levels.clear()
            self._state = 0
        for side, rows in (("bid", book.bids), ("ask", book.asks)):
            for row in rows:
                self._state ^= self._levels.pop((side, row[0]), 0)
                if float(row[1]):
                    # Rows of five columns sum up what is above them in their own message.
                    level = self._levels[side, row[0]] = hash((side, *(row if len(row) < 5 else row[:2])))
                    self._state ^= level
        return self._state

    def best(self, depth: int) -> list[tuple[str, str, int]]:
        """The best levels of each side."""
        best: list[tuple[str, str, int]] = []
        for side, sign in (("bid", -1), ("ask", 1)):
            prices = sorted((price for place, price in self._levels if place == side), key=lambda p: sign * float(p))
            best += [(side, price, self._levels[side, price]) for price in prices[:depth]]
        return best

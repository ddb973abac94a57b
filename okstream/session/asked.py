"""What is wanted of one key, and what one request asks for."""

from dataclasses import dataclass, field

from ..dialects import Op, Refusal


@dataclass(slots=True)
class Request:
    """One request on its way: `open` are the keys without an answer yet, with their sizes, in the order asked."""

    id: str
    op: Op
    open: dict[str, int]
    sent: float
    patience: float
    errors: list[Refusal] = field(default_factory=list)
    arguments: int = 0

    @property
    def due(self) -> float:
        """When to ask again; sooner where an error came that names no argument."""
        return self.sent + (self.patience / 4 if self.errors else self.patience)

    @property
    def answering(self) -> bool:
        """Whether it is an unsubscribe of which a part was answered."""
        return self.op == "unsubscribe" and 0 < len(self.open) < self.arguments


@dataclass(slots=True)
class Wish:
    """
    What is to become of one key: `size` is its share of a request's bytes; those of one `group` may share one.

    `overtaken`: an unsubscribe had no answer when it was subscribed to again.
    """

    size: int
    live: bool = False
    healing: bool = False
    group: int = 0
    attempts: int = 0
    overtaken: bool = False

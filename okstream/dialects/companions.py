"""Which public channel shows that a logged-in connection flows, where those of an account speak of changes alone."""

from ..channels import Subscription


def companion(sub: Subscription) -> Subscription:
    """Return a ticker that is never quiet for long and is traded where `sub` is: that of BTC, in the same currency."""
    parts = (sub.inst or "").split("-")
    quote = parts[1] if len(parts) == 2 and parts[1] != "BTC" and not sub.args else "USDT"
    return Subscription("ticker", f"BTC-{quote}")

"""OKEx and OKCoin v3."""

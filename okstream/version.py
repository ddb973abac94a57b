"""The version of this okstream; pyproject.toml has the same, a test holds them together."""

VERSION = "0.1.0"

"""
How the exchange wants requests signed.

v3, v5 and v1's last half year: base64(HMAC-SHA256(secret, timestamp + method + path + body)).
v1: upper-case MD5 of the parameters, sorted by name, with the secret last.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

LOGIN_PATH = "/users/self/verify"


@dataclass(frozen=True, slots=True)
class Credentials:
    """One API key. Neither `repr` nor any message shows more than the key's last four characters."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    passphrase: str = field(repr=False, default="")

    def __repr__(self) -> str:
        return f"Credentials(key=...{self.key[-4:] if len(self.key) > 8 else ''})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must never be shown."""
        return tuple(text for text in (self.key, self.secret, self.passphrase) if text)


def hmac_sha256(secret: str, timestamp: str, path: str = LOGIN_PATH, method: str = "GET", body: str = "") -> str:
    """Return the base64 signature of v3 and v5; `path` includes the query."""
    message = f"{timestamp}{method}{path}{body}".encode()
    return base64.b64encode(hmac.digest(secret.encode(), message, hashlib.sha256)).decode()


def md5(secret: str, parameters: Mapping[str, str]) -> str:
    """Return the signature of v1: 32 upper-case hexadecimal digits."""
    pairs = [f"{name}={parameters[name]}" for name in sorted(parameters) if name != "sign"]
    text = "&".join([*pairs, f"secret_key={secret}"])
    # MD5 is what the exchange's v1 asks for; it protects nothing of ours.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()

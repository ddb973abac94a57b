"""What the exchange says, without what nobody may read: some refusals echo the request, credentials and all."""

import json
import re
from collections.abc import Iterable

_MESSAGE = 500
"""Characters shown of what the exchange says."""

_LOOKED_AT = 8 * _MESSAGE
_PART = 8
_LONG = re.compile(r"[\w+/=-]{20,}")
MASK = "[masked]"
"""What stands in a journal for a part of a secret; as long as a part, so that `scrub` knows it for one."""

_HIDDEN = "(not shown: it repeats a part of the credentials)"


class Secrecy:
    """Knows what is secret on one connection: `secrets`, and what was made of them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = _forms(secrets)

    def add(self, request: str) -> None:
        """Keep the long words of `request` secret, too."""
        self._secrets += _LONG.findall(request)

    def scrub(self, text: str) -> str:
        """Return `text`, not too long and without any part of the secrets."""
        text = text[:_LOOKED_AT]
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for secret in self._secrets:
            if any(secret[start : start + _PART] in text for start in range(len(secret) - _PART + 1)):
                return _HIDDEN
        return text if len(text) <= _MESSAGE else text[:_MESSAGE] + "..."

    def masked(self, text: str) -> str:
        """Return all of `text`, with something else in the place of secrets and of their parts."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for secret in self._secrets:
            for start in range(len(secret) - _PART + 1):
                text = text.replace(secret[start : start + _PART], MASK)
        return text


def _forms(secrets: Iterable[str]) -> list[str]:
    """Return how `secrets` may stand in a text: as they are, and as JSON writes them; the longest first."""
    forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])}
    forms |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets}
    return sorted(forms, key=len, reverse=True)

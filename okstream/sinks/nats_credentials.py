"""Who okstream is to a NATS server: from a file of its own or the environment, never from the configuration itself."""

import logging
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from okstream.errors import ConfigError

log = logging.getLogger("okstream.sinks.nats")

VARIABLES = {
    "user": "OKSTREAM_NATS_USER",
    "password": "OKSTREAM_NATS_PASSWORD",
    "token": "OKSTREAM_NATS_TOKEN",
}
_CREDS = b"-----BEGIN NATS USER JWT-----"
_WHOLE = re.compile(
    rb"BEGIN NATS USER JWT-+\r?\n[\w.-]+\r?\n.*BEGIN USER NKEY SEED-+\r?\nSU[A-Z2-7]{56}\r?\n", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """User and password, a token, or the path of a `.creds` file; `repr` shows none of them."""

    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    creds: Path | None = None

    @property
    def secret(self) -> bool:
        """Whether there is something that must not cross the network in the clear."""
        return self.password is not None or self.token is not None


def nats_credentials(source: Path | None, environment: Mapping[str, str]) -> NatsCredentials:
    """
    Return the credentials from `source`: NATS's own `.creds`, or TOML with user and password, or token.

    Without a file they come from `environment`, see VARIABLES; there may be none.

    Raises:
        ConfigError: the file cannot be read, or says something else. Values never show in the message.
    """
    if source is None:
        values: dict[str, Any] = {name: environment.get(variable) or None for name, variable in VARIABLES.items()}
        return _made(values, "the environment")
    try:
        with source.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
        values = {} if _CREDS in content else tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigError(f"credentials file {source}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError(f"credentials file {source} is neither TOML nor a .creds file") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("credentials file %s can be read by other users: chmod 600 it", source)
    if _CREDS in content:
        if not _WHOLE.search(content):
            raise ConfigError(f"credentials file {source} is not a whole .creds file")
        return NatsCredentials(creds=source)
    if not values:
        raise ConfigError(f"credentials file {source} has neither user and password nor token")
    return _made(values, f"credentials file {source}")


def _made(values: Mapping[str, Any], where: str) -> NatsCredentials:
    if unknown := values.keys() - VARIABLES.keys():
        raise ConfigError(f"{where} has {', '.join(sorted(unknown))}; known are {', '.join(VARIABLES)}")
    if not all(isinstance(value, str) and value for value in values.values() if value is not None):
        raise ConfigError(f"{where}: user, password and token must be text")
    made = NatsCredentials(**values)
    if (made.user is None) != (made.password is None):
        raise ConfigError(f"{where} has only one of user and password")
    if made.user is not None and made.token is not None:
        raise ConfigError(f"{where} has both a user and a token")
    return made

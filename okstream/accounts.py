"""Where credentials come from: a file or the environment, never the command line."""

import logging
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path

from .dialects.signing import Credentials
from .errors import ConfigError

log = logging.getLogger("okstream.accounts")

_NAMES = {"key": "OKSTREAM_API_KEY", "secret": "OKSTREAM_SECRET", "passphrase": "OKSTREAM_PASSPHRASE"}


def credentials(source: str, environment: Mapping[str, str]) -> Credentials:
    """
    Return the credentials from `source`: `env`, or the path of a TOML file with key, secret and passphrase.

    Raises:
        ConfigError: the file cannot be read, or something is missing. Values never show in the message.
    """
    if source == "env":
        values = {name: environment.get(variable, "") for name, variable in _NAMES.items()}
        return _made(values, "the environment", _NAMES)
    try:
        with Path(source).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"credentials file {source}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError(f"credentials file {source} is not TOML") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("credentials file %s can be read by other users: chmod 600 it", source)
    if strange := values.keys() - _NAMES.keys():
        raise ConfigError(f"credentials file {source}: {min(strange)!r} is none of key, secret and passphrase")
    return _made(values, f"credentials file {source}", {name: name for name in _NAMES})


def _made(values: Mapping[str, object], where: str, names: Mapping[str, str]) -> Credentials:
    missing = [names[name] for name in ("key", "secret") if not values.get(name)]
    if missing:
        raise ConfigError(f"{where} lacks {' and '.join(missing)}")
    texts = [values.get(name) or "" for name in ("key", "secret", "passphrase")]
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{where}: key, secret and passphrase must be text")
    return Credentials(*map(str, texts))

"""TOML, environment and secret files, validated into settings. config.example.toml shows every option."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from okstream import accounts, venues
from okstream.channels import Subscription, parse
from okstream.dialects.signing import Credentials
from okstream.errors import ConfigError
from okstream.inflate import CAP

from .conflicts import Asked, clashes, idle, unfit
from .outputs import Output, Seconds
from .outputs import read as read_outputs
from .wording import complaints


def _address(value: Any) -> Any:
    return str(ip_address(value)) if isinstance(value, str) else value


_Address = Annotated[str, BeforeValidator(_address)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Account(_Section):
    """Credentials: in a file of their own, from the environment, or (discouraged) here."""

    file: str | None = None
    key: SecretStr | None = None
    secret: SecretStr | None = None
    passphrase: SecretStr | None = None

    def credentials(self, environment: Mapping[str, str]) -> Credentials:
        """Return the credentials; raises ConfigError where something is missing."""
        here = self.key, self.secret, self.passphrase
        if here == (None, None, None):
            return accounts.credentials("env" if self.file is None else self.file, environment)
        if self.file is not None or self.key is None or self.secret is None:
            raise ConfigError("wants a file; or key, secret and passphrase; or nothing, for the environment")
        passphrase = self.passphrase.get_secret_value() if self.passphrase else ""
        return Credentials(self.key.get_secret_value(), self.secret.get_secret_value(), passphrase)


class Source(_Section):
    """What to subscribe to at one venue."""

    venue: str
    subscriptions: Annotated[list[str], Field(min_length=1)]
    url: str | None = None
    rest_url: str | None = None
    others: list[str] = []
    name: str | None = None
    account: str | None = None

    def read(self) -> list[Subscription]:
        """Return the subscriptions; raises ConfigError as `parse` does."""
        return [sub for text in self.subscriptions for sub in parse(text, self.account)]


_MOVED = {
    "output": "[output]: write [sink.NAME] tables, each with a type; depth and every now stand at the top",
    "lane_mib": "lane_mib: every [sink.NAME] has one of its own now",
}
"""What an older configuration says, and what to write instead."""


class Settings(_Section):
    """Everything a configuration file can say; see config.example.toml."""

    source: Annotated[list[Source], Field(min_length=1)]
    sink: dict[str, Any] = {}
    account: dict[str, Account] = {}
    proxy: str | None = None
    redundancy: Annotated[int, Field(ge=1, le=8)] = 1
    rotate_after: Annotated[Seconds, Field(ge=10)] | None = None
    local_addresses: list[_Address] = []
    dialect: Literal["okx-v5", "okex-v3", "okex-v1"] = "okx-v5"
    depth: Annotated[int, Field(ge=1, le=400)] | None = None
    every: Seconds | None = None
    journal: str | None = None
    inflate_mib: Annotated[int, Field(ge=1, le=1024)] = CAP >> 20
    drain: Seconds = 5.0
    stats: Seconds | None = None
    log_level: Literal["error", "warning", "info", "debug"] = "warning"

    def outputs(self) -> list[Output]:
        """Return where records go; raises ConfigError as outputs.read does."""
        return read_outputs(self.sink)


def load(path: str) -> Settings:
    """
    Read and validate the file at `path`.

    Raises:
        ConfigError: it cannot be read, or it says something wrong; each error names its key's path.
    """
    try:
        data = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: it is no text, let alone TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    if moved := [said for name, said in _MOVED.items() if name in data]:
        raise ConfigError("\n".join(f"{path}: {said}" for said in moved))
    if isinstance(data.get("source"), dict):
        raise ConfigError(f"{path}: [source]: write [[source]], for there may be several")
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {said}" for said in complaints(error, Settings))) from None
    with placed(path):
        _check(settings)
    return settings


@contextmanager
def placed(path: str) -> Iterator[None]:
    """Let each line of a ConfigError begin with the path of the file it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {said}" for said in str(error).splitlines())) from None


def _check(settings: Settings) -> None:
    """Raises ConfigError: options do not go together, or name what is not there."""
    outputs = settings.outputs()
    if wrong := clashes(outputs):
        raise ConfigError("\n".join(wrong))
    if (settings.depth is None) != (settings.every is None):
        raise ConfigError('depth and every go together: depth = 5 and every = "100ms"')
    if settings.depth is not None and (raw := [one.name for one in outputs if one.options.form == "raw"]):
        raise ConfigError(f"sink.{raw[0]}.form: books at fixed times are records; raw is the exchange's own messages")
    if settings.redundancy == 1 and any(source.others for source in settings.source):
        raise ConfigError("others are places for redundant links, and there are none: set redundancy = 2 at the top")
    for number, source in enumerate(settings.source):
        try:
            source.read()
            if source.venue != venues.SIM:
                venues.find(source.venue)
        except ConfigError as error:
            raise ConfigError(f"source[{number}]: {error}") from None
        if source.account is not None and source.account not in settings.account:
            raise ConfigError(f"source[{number}].account: there is no [account.{source.account}]")


def idle_filters(settings: Settings) -> list[str]:
    """
    Return the filters of sinks that nothing subscribed to can pass, a line each.

    Raises:
        ConfigError: a sink keeps only the `latest`, and would get what is no state.
    """
    outputs = settings.outputs()
    asked: list[Asked] = [(source.name or source.venue, sub) for source in settings.source for sub in source.read()]
    if wrong := unfit(outputs, asked):
        raise ConfigError("\n".join(wrong))
    return idle(outputs, asked)


def credentials(settings: Settings, environment: Mapping[str, str] = os.environ) -> dict[str, Credentials]:
    """Return the credentials of all accounts by name; raises ConfigError where something is missing."""
    found: dict[str, Credentials] = {}
    for name, account in settings.account.items():
        try:
            found[name] = account.credentials(environment)
        except ConfigError as error:
            raise ConfigError(f"account.{name}: {error}") from None
    return found

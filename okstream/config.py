"""TOML, environment and secret files, validated into settings. config.example.toml shows every option."""

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from . import accounts, venues
from .channels import Subscription, parse
from .dialects.signing import Credentials
from .durations import seconds
from .errors import ConfigError
from .inflate import CAP
from .lane import LANE_BYTES


def _read(value: Any) -> Any:
    try:
        return seconds(value) if isinstance(value, str) else value
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _address(value: Any) -> Any:
    return str(ip_address(value)) if isinstance(value, str) else value


_Seconds = Annotated[float, BeforeValidator(_read), Field(gt=0, lt=1e9)]
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
        if self.file is not None:
            return accounts.credentials(self.file, environment)
        if self.key is None and self.secret is None:
            return accounts.credentials("env", environment)
        if self.key is None or self.secret is None:
            raise ConfigError("an account wants key and secret, or a file, or nothing for the environment")
        passphrase = self.passphrase.get_secret_value() if self.passphrase else ""
        return Credentials(self.key.get_secret_value(), self.secret.get_secret_value(), passphrase)


class Source(_Section):
    """What to subscribe to at one venue."""

    venue: str
    subscriptions: Annotated[list[str], Field(min_length=1)]
    url: str | None = None
    others: list[str] = []
    name: str | None = None
    account: str | None = None

    def read(self) -> list[Subscription]:
        """Return the subscriptions; raises ConfigError as `parse` does."""
        return [sub for text in self.subscriptions for sub in parse(text, self.account)]


class Output(_Section):
    """Where the records go."""

    type: Literal["stdout", "file"] = "stdout"
    path: str | None = None
    form: Literal["json", "raw"] = "json"
    data_only: bool = False
    depth: Annotated[int, Field(ge=1, le=400)] | None = None
    every: _Seconds | None = None


class Settings(_Section):
    """Everything a configuration file can say; see config.example.toml."""

    source: Annotated[list[Source], Field(min_length=1)]
    output: Output = Output()
    account: dict[str, Account] = {}
    proxy: str | None = None
    redundancy: Annotated[int, Field(ge=1, le=8)] = 1
    rotate_after: Annotated[_Seconds, Field(ge=10)] | None = None
    local_addresses: list[_Address] = []
    dialect: Literal["okx-v5", "okex-v3", "okex-v1"] = "okx-v5"
    lane_mib: Annotated[int, Field(ge=1, le=65536)] = LANE_BYTES >> 20
    inflate_mib: Annotated[int, Field(ge=1, le=1024)] = CAP >> 20
    drain: _Seconds = 5.0
    stats: _Seconds | None = None
    log_level: Literal["error", "warning", "info", "debug"] = "warning"


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_plain(problem, data)}" for problem in error.errors())) from None
    if (wrong := _conflict(settings)) is not None:
        raise ConfigError(f"{path}: {wrong}")
    for number, source in enumerate(settings.source):
        try:
            source.read()
            if source.venue != venues.SIM:
                venues.find(source.venue)
        except ConfigError as error:
            raise ConfigError(f"{path}: source[{number}]: {error}") from None
        if source.account is not None and source.account not in settings.account:
            raise ConfigError(f"{path}: source[{number}].account: there is no [account.{source.account}]")
    return settings


def _conflict(settings: Settings) -> str | None:
    """Say which options do not go together."""
    output = settings.output
    if output.type == "file" and output.path is None:
        return "output.path is missing: a file sink needs one"
    if (output.depth is None) != (output.every is None):
        return 'output.depth and output.every go together: depth = 5 and every = "100ms"'
    if output.depth is not None and output.form == "raw":
        return "output.depth: books at fixed times are records; raw text has only the exchange's own messages"
    if settings.redundancy == 1 and any(source.others for source in settings.source):
        return "others are places for redundant links, and there are none: set redundancy = 2 at the top"
    return None


def credentials(settings: Settings, environment: Mapping[str, str] = os.environ) -> dict[str, Credentials]:
    """Return the credentials of all accounts by name; raises ConfigError where something is missing."""
    return {name: account.credentials(environment) for name, account in settings.account.items()}


def _plain(problem: Any, data: Any) -> str:
    """Say what is wrong and where; never the value, which may be a secret."""
    where = ""
    for part in problem["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    if problem["type"] == "extra_forbidden":
        from difflib import get_close_matches

        known = _keys(problem["loc"][:-1])
        close = get_close_matches(str(problem["loc"][-1]), known, n=1)
        return f"{where}: there is no such option" + (f"; did you mean {close[0]!r}?" if close else "")
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _keys(place: tuple[Any, ...]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {"source": Source, "output": Output, "account": Account}
    return list((sections.get(str(place[0])) or Settings).model_fields) if place else list(Settings.model_fields)

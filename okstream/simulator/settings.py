"""What a simulated exchange can be told. Limits are the exchange's own; `None` lifts one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from okstream.errors import ConfigError

_YEAR = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Account:
    """
    One user of the simulated exchange. None of this is or resembles a real credential.

    `tier` is the VIP level: tick-by-tick books and fills need 4. `balances` are decimal text by currency.
    """

    name: str
    key: str
    secret: str = field(repr=False)
    passphrase: str = field(repr=False)
    uid: str = "10000000000000001"
    tier: int = 5
    balances: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"BTC": "10", "ETH": "100", "USDT": "1000000", "OKB": "1000"})
    )


TEST_ACCOUNT = Account(
    name="test",
    key="simulated-key-0001",
    secret="simulated-secret-not-a-secret",
    passphrase="simulated-passphrase",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Everything adjustable. Durations are seconds of the event loop's clock, `start_ms` is ms since the epoch.

    `rate` scales how much happens in every market; `step` is the time between two cuts of the book.
    `clock_offset` shifts the exchange's wall clock: login age, REST time, Date header, every timestamp.
    `deflate`: agree to permessage-deflate (messages over 16 KB are then compressed in a thread).
    `checksum` is "zero" (as today) or "real" (the CRC32 of before June 2026). `orders_per_second` is the
    pace at which each account that someone watches trades by itself; 0 leaves it to REST.
    """

    seed: int = 1
    rate: float = 1.0
    step: float = 0.010
    start_ms: int | None = None
    clock_offset: float = 0.0
    checksum: str = "zero"
    deflate: bool = False
    accounts: tuple[Account, ...] = (TEST_ACCOUNT,)
    orders_per_second: float = 0.5
    generated: int = 200

    # Limits.
    connects_per_second: int | None = 3
    requests_per_hour: int | None = 480
    frame_bytes: int | None = 65_536
    channel_connections: int | None = 30
    idle_close: float | None = 30.0
    write_buffer: int | None = 8 * 1024 * 1024
    login_age: float | None = 30.0
    rest_limits: bool = True

    # Habits.
    notice_lead: float = 60.0
    keepalive: float = 60.0
    close_failed_login: bool = True
    v1_numbers: bool = False
    v1_double_acks: bool = True

    # The oracle.
    log_limit: int = 200_000

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigError: a value with which no market can run.
        """
        if not self.step > 0:
            raise ConfigError(f"step must be more than 0 seconds, not {self.step}")
        if not self.rate >= 0 or not self.orders_per_second >= 0:
            raise ConfigError("rate and orders_per_second must not be negative")
        if not abs(self.clock_offset) <= _YEAR:
            raise ConfigError(f"clock_offset must be a year at most, in seconds, not {self.clock_offset}")
        if self.checksum not in ("zero", "real"):
            raise ConfigError(f'checksum must be "zero" or "real", not {self.checksum!r}')

"""Where "now" comes from: everything that depends on the time takes one of these, so that tests and the demo pin it.

Nothing else belongs here; waiting (sleep) is injected where it is needed, not offered by a clock.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The current instant as an aware UTC datetime."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's current instant in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class FixedClock:
    """A clock that stands still at `instant`: the demo's pinned time, and tests."""

    instant: datetime

    def __post_init__(self) -> None:
        if self.instant.tzinfo is None:
            raise ValueError(f"a clock needs an aware datetime, got the naive {self.instant.isoformat()}")

    def now(self) -> datetime:
        """Return the pinned instant in UTC."""
        return self.instant.astimezone(UTC)

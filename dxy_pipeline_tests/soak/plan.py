"""What every process of a soak must agree on: the market span, how fast its time runs, how the feed behaves now.

The accelerated clock is a function of the machine's clock, so that processes that start at any time agree. Behind the
span it stands still, or goes on at a gentle pace at which monitoring sees a healthy pipeline and incidents can resolve.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

ENVIRONMENT = "DXY_SOAK"
# Ten market days over a weekend in which New York's clocks change; it ends on a Friday with the market open.
START = datetime(2024, 3, 4, tzinfo=UTC)
END = datetime(2024, 3, 15, 16, tzinfo=UTC)
MARKET_DAYS = 10
BEHIND = timedelta(minutes=10)  # behind END everything before it is final


@dataclass(frozen=True)
class Plan:
    """How long the span takes on the machine's clock, since when it runs, where the feed's orders are.

    `calm` is the pace behind the span: 0 stands still, 1 is real time.
    """

    seconds: float
    origin: float
    orders: str
    calm: float = 0

    @classmethod
    def from_env(cls) -> Self:
        """Read what the soak put into the environment of its services."""
        return cls(**json.loads(os.environ[ENVIRONMENT]))

    def to_env(self) -> dict[str, str]:
        """Return the environment that hands this plan to another process."""
        return {ENVIRONMENT: json.dumps(asdict(self))}

    @property
    def over(self) -> bool:
        """Whether the span is over."""
        return self.now() >= END

    def now(self) -> datetime:
        """Return the accelerated instant: START at the origin, END `seconds` later, then on at the calm pace."""
        passed = max(time.time() - self.origin, 0.0)
        share = min(passed / self.seconds, 1.0)
        return START + share * (END - START) + timedelta(seconds=self.calm * max(passed - self.seconds, 0.0))

    @property
    def final_at(self) -> datetime:
        """The market time at which the verdict may be given."""
        return END + BEHIND if self.calm else END


@dataclass(frozen=True)
class Orders:
    """What the feed does at the moment: `skew` minutes its clock is ahead (behind when negative), `down`: silent."""

    skew: int = 0
    down: bool = False

    @classmethod
    def read(cls, path: str) -> Self:
        """Return the current orders, the usual behaviour where there are none."""
        try:
            return cls(**json.loads(Path(path).read_text()))
        except FileNotFoundError:
            return cls()

    def write(self, path: str) -> None:
        """Give these orders, whole or not at all."""
        draft = Path(path).with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)


@dataclass(frozen=True)
class AcceleratedClock:
    """The clock of a soak."""

    plan: Plan

    def now(self) -> datetime:
        """Return the accelerated instant, aware UTC."""
        return self.plan.now()

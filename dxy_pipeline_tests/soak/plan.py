"""What every process of a soak must agree on: the market span, how fast its time runs, how the feed behaves now.

The accelerated clock is a file that says where market time was at an instant of the machine's clock, and its pace from
there on: processes that start at any time agree, and time waits for the services instead of running away from a slow
machine. Behind the span it stands still, or goes on at a gentle pace at which monitoring sees a healthy pipeline and
incidents can resolve.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

ENVIRONMENT = "DXY_SOAK"
# Ten market days over a weekend in which New York's clocks change; it ends on a Friday with the market open.
START = datetime(2024, 3, 4, tzinfo=UTC)
END = datetime(2024, 3, 15, 16, tzinfo=UTC)
MARKET_DAYS = 10
BEHIND = timedelta(minutes=10)  # behind END everything before it is final


@dataclass(frozen=True)
class Flow:
    """Market time was `market` at `since` (both seconds of the epoch), and goes on at `pace` up to `until`."""

    market: float
    since: float
    pace: float
    until: float


@dataclass(frozen=True)
class Plan:
    """Where the clock and the feed's orders are, and the pace of time behind the span: 0 stands still, 1 is real."""

    clock: str
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

    def go_on(self, until: datetime, seconds: float) -> None:
        """Let market time run from where it is to `until` within `seconds`; there it waits, unless it is the end."""
        now = self.now()
        _replace(self.clock, asdict(Flow(now.timestamp(), time.time(), (until - now).total_seconds() / seconds,
                                         until.timestamp())))  # fmt: skip

    def now(self) -> datetime:
        """Return the accelerated instant: START until time is let go."""
        try:
            flow = Flow(**json.loads(Path(self.clock).read_text()))
        except FileNotFoundError:
            return START
        reached = flow.market + flow.pace * (time.time() - flow.since)
        if reached < flow.until or flow.until < END.timestamp():
            return datetime.fromtimestamp(min(reached, flow.until), UTC)
        return END + timedelta(seconds=self.calm * (reached - flow.until) / flow.pace)

    @property
    def final_at(self) -> datetime:
        """The market time at which the verdict may be given."""
        return END + BEHIND if self.calm else END


@dataclass(frozen=True)
class Orders:
    """What the feed does at the moment: `skew` minutes its clock is ahead (behind when negative), `down`: silent.

    `rest`: the accelerated ticks pause, so that between two ticks of the minute schedule no run is under way.
    """

    skew: int = 0
    down: bool = False
    rest: bool = False

    @classmethod
    def read(cls, path: str) -> Self:
        """Return the current orders, the usual behaviour where there are none."""
        try:
            return cls(**json.loads(Path(path).read_text()))
        except FileNotFoundError:
            return cls()

    def write(self, path: str) -> None:
        """Give these orders, whole or not at all."""
        _replace(path, asdict(self))


@dataclass(frozen=True)
class AcceleratedClock:
    """The clock of a soak."""

    plan: Plan

    def now(self) -> datetime:
        """Return the accelerated instant, aware UTC."""
        return self.plan.now()


def _replace(path: str, said: dict[str, Any]) -> None:
    draft = Path(path).with_suffix(".new")
    draft.write_text(json.dumps(said))
    draft.replace(path)

"""The code location of a soak: the project's own definitions with an accelerated clock and an unsteady feed.

The minute schedule's own function also ticks every other second, since a minute of the machine is hours of the market.
What waits for the machine's clock (settling, pauses after failures) is shortened in proportion, nothing else differs.
"""

from datetime import timedelta
from typing import Any

import dagster as dg

from dxy_pipeline.automation import late_data, live
from dxy_pipeline.automation.jobs import live_minute
from dxy_pipeline.core.clock import Clock
from dxy_pipeline.definitions import build_defs
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock
from dxy_pipeline.sources.protocol import FxSource
from dxy_pipeline_tests.soak.feed import UnsteadySource
from dxy_pipeline_tests.soak.plan import AcceleratedClock, Orders, Plan

live.LONGEST_PAUSE = timedelta(seconds=5)
late_data.SETTLE = timedelta(seconds=5)
TICK: Any = live.live_schedule._execution_fn.decorated_fn  # ty: ignore[unresolved-attribute]


class SoakClock(PipelineClock):
    """Market time, accelerated."""

    def clock(self) -> Clock:
        """Return the clock that all processes of the soak share."""
        return AcceleratedClock(Plan.from_env())


class SoakFeed(FxFeed):
    """The unsteady feed."""

    def source(self, clock: Clock, *, live: bool = False) -> FxSource:
        """Return the simulated feed with its bad habits."""
        return UnsteadySource(Plan.from_env())


@dg.sensor(job=live_minute, minimum_interval_seconds=2, default_status=dg.DefaultSensorStatus.RUNNING)
def accelerated_minute(
    context: dg.SensorEvaluationContext, market: MarketDatabase, feed: FxFeed, clock: PipelineClock
) -> dg.RunRequest | dg.SkipReason:
    """What the minute schedule does, every other second."""
    if Orders.read(Plan.from_env().orders).rest:
        return dg.SkipReason("resting")
    return TICK(context, market, feed, clock)


defs = dg.Definitions.merge(
    build_defs(clock=SoakClock(), feed=SoakFeed(kind="simulated")), dg.Definitions(sensors=[accelerated_minute])
)

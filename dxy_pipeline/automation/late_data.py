"""The sensor for late, corrected and deleted FX minutes of any age: the log of touched minutes becomes runs.

The log is written in the transaction of the FX change itself, whoever the writer is, and the run that derives a day
deletes the day's log rows in the transaction of its write. So nothing is lost when a writer commits late or a run dies:
what was not derived is still in the log. The run key is days + newest log row + attempt: a key of the days alone would
block the retry after a failed run.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from dxy_pipeline import bar_store, live_state
from dxy_pipeline.automation.jobs import LATE_JOB, late_data
from dxy_pipeline.automation.live import RANGE_END, RANGE_START, pause_after_failures, under_way
from dxy_pipeline.bar_store import TouchedDay
from dxy_pipeline.db.ownership import NOT_YET, PARTLY, partly_from
from dxy_pipeline.errors import UserError
from dxy_pipeline.partitions import FIRST_DAY, day_of, key_of, ranges
from dxy_pipeline.resources import FxFeed, MarketDatabase

CAUSE = "dxy/late_data"
# Where we fetch ourselves the minute's run derives what it fetched; where another worker writes, this sensor is what
# turns its sixth bar into an index bar within seconds.
SETTLE = timedelta(seconds=90)
PATIENCE = timedelta(minutes=30)  # a run over a year of days; holds only where `orphans` cannot tell that a run is dead
MOST_DAYS = 2000
INTERVAL_S = 5
ENDED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)


@dg.sensor(
    job=late_data,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Days whose FX minutes changed after the minute's run had passed are derived again.",
)
def late_data_sensor(
    context: dg.SensorEvaluationContext, market: MarketDatabase, feed: FxFeed
) -> dg.SensorResult | dg.SkipReason:
    settle = timedelta(0) if feed.name() == "external" else SETTLE
    try:
        with market.read("late_data") as conn:
            if (state := live_state.migration_state(conn)) in NOT_YET:
                return dg.SkipReason(f"the migration is in state {state}: DXY bars are not ours to write yet")
            waiting = bar_store.touched_days(conn, datetime.now(UTC), settle=settle, limit=MOST_DAYS)
    except UserError as error:
        return dg.SkipReason(str(error))
    waiting = [day for day in waiting if _ours(day, state, datetime.now(UTC))]
    if not waiting:
        return dg.SkipReason("no late data")
    if under_way(context.instance, LATE_JOB, PATIENCE):
        return dg.SkipReason(f"{len(waiting)} day(s) wait for the run under way")
    requests = list(_requests(context.instance, waiting))
    if not requests:
        return dg.SkipReason(f"{len(waiting)} day(s) wait: their last run did not settle them, a short while ago")
    context.log.info("late data: %s day(s), newest %s, in %s run(s)", len(waiting), waiting[0].day, len(requests))
    return dg.SensorResult(run_requests=requests)


def _ours(touched: TouchedDay, state: str, now: datetime) -> bool:
    """Whether a run may settle this day: it is a partition, and the migration leaves its bars to us by now."""
    first = partly_from(now) if state in PARTLY else FIRST_DAY
    # In those states the roll-ups are still the desk's: their entries stay in the log until the cutover.
    return first <= touched.day <= day_of(now) and (state not in PARTLY or "1m" in touched.targets)


def _requests(instance: dg.DagsterInstance, waiting: Sequence[TouchedDay]) -> Iterator[dg.RunRequest]:
    """One run for days in a row, weekends bridged; a cause that its last runs did not remove waits, doubling."""
    high_water = {day.day: day.high_water for day in waiting}
    for first, last in reversed(ranges(high_water, bridge=3)):
        newest = max(mark for day, mark in high_water.items() if first <= day <= last)
        cause = f"{key_of(first)}..{key_of(last)}@{newest}"
        which = dg.RunsFilter(job_name=LATE_JOB, tags={CAUSE: cause})
        if pause_after_failures(instance, which, datetime.now(UTC), vain=ENDED) is None:
            yield _request(first, last, cause, attempt=instance.get_runs_count(which))


def _request(first: date, last: date, cause: str, attempt: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{cause}#{attempt}",
        tags={RANGE_START: key_of(first), RANGE_END: key_of(last), CAUSE: cause},
    )

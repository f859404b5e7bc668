"""The minute schedule: one in-process run for all four assets, each minute, from the last fetch up to now.

Overlap-safe: while a run of the job waits or works, the tick is skipped; what that run does not see the next one does.
A run whose process is gone (killed with the daemon) is ended by the tick that finds it; where that cannot be told, one
that has been under way for long no longer holds the schedule up: a second run beside one that does work is harmless.
Self-healing: the range starts where the last successful fetch ended, however long ago, at most a month a run.
Calm: failing runs are tried again after 1, 2, 4, 8, then 15 minutes; a database that is down skips the tick.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from dxy_pipeline import live_state
from dxy_pipeline.automation.jobs import LIVE_JOB, live_minute
from dxy_pipeline.automation.orphans import end_orphans
from dxy_pipeline.errors import UserError
from dxy_pipeline.partitions import day_of, key_of
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
LONGEST_PAUSE = timedelta(minutes=15)
PATIENCE = timedelta(minutes=5)  # a tick takes seconds, a month's outage a minute or two
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dg.schedule(
    job=live_minute,
    cron_schedule="* * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each minute: fetch, derive and roll up what is missing up to now.",
)
def live_schedule(
    context: dg.ScheduleEvaluationContext, market: MarketDatabase, feed: FxFeed, clock: PipelineClock
) -> dg.RunRequest | dg.SkipReason:
    if under_way(context.instance, LIVE_JOB, PATIENCE):
        return dg.SkipReason("the last minute's run is not over; the next one covers this minute too")
    if pause := pause_after_failures(context.instance, dg.RunsFilter(job_name=LIVE_JOB), datetime.now(UTC)):
        return dg.SkipReason(pause)
    now = clock.now()
    try:
        with market.read("live_schedule") as conn:
            span = live_state.span(live_state.progress(conn, feed.name()), now)
    except UserError as error:
        return dg.SkipReason(f"{error}; nothing is lost, the range grows until it is back")
    return dg.RunRequest(tags=range_tags(span.start, span.end))


def under_way(instance: dg.DagsterInstance, job: str, patience: timedelta) -> bool:
    """Return whether a run of `job`, asked for no longer than `patience` ago, waits or works."""
    young = dg.RunsFilter(job_name=job, statuses=UNFINISHED, created_after=datetime.now(UTC) - patience)
    if instance.get_runs_count(young) == 0:
        return False
    end_orphans(instance, job)
    return instance.get_runs_count(young) > 0


def range_tags(start: datetime, end: datetime) -> dict[str, str]:
    """Return the tags that make a run cover the days of [start, end] in one go."""
    return {RANGE_START: key_of(day_of(start)), RANGE_END: key_of(day_of(end))}


def pause_after_failures(
    instance: dg.DagsterInstance,
    which: dg.RunsFilter,
    now: datetime,
    vain: Sequence[dg.DagsterRunStatus] = (dg.DagsterRunStatus.FAILURE,),
) -> str | None:
    """Return why to wait when the newest of these runs were in `vain` and not long ago; None to go on."""
    records = instance.get_run_records(which, limit=6)
    failed = sum(1 for _ in takewhile(lambda record: record.dagster_run.status in vain, records))
    if not failed:
        return None
    ended = datetime.fromtimestamp(records[0].end_time or records[0].create_timestamp.timestamp(), UTC)
    pause = min(timedelta(minutes=2 ** (failed - 1)), LONGEST_PAUSE)
    if now >= ended + pause:
        return None
    return f"{failed} run(s) in a row were in vain, next try at {ended + pause:%H:%M:%S} UTC; see the newest of them"

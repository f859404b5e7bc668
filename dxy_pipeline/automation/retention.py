"""Keeps Dagster's own records within bounds: a run a minute is over 400 MB and 180,000 event rows a day, kept for ever.

What Dagster's settings can bound they do (`retention` in dagster.yaml: ticks). What they cannot, this daily job does
through Dagster's API where there is one: runs older than two days go, except the newest run of each asset partition,
for with its run a partition's materialization would go and the partition read as missing. Evaluations that belong to no
run have no API and are removed by SQL on Dagster's own tables, the newest of each check kept. A purged tick leaves its
log file behind; those files go here too.

For a year of every-minute operation, measured on dagster-postgres: a live run is 280 KB (128 event rows of 210 KB, 33
rows of checks of 70 KB). There are up to three days of runs just before the job (1.2 GB), the newest run of each day
(100 MB) and two weeks of evaluations (34 checks each ten minutes, an event and a row of checks of 3.7 KB together:
270 MB). Ticks come on top. The stated bound is 2 GB; `make bench` measures it on real services.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Checks
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from pydantic import Field
from sqlalchemy import func, select

from dxy_pipeline import alerts
from dxy_pipeline.assets.outcome import as_failure
from dxy_pipeline.checks.planned_rows import sql_event_log
from dxy_pipeline.resources import MarketDatabase, PipelineClock

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PAGE = 500
INCIDENTS_KEPT = timedelta(days=90)
RUNLESS = ""  # the run id of events that no run wrote
NEWEST = select(func.max(Checks.c.id)).group_by(Checks.c.asset_key, Checks.c.check_name, Checks.c.partition)


class RetentionConfig(dg.Config):
    """How long Dagster's records are kept, and how long the job may take."""

    run_hours: float = Field(default=48, description="Hours after which a finished run may go")
    evaluation_days: float = Field(default=14, description="Days after which an evaluation without a run goes")
    minutes: float = Field(default=20, description="The job stops after this long; the next day's goes on")


@dg.op(
    description="Remove old runs, but the newest of each partition, old evaluations, and logs of ticks that are gone."
)
def prune_records(context: dg.OpExecutionContext, config: RetentionConfig) -> None:
    if min(config.run_hours, config.evaluation_days, config.minutes) <= 0:
        raise dg.Failure("run_hours, evaluation_days and minutes must be above zero", allow_retries=False)
    now = datetime.now(UTC)
    deadline = time.monotonic() + config.minutes * 60
    runs, finished = delete_runs(context.instance, now - timedelta(hours=config.run_hours), deadline)
    evaluations = delete_evaluations(context.instance, now - timedelta(days=config.evaluation_days))
    logs = delete_tick_logs(context.instance)
    context.add_output_metadata({
        "runs removed": runs, "evaluations removed": evaluations, "tick logs removed": logs, "all done": finished,
    })  # fmt: skip


@dg.op(description="Remove incidents that were over three months ago, with their messages.")
def prune_incidents(context: dg.OpExecutionContext, market: MarketDatabase, clock: PipelineClock) -> None:
    with as_failure(), market.connect("retention") as conn:
        removed = alerts.prune(conn, clock.now() - INCIDENTS_KEPT)
    context.add_output_metadata({"incidents removed": removed})


@dg.job(description="Daily: keeps run history, check history, incidents and logs within bounds.")
def retention_job() -> None:
    prune_records()
    prune_incidents()


retention_schedule = dg.ScheduleDefinition(
    name="retention_schedule",
    job=retention_job,
    cron_schedule="17 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


def delete_runs(instance: dg.DagsterInstance, before: datetime, deadline: float) -> tuple[int, bool]:
    """Delete finished runs created before `before`, but the newest of each partition, oldest first.

    Returns how many, and whether it got through before the monotonic `deadline`.
    """
    keep, storage = newest_runs(instance), sql_event_log(instance)
    newest = _newest_evaluations(storage) if storage else ()
    old = instance.get_run_ids(dg.RunsFilter(statuses=FINISHED, created_before=before))
    removed = 0
    for run_id in reversed(old):
        if run_id in keep:
            continue
        if time.monotonic() > deadline:
            return removed, False
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        if storage:
            _delete_evaluations_of(storage, run_id, newest)
        instance.delete_run(run_id)
        removed += 1
    return removed, True


def newest_runs(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs that made the newest materialization of a partition of an asset."""
    storage = sql_event_log(instance)
    if storage is None:
        return set()
    found: set[str] = set()
    for key in instance.all_asset_keys():
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        found |= _runs_of(storage, newest.values())
    return found


def _runs_of(storage: SqlEventLogStorage, event_ids: Iterable[int]) -> set[str]:
    ids, found = sorted(event_ids), set()
    with storage.index_connection() as conn:
        for start in range(0, len(ids), PAGE):
            page = select(Events.c.run_id).where(Events.c.id.in_(ids[start : start + PAGE])).distinct()
            found |= {row[0] for row in conn.execute(page)}
    return found


def _newest_evaluations(storage: SqlEventLogStorage) -> tuple[int, ...]:
    """Return the row of the newest evaluation of each check (and of each of its partitions, as a migration has)."""
    with storage.index_connection() as conn:
        return tuple(row[0] for row in conn.execute(NEWEST))


def _delete_evaluations_of(storage: SqlEventLogStorage, run_id: str, newest: Iterable[int]) -> None:
    """Delete a run's rows in the table of evaluations: Dagster's `delete_run` takes its events and leaves them."""
    with storage.index_connection() as conn:
        conn.execute(Checks.delete().where(Checks.c.run_id == run_id, Checks.c.id.not_in(newest)))


def delete_evaluations(instance: dg.DagsterInstance, before: datetime) -> int:
    """Delete evaluations that belong to no run and are older than `before`, but the newest of each check."""
    storage = sql_event_log(instance)
    if storage is None:
        return 0
    naive = before.astimezone(UTC).replace(tzinfo=None)  # how Dagster stores it
    old = (Checks.c.run_id == RUNLESS, Checks.c.evaluation_event_timestamp < naive)
    with storage.index_connection() as conn:
        rows = conn.execute(Checks.delete().where(*old, Checks.c.id.not_in(NEWEST))).rowcount
        kept = select(Checks.c.evaluation_event_storage_id).where(Checks.c.evaluation_event_storage_id.is_not(None))
        conn.execute(
            Events.delete().where(
                Events.c.run_id == RUNLESS,
                Events.c.dagster_event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
                Events.c.timestamp < naive,
                Events.c.id.not_in(kept),
            )
        )
    return rows


def delete_tick_logs(instance: dg.DagsterInstance) -> int:
    """Delete the logs of ticks that are gone; returns how many. Dagster purges the ticks and leaves their files."""
    manager = instance.compute_log_manager
    if not isinstance(manager, LocalComputeLogManager):
        return 0  # kept elsewhere: object stores have rules of their own for what is old
    removed = 0
    for state in instance.all_instigator_state():
        place = [state.origin.repository_origin.repository_name, state.instigator_name]
        try:
            logged = manager.get_log_keys_for_log_key_prefix(place, ComputeIOType.STDERR)
        except FileNotFoundError:
            continue  # it has never said anything
        # After the files are listed: a tick that begins meanwhile must not lose its log.
        alive = {str(tick.tick_id) for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)}
        for key in logged:
            if key[-1] not in alive:
                manager.delete_logs(log_key=key)
                removed += 1
    return removed

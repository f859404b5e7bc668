"""Retention on the storage that production has: Dagster's records in PostgreSQL, settings from our dagster.yaml."""

import time
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.compute_log_manager import ComputeIOType

from dxy_pipeline.automation.retention import delete_evaluations, delete_runs, delete_tick_logs
from dxy_pipeline_tests.bars import scalar

pytestmark = pytest.mark.timeout(300)

DAILY = dg.DailyPartitionsDefinition(start_date="2024-06-01")


@dg.asset(partitions_def=DAILY)
def bars() -> None:
    """A partitioned asset."""


@dg.asset_check(asset=bars)
def sound() -> dg.AssetCheckResult:
    """An unpartitioned check, as ours are."""
    return dg.AssetCheckResult(passed=True)


DEFS = dg.Definitions(assets=[bars], asset_checks=[sound], executor=dg.in_process_executor)


def run(instance: dg.DagsterInstance, day: str) -> str:
    job = DEFS.get_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, partition_key=day)
    assert result.success
    return result.run_id


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def test_old_runs_go_with_all_their_rows_but_the_newest_of_each_partition(
    instance: dg.DagsterInstance, dagster_db: psycopg.Connection
) -> None:
    old = [run(instance, "2024-06-03"), run(instance, "2024-06-03")]
    kept = [run(instance, "2024-06-03"), run(instance, "2024-06-04")]
    started = instance.create_run_for_job(DEFS.get_implicit_global_asset_job_def(), status=dg.DagsterRunStatus.STARTED)
    assert delete_runs(instance, datetime.now(UTC) - timedelta(hours=48), time.monotonic() + 60) == (0, True)
    assert delete_runs(instance, soon(), time.monotonic() + 60) == (2, True)

    assert set(instance.get_run_ids()) == {*kept, started.run_id}, "a run under way is nobody's to delete"
    assert instance.get_materialized_partitions(dg.AssetKey("bars")) == {"2024-06-03", "2024-06-04"}
    for table in ("event_logs", "asset_check_executions", "run_tags"):
        left = scalar(dagster_db, f"SELECT count(*) FROM {table} WHERE run_id = ANY (%s)", old)
        assert left == 0, f"{table} keeps rows of runs that are gone"
    assert scalar(dagster_db, "SELECT count(*) FROM asset_check_executions WHERE run_id = %s", kept[1]) > 0


def test_a_check_keeps_its_newest_result_though_its_run_goes(
    instance: dg.DagsterInstance, dagster_db: psycopg.Connection
) -> None:
    first = run(instance, "2024-06-03")
    job = DEFS.get_implicit_global_asset_job_def()
    again = job.execute_in_process(
        instance=instance, partition_key="2024-06-03", asset_selection=[dg.AssetKey("bars")],
    )  # fmt: skip
    assert again.success
    dagster_db.execute("DELETE FROM asset_check_executions WHERE run_id = %s", (again.run_id,))
    assert delete_runs(instance, soon(), time.monotonic() + 60) == (1, True)
    assert scalar(dagster_db, "SELECT run_id FROM asset_check_executions") == first


def test_a_deadline_stops_it_and_the_next_day_goes_on(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        run(instance, "2024-06-03")
    assert delete_runs(instance, soon(), time.monotonic() - 1) == (0, False)
    assert delete_runs(instance, soon(), time.monotonic() + 60) == (2, True)


# --- many days ------------------------------------------------------------------------------------------------------

RUNS_A_DAY, LONG = 4, timedelta(days=40)
ORIGIN = RemoteInstigatorOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__"), "a_sensor"
)
GROWING = ("runs", "run_tags", "event_logs", "asset_check_executions", "job_ticks")


def aged(instance: dg.DagsterInstance, at: datetime, event: dg.DagsterEvent, run_id: str, job: str) -> None:
    """Store an event as of `at`, by the call that Dagster stores its own with."""
    instance.handle_new_event(
        EventLogEntry(
            error_info=None,
            level="info",
            user_message="",
            run_id=run_id,
            timestamp=at.timestamp(),
            job_name=job,
            dagster_event=event,
        )
    )


def aged_run(instance: dg.DagsterInstance, at: datetime, number: int) -> None:
    """A finished run as of `at` that materialized its day."""
    run_id, job = f"{at:%Y%m%d}-{number}", "live_minute"
    made = dg.AssetMaterialization("bars", partition=f"{at:%Y-%m-%d}", metadata={"said": "x" * 500})
    instance.run_storage.add_historical_run(
        dg.DagsterRun(job_name=job, run_id=run_id, status=dg.DagsterRunStatus.SUCCESS, tags={"dxy/automatic": "true"}),
        at.replace(tzinfo=None),
    )
    event = dg.DagsterEvent(
        dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job,
        event_specific_data=StepMaterializationData(made, []),
        step_key="bars",
    )
    aged(instance, at, event, run_id, job)


def aged_evaluation(instance: dg.DagsterInstance, at: datetime) -> None:
    """What the monitoring sensor reports, as of `at`."""
    said = dg.AssetCheckEvaluation(asset_key=dg.AssetKey("bars"), check_name="sound", passed=True)
    event = dg.DagsterEvent(dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, "", event_specific_data=said)
    aged(instance, at, event, "", "")


def aged_tick(instance: dg.DagsterInstance, at: datetime, status: TickStatus) -> str:
    """A tick as of `at`, with the log that it wrote; returns its id."""
    tick = instance.create_tick(
        TickData(
            ORIGIN.get_id(), ORIGIN.instigator_name, InstigatorType.SENSOR, status, at.timestamp(),
            run_ids=[], run_keys=[], selector_id=ORIGIN.get_selector().get_id(),
        )
    )  # fmt: skip
    key = ["__repository__", ORIGIN.instigator_name, str(tick.tick_id)]
    with instance.compute_log_manager.open_log_stream(key, ComputeIOType.STDERR) as log:
        assert log is not None
        log.write("looked")
    return str(tick.tick_id)


def purge_ticks(instance: dg.DagsterInstance, now: datetime) -> None:
    """What the daemon does behind each tick, by our dagster.yaml."""
    for status, days_kept in instance.get_tick_retention_settings(InstigatorType.SENSOR).items():
        if days_kept > 0:
            before = (now - timedelta(days=days_kept)).timestamp()
            instance.purge_ticks(ORIGIN.get_id(), ORIGIN.get_selector().get_id(), before, [status])


def size(conn: psycopg.Connection) -> int:
    """The bytes of the tables that grow, as after a quiet hour."""
    conn.execute(f"VACUUM {', '.join(GROWING)}")
    return int(
        scalar(conn, "SELECT sum(pg_total_relation_size(t::regclass)) FROM unnest(%s::text[]) AS t", list(GROWING))
    )


def test_forty_days_come_to_rest_within_bounds(instance: dg.DagsterInstance, dagster_db: psycopg.Connection) -> None:
    """After each day the daily job; in the end there is what is to be kept, and the tables stopped growing."""
    instance.add_instigator_state(
        InstigatorState(ORIGIN, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    )
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - LONG
    sizes: list[int] = []
    for day in range(LONG.days):
        morning = start + timedelta(days=day)
        for number in range(RUNS_A_DAY):
            at = morning + number * timedelta(hours=6)
            aged_run(instance, at, number)
            aged_evaluation(instance, at)
            aged_tick(instance, at, TickStatus.SKIPPED)
            aged_tick(instance, at, TickStatus.SUCCESS)
        now = morning + timedelta(days=1)
        purge_ticks(instance, now)
        assert delete_runs(instance, now - timedelta(hours=48), time.monotonic() + 60)[1]
        delete_evaluations(instance, now - timedelta(days=30))
        delete_tick_logs(instance)
        if day >= LONG.days - 8:
            sizes.append(size(dagster_db))

    days_gone = LONG.days - 2
    assert scalar(dagster_db, "SELECT count(*) FROM runs") == 2 * RUNS_A_DAY + days_gone, "the newest of each day"
    assert len(instance.get_materialized_partitions(dg.AssetKey("bars"))) == LONG.days
    events = "SELECT count(*) FROM event_logs WHERE run_id <> ''"
    assert scalar(dagster_db, events) == 2 * RUNS_A_DAY + days_gone
    assert scalar(dagster_db, "SELECT count(*) FROM asset_check_executions") == 30 * RUNS_A_DAY
    assert scalar(dagster_db, "SELECT count(*) FROM event_logs WHERE run_id = ''") == 30 * RUNS_A_DAY
    ticks = "SELECT count(*) FROM job_ticks WHERE status = %s"
    assert scalar(dagster_db, ticks, "SKIPPED") == RUNS_A_DAY
    assert scalar(dagster_db, ticks, "SUCCESS") == 7 * RUNS_A_DAY
    manager = instance.compute_log_manager
    logs = manager.get_log_keys_for_log_key_prefix(["__repository__", ORIGIN.instigator_name], ComputeIOType.STDERR)
    assert len(logs) == 8 * RUNS_A_DAY
    assert sizes[-1] <= 1.05 * sizes[0], "after the thirty days of evaluations nothing grows but a run a day"

"""Retention on the storage that production has: Dagster's records in PostgreSQL, settings from our dagster.yaml."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._core.test_utils import instance_for_test

from dxy_pipeline.automation.retention import delete_runs
from dxy_pipeline.dagster_storage import psycopg2_url
from dxy_pipeline_tests.bars import scalar
from dxy_pipeline_tests.pg_server import Cluster

pytestmark = pytest.mark.timeout(300)

SETTINGS = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text())
DAILY = dg.DailyPartitionsDefinition(start_date="2024-06-01")


@dg.asset(partitions_def=DAILY)
def bars() -> None:
    """A partitioned asset."""


@dg.asset_check(asset=bars)
def sound() -> dg.AssetCheckResult:
    """An unpartitioned check, as ours are."""
    return dg.AssetCheckResult(passed=True)


DEFS = dg.Definitions(assets=[bars], asset_checks=[sound], executor=dg.in_process_executor)


@pytest.fixture
def storage(server: Cluster, new_database: Callable[..., str]) -> str:
    return new_database(server, head=False)


@pytest.fixture
def instance(storage: str, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    overrides: dict[str, Any] = {
        "storage": {"postgres": {"postgres_url": psycopg2_url(storage)}},
        "retention": SETTINGS["retention"],
    }
    with instance_for_test(overrides=overrides, temp_dir=str(tmp_path)) as found:
        yield found


@pytest.fixture
def dagster_db(instance: dg.DagsterInstance, storage: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(storage, autocommit=True) as conn:
        yield conn


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

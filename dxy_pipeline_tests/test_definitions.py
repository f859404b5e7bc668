"""The code location as Dagster loads it: names, checks, schedules, and that loading does nothing else."""

import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from dxy_pipeline.assets import KEYS
from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.definitions import build_defs, defs
from dxy_pipeline.partitions import DAILY

NAMES = {"fx_1m", "dxy_1m", "dxy_5m", "dxy_1h"}


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return defs.get_repository_def().asset_graph


def test_the_four_assets_are_daily_and_back_filled_in_one_run(graph: AssetGraph) -> None:
    assert {key.to_user_string() for key in KEYS} == NAMES
    for key in KEYS:
        node = graph.get(key)
        assert node.partitions_def == DAILY
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        assert node.group_name == "dxy"
        assert node.owners == ["team:market-data"]
        assert "dagster/kind/postgres" in node.tags
        assert node.description
        assert {"dagster/table_name", "dagster/column_schema", "dagster/code_references"} <= set(node.metadata)


def test_dependencies(graph: AssetGraph) -> None:
    """Both roll-ups are made from the minutes, never the hour from five minutes."""
    parents = {key.to_user_string(): {p.to_user_string() for p in graph.get(key).parent_keys} for key in KEYS}
    assert parents == {"fx_1m": set(), "dxy_1m": {"fx_1m"}, "dxy_5m": {"dxy_1m"}, "dxy_1h": {"dxy_1m"}}


def test_every_configured_check_is_defined_on_its_asset(graph: AssetGraph) -> None:
    defined = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}
    defined = {(asset, name) for asset, name in defined if not asset.startswith("migration/")}
    assert defined == {(config.asset, config.name) for config in CHECKS}
    assert {asset for asset, _ in defined} >= NAMES
    assert all(graph.get_check_spec(key).description for key in graph.asset_check_keys)


def test_the_migration_is_there_and_nothing_starts_it() -> None:
    """A migration is somebody's decision: an asset and a job to launch by hand, no schedule, no sensor."""
    repository = defs.get_repository_def()
    assert repository.asset_graph.get(dg.AssetKey(["migration", "dxy_1m"])).group_name == "migration"
    by_itself = {s.job_name for s in repository.schedule_defs} | {
        t for s in repository.sensor_defs for t in _targets(s)
    }
    assert {job.name for job in repository.get_all_jobs()} >= {"migrate_dxy_1m", "migration_transition"}
    assert not {name for name in by_itself if "migrat" in name}


def _targets(sensor: dg.SensorDefinition) -> list[str]:
    return [target.job_name for target in sensor.targets]


def test_jobs_schedules_and_sensors() -> None:
    repository = defs.get_repository_def()
    assert {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")} >= {
        "materialize_range", "live_minute", "late_data", "check_stored_bars", "retention_job",
    }  # fmt: skip
    crons = {schedule.name: schedule.cron_schedule for schedule in repository.schedule_defs}
    assert crons["live_schedule"] == "* * * * *"
    assert all(s.execution_timezone == "UTC" for s in repository.schedule_defs)
    assert all(s.default_status == dg.DefaultScheduleStatus.RUNNING for s in repository.schedule_defs)
    intervals = {sensor.name: sensor.minimum_interval_seconds for sensor in repository.sensor_defs}
    assert intervals["monitoring_sensor"] == 60
    assert intervals["late_data_sensor"] == 5
    assert all(s.default_status == dg.DefaultSensorStatus.RUNNING for s in repository.sensor_defs)


def test_every_job_runs_in_one_process() -> None:
    """Backfills from the UI use the default executor: it must not be the one that starts a process for each step."""
    for job in defs.get_repository_def().get_all_jobs():
        assert job.executor_def.name == "in_process", job.name


def test_late_data_leaves_the_source_alone() -> None:
    job = defs.resolve_job_def("late_data")
    assert {key.to_user_string() for key in job.asset_layer.selected_asset_keys} == NAMES - {"fx_1m"}


def test_today_is_a_partition_and_the_first_fix_the_first() -> None:
    assert DAILY.get_first_partition_key() == "1999-01-04"
    with dg.partition_loading_context(effective_dt=datetime(2026, 11, 23, 0, 0, 30, tzinfo=UTC)):
        assert DAILY.get_last_partition_key() == "2026-11-23"


def test_overrides_replace_resources() -> None:
    assert build_defs(market="another").resources["market"] == "another"
    assert set(build_defs().resources) == {"market", "feed", "clock"}


def test_loading_connects_to_nothing_and_asks_for_no_secret() -> None:
    """In a fresh interpreter with an unreachable database, no key, and sockets that fail when used."""
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket was used at import')\n"
        "socket.socket.connect = refuse\n"
        "import psycopg; psycopg.Connection.connect = psycopg.connect = refuse\n"
        "from dxy_pipeline.definitions import defs\n"
        "print(len(defs.get_repository_def().asset_graph.executable_asset_keys))"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "DATABASE_URL": "postgresql://nobody@192.0.2.1/none",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:dxy_pipeline", "-c", program],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len(NAMES)
    assert "Warning" not in done.stderr

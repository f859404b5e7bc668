"""The same engine from Dagster: the partitioned asset, green and red, and the transition job's form."""

import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import PoolGranularity

from dxy_pipeline.migration import job, steps
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline.resources import MarketDatabase, PipelineClock, default_resources
from dxy_pipeline_tests.migration.support import NOW, Stage, Staged

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc = '2024-06-10 01:00+00'"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


def definitions(url: str) -> dg.Definitions:
    overrides = {"market": MarketDatabase(url_override=url), "clock": PipelineClock(pinned=NOW.isoformat())}
    return dg.Definitions(
        assets=job.migration_assets,
        asset_checks=job.migration_checks,
        jobs=job.migration_jobs,
        resources={**default_resources(), **overrides},
        executor=dg.in_process_executor,
    )


def take(db: Staged, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    run_config = {"ops": {"take_step": {"config": config}}}
    found = definitions(db.url).resolve_job_def("migration_transition")
    return found.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)


def state(db: Staged) -> str:
    return str(db.migration.status()["state"])


def message(result: dg.ExecuteInProcessResult) -> str:
    return str(result.get_step_failure_events()[0].event_specific_data.error_display_string)


def evaluation(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(job.KEY, job.CHECK)
    (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert record.event is not None
    found = record.event.get_dagster_event().event_specific_data
    assert isinstance(found, dg.AssetCheckEvaluation)
    return found


def test_a_step_needs_a_reason_and_is_dry_by_default(stage: Stage, instance: dg.DagsterInstance) -> None:
    with stage.at("P", "prepared") as db:
        for reason in ("", "  "):
            refused = take(db, instance, phase="dual-write", reason=reason)
            assert not refused.success
            assert "reason is empty" in message(refused)
        assert take(db, instance, phase="dual-write", reason="try", readers_moved=True).success
        assert state(db) == "prepared"
        assert take(db, instance, phase="dual-write", reason="go", readers_moved=True, dry_run=False).success
        assert state(db) == "dual_write"
        audit = [(r["actor"], r["reason"]) for r in db.migration.audit() if r["action"] == "dual-write"]
        assert audit == [("dagster", "go")]


def test_the_phases_are_a_closed_set_and_every_field_is_described() -> None:
    schema = job.Transition.model_json_schema()["properties"]
    assert set(schema["phase"]["enum"]) >= {"plan", "prepare", "cutover", "retire", "rollback"}
    assert all(field.get("description") for field in schema.values())
    assert schema["dry_run"]["default"] is True
    with pytest.raises(Exception, match="phase"):
        job.Transition(phase="explode", reason="x")


def test_the_plan_is_a_table_and_lists_the_partitions(stage: Stage, instance: dg.DagsterInstance) -> None:
    with stage.at("P", "prepared") as db:
        result = take(db, instance, phase="plan", reason="look")
        assert result.success
        (event,) = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
        metadata = event.asset_observation_data.asset_observation.metadata["plan"]
        assert isinstance(metadata, dg.TableMetadataValue)
        assert {str(r.data["what"]) for r in metadata.records} >= {"shape", "rows", "ddl", "disk"}
        days = instance.get_dynamic_partitions("migration_days")
        assert sorted(days) == ["2024-06-09", "2024-06-10", "2024-06-11", "2024-06-12"]


def test_a_partition_is_copied_and_reported_by_itself(stage: Stage, instance: dg.DagsterInstance) -> None:
    with stage.at("P", "dual_write") as db, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        instance.add_dynamic_partitions("migration_days", ["2024-06-10", "2024-06-11"])
        found = definitions(db.url).resolve_job_def("migrate_dxy_1m")
        result = found.execute_in_process(instance=instance, partition_key="2024-06-10", raise_on_error=False)
        assert result.success
        check = evaluation(instance)
        assert check.passed
        assert check.partition == "2024-06-10"
        assert [u["state"] for u in db.migration.units()] == ["pending", "done", "pending", "pending"]


def test_a_day_that_differs_is_red(stage: Stage, instance: dg.DagsterInstance) -> None:
    with stage.at("P", "backfilled") as db, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with db.conn.transaction():
            db.conn.execute("SET LOCAL dxy.mirror = 'on'")
            db.conn.execute(f"UPDATE public.data_bars SET close = 1 WHERE {KEY}")
        instance.add_dynamic_partitions("migration_days", ["2024-06-10"])
        found = definitions(db.url).resolve_job_def("migrate_dxy_1m")
        result = found.execute_in_process(instance=instance, partition_key="2024-06-10", raise_on_error=False)
        assert not result.success
        assert "1 of 1 days are not equal: 2024-06-10" in message(result)
        assert not evaluation(instance).passed


def test_the_asset_is_back_filled_in_runs_of_thirty_days() -> None:
    asset = job.migrated_dxy_1m
    assert asset.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=30)
    assert isinstance(asset.partitions_def, dg.DynamicPartitionsDefinition)
    assert issubclass(Migration, object)


def test_every_phase_has_a_dry_run(stage: Stage, instance: dg.DagsterInstance) -> None:
    with stage.at("P", "cut_over") as db:
        before = db.migration.audit()
        for phase in job.Transition.model_json_schema()["properties"]["phase"]["enum"]:
            assert take(db, instance, phase=phase, reason="look").success, phase
        assert (db.migration.audit(), state(db)) == (before, "cut_over")


def test_the_health_window_is_set_in_the_form(stage: Stage, instance: dg.DagsterInstance) -> None:
    with stage.at("P", "legacy") as db:
        go = {"phase": "prepare", "reason": "go", "dry_run": False, "accept_native": True}
        real = job.Migration
        with pytest.MonkeyPatch.context() as patch:
            scratch = {"scratch_url": stage.scratch, "files": stage.files}
            patch.setattr(job, "Migration", lambda url, **more: real(url, **more, **scratch))
            assert take(db, instance, **go, health_minutes=30).success
        row = db.conn.execute("SELECT options -> 'health_minutes' FROM dxy.migration_control").fetchone()
        assert row == (30,)


def test_days_that_the_command_line_prepared_become_partitions(stage: Stage, instance: dg.DagsterInstance) -> None:
    with stage.at("P", "dual_write") as db:
        assert take(db, instance, phase="verify", reason="look").success
        assert len(instance.get_dynamic_partitions("migration_days")) == 4
    with stage.at("P", "legacy") as db:
        db.conn.execute("DROP SCHEMA dxy CASCADE")
        assert take(db, instance, phase="plan", reason="look").success, "a database without a ledger can be planned"


def test_the_migration_goes_by_the_direct_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """DDL and the backup want a session of their own; behind DATABASE_URL may stand a transaction pooler."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@pooler:6543/desk")
    assert MarketDatabase().direct_url() == "postgresql://u@pooler:6543/desk"
    monkeypatch.setenv("DIRECT_URL", "postgresql://u@server:5432/desk")
    assert MarketDatabase().direct_url() == "postgresql://u@server:5432/desk"
    assert MarketDatabase(url_override="postgresql://x/y").direct_url() == "postgresql://x/y"
    context = dg.build_op_context()
    assert job._migration(MarketDatabase(), PipelineClock(), context).url == "postgresql://u@server:5432/desk"


def test_two_runs_of_one_backfill_are_both_green(stage: Stage, instance: dg.DagsterInstance) -> None:
    """Thirty days a run and four runs at once: where no pool holds the second back it waits for the first."""
    keys = ["2024-06-10", "2024-06-11"]
    done: dict[str, bool] = {}
    inside = threading.Event()

    def slow(step: str, _: Any) -> None:
        if step == "backfill.committed" and not inside.is_set():
            inside.set()
            time.sleep(5)  # longer than a command on the line would wait

    def run(key: str) -> None:
        found = definitions(db.url).resolve_job_def("migrate_dxy_1m")
        done[key] = found.execute_in_process(instance=instance, partition_key=key, raise_on_error=False).success

    with stage.at("P", "dual_write") as db, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        instance.add_dynamic_partitions("migration_days", keys)
        steps.install(slow)
        threads = [threading.Thread(target=run, args=(key,)) for key in keys]
        threads[0].start()
        inside.wait(60)
        threads[1].start()
        for thread in threads:
            thread.join()
        assert done == dict.fromkeys(keys, True)


@pytest.mark.parametrize("file", ["dagster.yaml", "deploy/celery/dagster.yaml"])
def test_a_run_that_waits_for_the_pool_takes_no_place_in_the_queue(file: str) -> None:
    config = yaml.safe_load((Path(__file__).parents[2] / file).read_text())
    assert config["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}
    assert config["concurrency"]["runs"] == {"max_concurrent_runs": 4}  # in run_queue Dagster refuses it beside pools
    assert job.migrated_dxy_1m.op.pool == job.POOL
    with dg.instance_for_test(overrides={"concurrency": config["concurrency"]}) as configured:
        info = configured.get_concurrency_config()
        assert (info.pool_config.pool_granularity, info.pool_config.default_pool_limit) == (PoolGranularity.RUN, 1)

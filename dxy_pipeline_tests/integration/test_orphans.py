"""Runs whose process is gone are ended at once; those that work, ended by themselves or run elsewhere are left alone.

The workers here are real processes, the instance is Dagster's own with its default launcher.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG

from dxy_pipeline.automation.jobs import LATE_JOB, LIVE_JOB
from dxy_pipeline.automation.live import under_way
from dxy_pipeline.automation.orphans import end_orphans

PATIENCE = timedelta(minutes=5)
Started = dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance(tmp_path: Path) -> Generator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


@pytest.fixture
def code_server(tmp_path: Path) -> Generator[str]:
    """What a code server leaves on its machine, killed or not: its socket."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path := str(tmp_path / "code"))
        yield path


@contextmanager
def worker() -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def killed() -> int:
    with worker() as process:
        return process.pid


def launch(instance: dg.DagsterInstance, code_server: str, pid: int | None, job: str = LIVE_JOB) -> str:
    """Record a run as the default launcher and the run's worker do."""
    run = dg.DagsterRun(
        job_name=job,
        run_id=dg.DagsterRun(job_name=job).run_id,
        status=Started,
        tags={GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": code_server})},
    )
    instance.add_run(run)
    if pid is not None:
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_killed_run_is_ended_and_holds_no_tick_up(instance: dg.DagsterInstance, code_server: str) -> None:
    with worker() as process:
        run_id = launch(instance, code_server, process.pid)
        assert under_way(instance, LIVE_JOB, PATIENCE)
    assert not under_way(instance, LIVE_JOB, PATIENCE)
    assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE
    said = [record.event_log_entry.message for record in instance.get_records_for_run(run_id).records]
    assert any(f"process {process.pid} is gone" in line for line in said)


def test_a_run_that_works_is_left_alone(instance: dg.DagsterInstance, code_server: str) -> None:
    with worker() as process:
        run_id = launch(instance, code_server, process.pid)
        assert end_orphans(instance) == []
        assert status(instance, run_id) is Started


def test_a_dead_process_that_nobody_collected_is_gone(instance: dg.DagsterInstance, code_server: str) -> None:
    with worker() as process:
        run_id = launch(instance, code_server, process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert end_orphans(instance) == [run_id]


def test_another_process_with_the_same_number_is_not_the_worker(instance: dg.DagsterInstance, code_server: str) -> None:
    with worker() as process:
        run_id = launch(instance, code_server, process.pid)
        with instance.event_log_storage.run_connection(run_id) as conn:  # it said so an hour before this one started
            conn.exec_driver_sql(
                "UPDATE event_logs SET event = json_set(event, '$.timestamp', json_extract(event, '$.timestamp') - 3600)"
            )
        assert end_orphans(instance) == [run_id]


def test_what_ended_by_itself_keeps_its_end(instance: dg.DagsterInstance, code_server: str) -> None:
    run_id = launch(instance, code_server, killed())
    instance.report_run_canceled(instance.get_run_by_id(run_id))
    assert end_orphans(instance) == []
    assert status(instance, run_id) is dg.DagsterRunStatus.CANCELED


def test_a_run_of_another_machine_is_not_judged(instance: dg.DagsterInstance, code_server: str) -> None:
    run_id = launch(instance, f"{code_server} elsewhere", killed())
    assert end_orphans(instance) == []
    assert status(instance, run_id) is Started


def test_before_a_worker_said_its_number_nothing_is_judged(instance: dg.DagsterInstance, code_server: str) -> None:
    launch(instance, code_server, None)
    assert end_orphans(instance) == []


def test_a_tick_ends_only_the_runs_it_waits_for(instance: dg.DagsterInstance, code_server: str) -> None:
    live, late = (launch(instance, code_server, killed(), job) for job in (LIVE_JOB, LATE_JOB))
    assert not under_way(instance, LIVE_JOB, PATIENCE)
    assert (status(instance, live), status(instance, late)) == (dg.DagsterRunStatus.FAILURE, Started)
    assert end_orphans(instance) == [late], "the monitoring ends those of every job"

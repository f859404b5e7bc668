"""Runs whose process is gone, found and ended: a daemon killed with its runs, an end that a full disk did not take.

Dagster's default launcher cannot tell whether a run still works, so such a run reads "started" for ever, or until its
job's longest runtime; the minute schedule would wait five minutes for it, the late data half an hour, a range by hand
until a person looks. Its worker has said its process id, though, and that of a process that started later is another's.
Only where the run was launched on this machine: its code server's socket lies here. Elsewhere (Celery, Kubernetes, code
servers by address) nothing is judged; those launchers look after their workers.
"""

import json
from pathlib import Path

import dagster as dg
import psutil
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG

CLOCK_SLACK_S = 2.0  # start times of processes are counted from a boot time in whole seconds
WORKING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def end_orphans(instance: dg.DagsterInstance, job: str | None = None) -> list[str]:
    """Fail the runs (of `job`) that seem to work and whose process on this machine is gone; returns their ids."""
    if not isinstance(instance.run_launcher, DefaultRunLauncher):
        return []
    ended = []
    for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=WORKING)):
        worker = _worker(instance, run.run_id) if _launched_here(run) else None
        if worker is None or _alive(*worker):
            continue
        now = instance.get_run_by_id(run.run_id)  # it may have ended by itself before its process did
        if now is not None and not now.is_finished:
            instance.report_run_failed(now, f"Its process {worker[0]} is gone without having said how the run ended.")
            ended.append(run.run_id)
    return ended


def _launched_here(run: dg.DagsterRun) -> bool:
    socket = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
    return socket is not None and Path(socket).exists()


def _worker(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Return the process id that the run's worker said first, and when; None before it said one."""
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records:
        entry = record.event_log_entry
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def _alive(pid: int, said_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and (process.create_time() <= said_at + CLOCK_SLACK_S)
    except psutil.NoSuchProcess:
        return False

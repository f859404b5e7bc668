"""Rows that say "this check is going to be evaluated" and never hear more: found and removed.

Dagster 1.13.27 names every check of the selected assets in a single-run backfill (and refuses to start the run when the
plan lacks one), then plans each check once for every partition of the range, partitioned or not. An evaluation of an
unpartitioned check has no partition and settles none of them, so the UI reads "In progress" for ever. Tried without
success: checks without a computation (refused by AssetsDefinition), checks that drop out of the plan (the backfill
fails after three attempts), a second code location (the same), partitioned checks (a range gives their evaluation no
partition either, and an evaluation for each day and check costs 10 s a year). Taking the surplus rows out costs 15 ms
for 4,380 of them.
"""

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Rows
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import select

_PLANNED = AssetCheckExecutionRecordStatus.PLANNED.value


def release_for_run(instance: dg.DagsterInstance, run_id: str) -> int:
    """Remove the rows that plan an unpartitioned check for single partitions of this run; returns how many."""
    storage = sql_event_log(instance)
    if storage is None:
        return 0
    surplus = Rows.delete().where(
        Rows.c.run_id == run_id, Rows.c.execution_status == _PLANNED, Rows.c.partition.is_not(None)
    )
    with storage.index_connection() as conn:
        return conn.execute(surplus).rowcount


def release_for_ended_runs(instance: dg.DagsterInstance) -> int:
    """Remove planned rows of runs that ended (failed, cancelled, killed) before their checks; returns how many."""
    storage = sql_event_log(instance)
    if storage is None:
        return 0
    with storage.index_connection() as conn:
        runs = select(Rows.c.run_id).where(Rows.c.execution_status == _PLANNED).distinct()
        planned = [row[0] for row in conn.execute(runs)]
    removed = 0
    for run_id in filter(None, planned):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            with storage.index_connection() as conn:
                removed += conn.execute(
                    Rows.delete().where(Rows.c.run_id == run_id, Rows.c.execution_status == _PLANNED)
                ).rowcount
    return removed


def sql_event_log(instance: dg.DagsterInstance) -> SqlEventLogStorage | None:
    """The event log, when it is kept in SQL (it is, but for Dagster's hosted product)."""
    storage = instance.event_log_storage
    inner = getattr(storage, "event_log_storage", storage)  # a combined storage hands on to its parts
    return inner if isinstance(inner, SqlEventLogStorage) else None

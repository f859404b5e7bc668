"""The code location: assets, checks, jobs, schedules, sensors and resources, put together. No I/O at import."""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from dxy_pipeline import assets
from dxy_pipeline.automation import jobs
from dxy_pipeline.automation.late_data import late_data_sensor
from dxy_pipeline.automation.live import live_schedule
from dxy_pipeline.automation.monitoring import (
    alert_delivery_sensor,
    check_stored_bars,
    history_checks_schedule,
    monitoring_sensor,
)
from dxy_pipeline.automation.retention import retention_job, retention_schedule
from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.checks.dagster_checks import build_checks
from dxy_pipeline.migration.job import migration_assets, migration_checks, migration_jobs
from dxy_pipeline.resources import default_resources

# A year's backfill is 1,460 materializations: one insert each is 22 ms on Dagster's storage, in batches 1 ms. A batch is
# held in memory: of 250 it is no more for four years than for one, of 1,000 it is 25 MB more and not faster.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "250")


def build_defs(**overrides: Any) -> dg.Definitions:
    """Return the definitions; `overrides` replace resources by name: `market`, `feed`, `clock`."""
    resources: Mapping[str, Any] = {**default_resources(), **overrides}
    return dg.Definitions(
        assets=dg.with_source_code_references([*assets.ALL, *migration_assets]),
        asset_checks=[build_checks(CHECKS), *migration_checks],
        jobs=[*jobs.ALL, check_stored_bars, retention_job, *migration_jobs],
        schedules=[live_schedule, history_checks_schedule, retention_schedule],
        sensors=[late_data_sensor, monitoring_sensor, alert_delivery_sensor],
        resources=resources,
        # Backfills from the UI use this one: with the default, a process a step, they took 38 s instead of 1.3 s.
        executor=dg.in_process_executor,
    )


defs = build_defs()

"""The jobs: a range by hand, the live minute, late data, the checks.

Belongs here: which assets a job selects and how long a run may take. When it runs: `live`, `late_data`.
Checks end the minute's run: Dagster shows an evaluation as current only if it belongs to the run of the newest
materialization or is younger, so with a materialization each minute and the sensor's heartbeat every ten, checks would
read "not evaluated" nine minutes of ten. The sensor goes on without that run.
"""

import dagster as dg

from dxy_pipeline.assets import DERIVED_KEYS, KEYS
from dxy_pipeline.assets.outcome import AUTOMATIC_TAG

LIVE_JOB, LATE_JOB = "live_minute", "late_data"

_MAX_RUNTIME = "dagster/max_runtime"

materialize_range = dg.define_asset_job(
    "materialize_range",
    selection=dg.AssetSelection.assets(*KEYS).without_checks(),
    description="All four assets for a day or a range of days: fetch FX, derive DXY 1m, roll up to 5m and 1h.",
)
live_minute = dg.define_asset_job(
    LIVE_JOB,
    selection=dg.AssetSelection.assets(*KEYS),
    # The first run after a month's outage takes minutes; a hung one would hold up every next minute.
    tags={AUTOMATIC_TAG: "true", _MAX_RUNTIME: "900", "dagster/priority": "10"},
    description="What the minute schedule runs: all four assets from the last fetch up to now, in one process.",
)
late_data = dg.define_asset_job(
    LATE_JOB,
    selection=dg.AssetSelection.assets(*DERIVED_KEYS).without_checks(),
    tags={AUTOMATIC_TAG: "true", _MAX_RUNTIME: "3600"},
    description="Derives again the days whose FX minutes were changed, added or deleted after the fact.",
)

ALL = (materialize_range, live_minute, late_data)

"""The definitions run through Dagster on a test's database: a clock that is pinned, runs in this process.

Used by the tests of assets, live runs and retention. Nothing is asserted here.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import dagster as dg
import psycopg

from dxy_pipeline.assets.outcome import AUTOMATIC_TAG
from dxy_pipeline.automation.live import live_schedule, range_tags
from dxy_pipeline.definitions import build_defs
from dxy_pipeline.partitions import day_start, key_of
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock


@dataclass
class Pipeline:
    """The definitions on a test's database, with a pinned clock and an instance of their own."""

    instance: dg.DagsterInstance
    market: MarketDatabase
    feed: FxFeed
    clock: PipelineClock

    @property
    def resources(self) -> dict[str, Any]:
        return {"market": self.market, "feed": self.feed, "clock": self.clock}

    def at(self, now: datetime) -> "Pipeline":
        return replace(self, clock=PipelineClock(pinned=now.isoformat()))

    def fed_by(self, kind: Any) -> "Pipeline":
        return replace(self, feed=FxFeed(kind=kind))

    def run(
        self, job: str, first: date | None = None, last: date | None = None, tags: dict[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Run a job over a range of days, without raising what it raises."""
        wanted = {} if first is None else range_tags(day_start(first), day_start(last or first))
        return (
            build_defs(**self.resources)
            .resolve_job_def(job)
            .execute_in_process(instance=self.instance, tags={**wanted, **(tags or {})}, raise_on_error=False)
        )

    def day(self, asset: str, day: date) -> dg.ExecuteInProcessResult:
        """Make one partition of one asset, as a person does."""
        job = build_defs(**self.resources).get_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(asset)],
            partition_key=key_of(day),
            raise_on_error=False,
        )

    def live(self) -> dg.ExecuteInProcessResult:
        """Do what the daemon does each minute."""
        request = self.schedule()
        assert isinstance(request, dg.RunRequest), request
        return self.run("live_minute", tags={**request.tags, AUTOMATIC_TAG: "true"})

    def schedule(self) -> Any:
        return live_schedule(dg.build_schedule_context(instance=self.instance, resources=self.resources))

    def sensor(self, sensor: dg.SensorDefinition, cursor: str | None = None) -> Any:
        return sensor(
            dg.build_sensor_context(
                instance=self.instance, resources={n: r for n, r in self.resources.items() if n in takes(sensor)},
                cursor=cursor,
            )
        )  # fmt: skip


def takes(sensor: dg.SensorDefinition) -> set[str]:
    return set(sensor.required_resource_keys)


def counted(conn: psycopg.Connection, table: str, timeframe: str, symbol: str = "DXY") -> dict[date, int]:
    query = {
        "data_bars": "SELECT (ts_utc AT TIME ZONE 'UTC')::date, count(*) FROM public.data_bars"
        " WHERE timeframe = %s AND canonical_symbol = %s GROUP BY 1",
        "derived_data_bars": "SELECT (ts_utc AT TIME ZONE 'UTC')::date, count(*) FROM public.derived_data_bars"
        " WHERE timeframe = %s AND canonical_symbol = %s AND deleted_at IS NULL GROUP BY 1",
    }[table]
    return dict(conn.execute(query, (timeframe, symbol)).fetchall())


def materializations(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dg.AssetMaterialization]:
    events = result.asset_materializations_for_node(asset)
    return {str(event.partition): event for event in events}


def said(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The metadata of an asset's newest day."""
    events = materializations(result, asset)
    return {name: entry.value for name, entry in events[max(events)].metadata.items()}


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """The description of the `Failure` that ended a run."""
    data = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    assert data.user_failure_data is not None, data.error
    return str(data.user_failure_data.description)

"""The definitions run through Dagster on a test's database: a clock that is pinned, runs in this process or in a child.

Used by the tests of assets, live runs and retention. Nothing is asserted here about what a run did.
`python -m dxy_pipeline_tests.pipeline` is the child: it says when it is ready, waits for a line, runs, says how it ended.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Self

import dagster as dg
import psycopg

from dxy_pipeline import bar_store
from dxy_pipeline.assets.outcome import AUTOMATIC_TAG
from dxy_pipeline.automation.late_data import late_data_sensor
from dxy_pipeline.automation.live import live_schedule, range_tags
from dxy_pipeline.definitions import build_defs
from dxy_pipeline.partitions import day_start, key_of
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock
from dxy_pipeline_tests.conftest import NOW

AUTOMATIC = {AUTOMATIC_TAG: "true"}


@dataclass
class Child:
    """A run of a job in a process of its own, booted and waiting for `go`."""

    process: subprocess.Popen[str]

    def go(self) -> None:
        """Start the run."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self.process.kill()
        self.process.wait()

    def ended(self) -> dict[str, Any]:
        """Wait for the end: {"success": …, "errors": …}; raises for a process that died."""
        out, _ = self.process.communicate(timeout=240)
        return json.loads(out.splitlines()[-1])


@dataclass
class Pipeline:
    """The definitions on a test's database, with a pinned clock and an instance of their own."""

    instance: dg.DagsterInstance
    market: MarketDatabase
    feed: FxFeed
    clock: PipelineClock

    @classmethod
    def on(cls, instance: dg.DagsterInstance, url: str, now: datetime = NOW) -> Self:
        """Return the definitions on the database `url`, which may take simulated bars from now on."""
        with psycopg.connect(url, autocommit=True) as conn:
            bar_store.mark_created_by(conn, "demo")
        clock = PipelineClock(pinned=now.isoformat())
        return cls(instance, MarketDatabase(url_override=url), FxFeed(kind="simulated"), clock)

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
        return self.run("live_minute", tags={**request.tags, **AUTOMATIC})

    def late_runs(self) -> Iterator[dg.ExecuteInProcessResult]:
        """Do what the daemon does for late data, whose time to settle is over, until the sensor asks for nothing."""
        while True:
            with psycopg.connect(self.market.url(), autocommit=True) as conn:
                conn.execute("UPDATE dxy.touched_range SET touched_at = touched_at - interval '2 minutes'")
            asked = self.sensor(late_data_sensor)
            if isinstance(asked, dg.SkipReason):
                return
            for request in asked.run_requests:
                yield self.run("late_data", tags={**request.tags, **AUTOMATIC})

    @contextmanager
    def child(self, job: str, tags: Mapping[str, str], environment: Mapping[str, str] | None = None) -> Iterator[Child]:
        """A process that will run a job; the instance's storage must be one that processes can share."""
        told = {
            "home": self.instance.root_directory, "url": self.market.url(), "feed": self.feed.kind,
            "now": self.clock.pinned, "job": job, "tags": dict(tags),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "dxy_pipeline_tests.pipeline", json.dumps(told)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Child(process)
        finally:
            process.kill()
            process.wait()

    def schedule(self) -> Any:
        with dg.build_schedule_context(instance=self.instance, resources=self.resources) as context:
            return live_schedule(context)

    def sensor(self, sensor: dg.SensorDefinition, cursor: str | None = None) -> Any:
        resources = {name: resource for name, resource in self.resources.items() if name in takes(sensor)}
        with dg.build_sensor_context(instance=self.instance, resources=resources, cursor=cursor) as context:
            return sensor(context)


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


def _be_a_child(home: str, url: str, feed: Any, now: str, job: str, tags: dict[str, str]) -> None:
    with dg.DagsterInstance.from_config(home) as instance:
        pipeline = Pipeline(instance, MarketDatabase(url_override=url), FxFeed(kind=feed), PipelineClock(pinned=now))
        build_defs(**pipeline.resources).resolve_job_def(job)
        print("ready", flush=True)
        sys.stdin.readline()
        result = pipeline.run(job, tags=tags)
    failures = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    print(json.dumps({"success": result.success, "errors": [str(f.error) for f in failures]}), flush=True)


if __name__ == "__main__":
    _be_a_child(**json.loads(sys.argv[1]))

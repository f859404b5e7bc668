"""`make demo`: the main job end to end on real input, in an embedded database of its own.

1. The ECB's reference rates since 1999: one minute bar a day for each pair, DXY derived for every day, compared with
   published levels. 2. Ten trading days of a simulated minute feed that passes exactly through those fixes,
   materialized by Dagster as one range and one day by itself. 3. All checks over the whole history, evaluated by Dagster's
own check job, a health table, a picture.
The clock is pinned to the end of the packaged history, so the result is the same on every machine and day.
Nothing here is needed in production.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psycopg

from dxy_pipeline import bar_reads, bar_store, partitions, pictures
from dxy_pipeline.automation.live import range_tags
from dxy_pipeline.automation.monitoring import history_config
from dxy_pipeline.checks import engine
from dxy_pipeline.checks.config import Severity
from dxy_pipeline.checks.engine import AssetFigures, CheckResult
from dxy_pipeline.client import fetch_1m_frame
from dxy_pipeline.core.index import DXY, SYMBOLS
from dxy_pipeline.db import schema
from dxy_pipeline.db.embedded import server_for
from dxy_pipeline.db.session import connect
from dxy_pipeline.definitions import build_defs
from dxy_pipeline.errors import DxyError, UserError
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources import ecb
from dxy_pipeline.sql import load

DATABASE = "dxy_demo"
TRADING_DAYS = 10


@dataclass(frozen=True)
class LevelCheck:
    """One well-known day: the published level, ours at the fix, and whether the difference is within tolerance."""

    day: date
    label: str
    published: float
    derived: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether our level is as near to the published one as a minute of the day can be to its close."""
        return abs(self.derived - self.published) <= self.tolerance


@dataclass
class Outcome:
    """What the demo did: written rows per step, the comparison with published levels, check results, the pictures."""

    now: datetime
    written: dict[str, bar_store.WriteResult | bar_store.DeriveResult] = field(default_factory=dict)
    rows_written: int = 0
    levels: list[LevelCheck] = field(default_factory=list)
    assets: list[AssetFigures] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether every check passed and every level agrees."""
        return all(c.passed for c in self.checks) and all(level.passed for level in self.levels)


def run(settings: Settings, tell: Callable[[str], None]) -> Outcome:
    """Run the demo; `tell` receives a line per step. Raises UserError where the database is not the demo's own."""
    if settings.database_url:
        raise UserError(
            "the demo writes simulated bars, and only to a database that it created itself",
            hint="unset DATABASE_URL; the demo starts its own embedded PostgreSQL",
        )
    now = ecb.history_end() + timedelta(minutes=2)
    server = server_for(settings, progress=tell)
    server.start()
    created = server.ensure_database(DATABASE)
    url = server.url(DATABASE)
    outcome = Outcome(now)
    with connect(url, application_name="demo", autocommit=True, statement_timeout=0) as conn:
        prepare(conn, created=created)
        started = _server_time(conn)
        tell(f"loading the ECB reference rates, {len(ecb.history().fixes):,} days since 1999")
        outcome.written["ECB fixes"] = _load_ecb(conn, now)
        tell("deriving DXY for every fix")
        span = (ecb.history().fixes[0].ts_utc, _simulated_from())
        outcome.written["DXY at the fixes"] = bar_store.derive(conn, *span)
        for timeframe in bar_store.ROLLUP_TIMEFRAMES:  # a fix alone makes no bar; what it touched is settled
            bar_store.roll_up(conn, timeframe, *span, now)
        outcome.levels = compare_levels(conn)
        outcome.checks = through_dagster(url, now, tell)
        outcome.rows_written = _rows_written_since(conn, started)
        outcome.assets = engine.figures(conn, now)
        tell("drawing")
        outcome.pictures = draw(conn, now, settings.data_dir / "demo")
    return outcome


def prepare(conn: psycopg.Connection, *, created: bool) -> None:
    """Bring the database to head; only one that we just created is marked as ours for simulated bars."""
    schema.upgrade(conn)
    if created:
        bar_store.mark_created_by(conn, "demo")
    bar_store.require_simulation_allowed(conn)


def compare_levels(conn: psycopg.Connection) -> list[LevelCheck]:
    """Compare the derived level of well-known days with the published one."""
    found = []
    for known in ecb.KNOWN_LEVELS:
        minute = ecb.fix_minute(known.day)
        row = conn.execute(
            "SELECT d.close::float8 FROM public.data_bars AS d"
            " WHERE d.canonical_symbol = %s AND d.timeframe = '1m' AND d.ts_utc = %s",
            (DXY, minute),
        ).fetchone()
        derived = row[0] if row else float("nan")
        found.append(LevelCheck(known.day, known.label, known.level, derived, known.tolerance))
    return found


def through_dagster(url: str, now: datetime, tell: Callable[[str], None]) -> list[CheckResult]:
    """Materialize the ten days, nine as one range and the last by itself, and check all that is stored.

    Raises DxyError when a step fails.
    """
    days = trading_days()
    defs = build_defs(
        market=MarketDatabase(url_override=url),
        feed=FxFeed(kind="simulated"),
        clock=PipelineClock(pinned=now.isoformat()),
    )
    job = defs.resolve_job_def("materialize_range")
    with dg.DagsterInstance.ephemeral() as instance:
        tell(f"Dagster: materializing fx_1m, dxy_1m, dxy_5m, dxy_1h for {days[0]} to {days[-2]} as one range")
        first, last = (partitions.day_start(day) for day in (days[0], days[-2]))
        _execute(job, instance, tags=range_tags(first, last))
        tell(f"Dagster: materializing {days[-1]} by itself")
        _execute(job, instance, partition_key=str(days[-1]))
        tell("Dagster: running all checks over the whole history")
        checks = defs.resolve_job_def("check_stored_bars")
        done = _execute(checks, instance, run_config=history_config())
    return [
        CheckResult(
            found.check_name, found.asset_key.to_user_string(), found.passed, Severity(found.severity.value),
            found.description or "",
        )
        for found in done.get_asset_check_evaluations()
    ]  # fmt: skip


def trading_days() -> list[date]:
    """The last ten days with a fix; the week-ends between them hold no bars."""
    return [fix.day for fix in ecb.history().fixes[-TRADING_DAYS:]]


def draw(conn: psycopg.Connection, now: datetime, folder: Path) -> list[Path]:
    """Draw DXY 5m candles and the pairs' contributions over the simulated days; return the files."""
    start = _simulated_from()
    rows = bar_reads.rollup_rows(conn, "5m", start, now)
    candles = pd.DataFrame(rows).set_index("ts_utc")[["open", "high", "low", "close"]].astype(float)
    closes = fetch_1m_frame(SYMBOLS, start, now, conn=conn)["close"].unstack("canonical_symbol")
    moves = pictures.daily_contributions(closes)
    title = f"DXY 5m, {candles.index[0]:%d %b} to {candles.index[-1]:%d %b %Y} (simulated between ECB fixes)"
    return [
        pictures.write_png(folder / "dxy.png", candles, moves, title),
        pictures.write_html(folder / "dxy.html", candles, moves, title),
    ]


def _execute(
    job: dg.JobDefinition, instance: dg.DagsterInstance, run_config: Mapping[str, Any] | None = None, **how: Any
) -> dg.ExecuteInProcessResult:
    config = {**(run_config or {}), "loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=config, **how)
    if not result.success:
        reasons = [str(e.event_specific_data.error) for e in result.get_step_failure_events()]  # ty: ignore
        raise DxyError(f"a Dagster step failed: {reasons[0] if reasons else 'see the log'}")
    return result


def _load_ecb(conn: psycopg.Connection, now: datetime) -> bar_store.WriteResult:
    source = ecb.EcbSource()
    total = bar_store.WriteResult()
    for batch in source.bars(SYMBOLS, ecb.history().fixes[0].ts_utc, now):
        total += bar_store.write_fx(conn, source.name, source.feed, batch)
    return total


def _simulated_from() -> datetime:
    first = trading_days()[0]
    return datetime(first.year, first.month, first.day, tzinfo=UTC)


def _rows_written_since(conn: psycopg.Connection, started: datetime) -> int:
    """Count the bars that this run inserted, updated or soft-deleted: zero when it ran before."""
    row = conn.execute(load("queries/rows_written_since"), {"started": started}).fetchone()
    return row[0] if row else 0


def _server_time(conn: psycopg.Connection) -> datetime:
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row  # noqa: S101 - a SELECT without FROM has a row
    return row[0]

"""What every-minute operation adds to Dagster's records in a day, and what a year of it comes to under retention.

Measured on the services of `dxy up` as they are, minute by minute: launched runs, schedule and sensors, one heartbeat
of the monitoring. What is kept for how long is `automation.retention` and `retention` in dagster.yaml.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import dagster as dg
import psycopg
import yaml

from dxy_pipeline.automation.monitoring import HEARTBEAT
from dxy_pipeline.automation.retention import RetentionConfig, delete_runs
from dxy_pipeline.dagster_storage import DATABASE
from dxy_pipeline.services import CHECKOUT
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.latency import service_place
from dxy_pipeline_tests.benchmarks.market import statement
from dxy_pipeline_tests.ui.dagster_ui import Up, wait_for

WINDOW: Final = HEARTBEAT  # holds each evaluation once
DAY: Final = timedelta(days=1)
MINUTES: Final = DAY // timedelta(minutes=1)
MB: Final = 1e6
YEAR_BOUND: Final = 2000.0

Records = dict[str, tuple[int, float]]


class Stock(NamedTuple):
    """What a table holds of a kind: rows and their bytes; and the bytes of the whole table on disk."""

    rows: int
    size: float
    on_disk: float


NONE: Final = Stock(0, 0.0, 0.0)
Stocks = dict[tuple[str, str], Stock]
"""By kind and table."""


def measure() -> Iterator[Figure]:
    """Yield rows and megabytes a day by kind, the year under retention, and how long the daily job works."""
    with service_place() as place:
        up = Up.start(place / "data", DXY_FX_SOURCE="simulated")
        try:
            day = _a_day(up)
            each = _removal(up)
        finally:
            up.stop()
    for kind, (rows, size) in sorted(day.items()):
        yield Figure(f"Dagster's records: {kind}, rows a day", rows)
        yield Figure(f"Dagster's records: {kind}, a day", size / MB, unit=" MB")
    yield Figure("Dagster's records after a year of every-minute operation", year(day) / MB, YEAR_BOUND, " MB")
    yield Figure("retention job: a day's runs", MINUTES * each, 600, " s")


def year(day: Mapping[str, tuple[int, float]]) -> float:
    """Return the bytes there are after a year at the fullest moment, just before the daily job; `day`: a day's growth."""
    kept = RetentionConfig()
    purged = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())["retention"]["sensor"]["purge_after_days"]
    days = {
        "runs": kept.run_hours / 24 + 1 + 365 / MINUTES,  # and the newest run of each day
        "evaluations": kept.evaluation_days + 1,
        "skipped ticks": purged["skipped"],
        "ticks": purged["success"],
        "tick logs": purged["skipped"] + 1,
    }
    return sum(size * days[kind] for kind, (_, size) in day.items())


def _a_day(up: Up) -> Records:
    """Watch the records grow for a while, from the middle of a minute to the middle of one, scaled to a day."""
    with up.database(DATABASE) as conn:
        runs = "SELECT count(*) FROM runs WHERE pipeline_name = 'live_minute' AND status = 'SUCCESS'"
        wait_for("the first run has caught up", lambda: _first(conn, runs), limit=300)
        time.sleep((30 - datetime.now(UTC).second) % 60)
        before = _stocks(conn, up.data_dir)
        time.sleep(WINDOW.total_seconds())
        return growth(before, _stocks(conn, up.data_dir), DAY / WINDOW)


def growth(before: Stocks, after: Stocks, times: float) -> Records:
    """Return what came in between, `times` over, by kind: what each table grew on disk, shared out by bytes of new rows.

    A table's size for each byte of its rows is no measure while it is young: its first pages are mostly empty.
    """
    grown: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for table in {table for _, table in after}:
        was, now = ({kind: stock for (kind, t), stock in stocks.items() if t == table} for stocks in (before, after))
        new = {kind: stock.size - was.get(kind, NONE).size for kind, stock in now.items()}
        on_disk = max(s.on_disk for s in now.values()) - max((s.on_disk for s in was.values()), default=0.0)
        for kind, size in new.items():
            rows, bytes_ = grown[kind]
            share = size / (sum(new.values()) or 1.0)
            rows_more = now[kind].rows - was.get(kind, NONE).rows
            grown[kind] = (rows + round(rows_more * times), bytes_ + on_disk * share * times)
    return dict(grown)


def _stocks(conn: psycopg.Connection, data_dir: Path) -> Stocks:
    found = {(kind, table): Stock(*sizes) for kind, table, *sizes in conn.execute(statement("records")).fetchall()}
    files = [path.stat().st_blocks * 512 for path in (data_dir / "dagster_home" / "storage").rglob("*.err")]
    return {**found, ("tick logs", "files"): Stock(len(files), float(sum(files)), float(sum(files)))}


def _removal(up: Up) -> float:
    """Return the seconds that the daily job needs for each run it removes."""
    os.environ["DXY_DATA_DIR"] = str(up.data_dir)
    try:
        with dg.DagsterInstance.from_config(str(up.data_dir / "dagster_home")) as instance:
            began = time.perf_counter()
            removed, _ = delete_runs(instance, datetime.now(UTC), time.monotonic() + 600)
            return (time.perf_counter() - began) / max(removed, 1)
    finally:
        del os.environ["DXY_DATA_DIR"]


def _first(conn: psycopg.Connection, query: str) -> int:
    row = conn.execute(query).fetchone()  # ty: ignore[no-matching-overload]
    return int(row[0]) if row else 0

"""The seed's exit criteria, deployment checklist, verify queries and success metrics, under their names.

An item with a judge is decided by the facts; one without is for a named operator to sign. Reading the facts is here too;
showing them is in status.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from dxy_pipeline.core.fx_week import open_minutes_since
from dxy_pipeline.db.shape import BARS, Database, inspect
from dxy_pipeline.migration import health, ledger
from dxy_pipeline.migration.ledger import Control
from dxy_pipeline.migration.states import State

Judge = Callable[["Facts"], tuple[bool, str]]


@dataclass(frozen=True)
class Facts:
    """What the judges look at."""

    control: Control
    db: Database
    counts: dict[str, int]
    latest: datetime | None
    bounds: tuple[float | None, float | None, int]
    wrong_source: int
    units: dict[str, int]
    verified: bool
    backup: str | None
    snapshot: int
    baseline: dict[str, float | None]
    readers: int
    registry: dict[str, Any]
    rollups: datetime | None
    pairs: int
    watched: list[dict[str, Any]]
    now: datetime

    @classmethod
    def gather(cls, conn: psycopg.Connection[Any], control: Control, now: datetime) -> "Facts":
        """Read them all; `now` bounds what counts as there."""
        migration = control.migration_id

        def value(text: str, *values: Any) -> Any:
            row = conn.execute(ledger.trusted(text), values).fetchone()
            return row if row is None or len(row) > 1 else row[0]

        dxy = "FROM public.data_bars AS d WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m'"
        db = inspect(conn)
        has_metadata = "metadata" in db.tables["core_asset_registry_all"].columns
        return cls(
            control,
            db,
            ledger.counts(conn),
            value(f"SELECT max(d.ts_utc) {dxy} AND d.ts_utc <= %s", now),
            value(f"SELECT min(d.close)::float8, max(d.close)::float8, count(*) FILTER (WHERE d.close IS NULL) {dxy}"),
            value(f"SELECT count(*) {dxy} AND d.source <> 'synthetic'"),
            dict(conn.execute("SELECT u.state, count(*) FROM dxy.migration_unit AS u WHERE u.migration_id = %s GROUP BY 1",
                              (migration,)).fetchall()),
            bool(value("SELECT v.ok FROM dxy.migration_verification AS v WHERE v.migration_id = %s ORDER BY v.id DESC LIMIT 1",
                       migration)),
            value("SELECT b.path FROM dxy.migration_backup AS b WHERE b.migration_id = %s LIMIT 1", migration),
            value("SELECT count(*) FROM dxy.migration_snapshot AS s WHERE s.migration_id = %s", migration),
            dict(conn.execute("SELECT b.name, b.value FROM dxy.migration_baseline AS b WHERE b.migration_id = %s",
                              (migration,)).fetchall()),
            len(ledger.rows(conn, "readers")),
            (value("SELECT r.metadata FROM public.core_asset_registry_all AS r WHERE r.canonical_symbol = 'DXY'") or {})
            if has_metadata else {},
            value("SELECT max(d.ts_utc) FROM public.derived_data_bars AS d WHERE d.canonical_symbol = 'DXY'"
                  " AND d.timeframe = '5m' AND d.deleted_at IS NULL AND d.ts_utc <= %s", now),
            value("SELECT count(DISTINCT d.canonical_symbol) FROM public.data_bars AS d WHERE d.canonical_symbol IN"
                  " ('EURUSD', 'USDJPY', 'GBPUSD', 'USDCAD', 'USDSEK', 'USDCHF') AND d.timeframe = '1m' AND d.ts_utc <= %s"
                  " AND d.ts_utc > %s - interval '3 days'", now, now),
            health.check(conn, control, now),
            now,
        )  # fmt: skip

    def past(self, *states: State) -> bool:
        """Whether the migration is in one of these states."""
        return self.control.state in states


@dataclass(frozen=True)
class Criterion:
    """One item of one of the seed's lists."""

    part: str
    name: str
    judge: Judge | None = None


def _column(name: str) -> Judge:
    return lambda f: (name in f.db.tables[BARS].columns, "present" if name in f.db.tables[BARS].columns else "missing")


def _takes_synthetic(f: Facts) -> tuple[bool, str]:
    checks = [c for c in f.db.tables[BARS].checks if c.columns == ("source",)]
    ok = all("'synthetic'" in c.expression for c in checks)
    return ok, "; ".join(c.name for c in checks) or "no CHECK on source"


def _days(f: Facts) -> tuple[bool, str]:
    return set(f.units) == {"done"}, ", ".join(f"{n} {s}" for s, n in sorted(f.units.items())) or "no days"


def _price(f: Facts) -> tuple[bool, str]:
    low, high, _ = f.bounds
    options = f.control.options
    ok = low is not None and high is not None
    ok = ok and options.get("price_low", 80) <= (low or 0) and (high or 0) <= options.get("price_high", 120)
    return bool(ok), f"{low} to {high}"


def _fresh(f: Facts) -> tuple[bool, str]:
    if f.latest is None:
        return False, "no bar"
    age = open_minutes_since(f.latest, f.now)
    return age < 5, f"{age} open minutes old"


def _no_worse(name: str, unit: str, slack: float) -> Judge:
    def judge(f: Facts) -> tuple[bool, str]:
        before, after = f.baseline.get(f"before.{name}"), f.baseline.get(f"after.{name}")
        if after is None:
            return False, f"before {before if before is not None else 'none'} {unit}; after: known at the retirement"
        return after <= (before or 0) + slack, f"before {before or 0:.2f} {unit}, after {after:.2f} {unit}"

    return judge


def _watched(name: str) -> Judge:
    def judge(f: Facts) -> tuple[bool, str]:
        row = next(r for r in f.watched if r["name"] == name)
        return row["status"] == "PASS", f"{row['status']}: {row['figure']}"

    return judge


def _key(shown: str) -> Judge:
    def judge(f: Facts) -> tuple[bool, str]:
        index = f.db.tables[BARS].key_index()
        return index is not None, str(getattr(index, shown, "none"))

    return judge


def _has_function(f: Facts) -> tuple[bool, str]:
    found = "calc_dxy_range_1m" in f.db.functions
    return found, "present" if found else "missing"


def _verified(f: Facts) -> tuple[bool, str]:
    return f.verified, "by count and content" if f.verified else "not verified"


def _none_fails(f: Facts) -> tuple[bool, str]:
    return all(r["status"] != "FAIL" for r in f.watched), ", ".join(f"{r['name']} {r['status']}" for r in f.watched)


def _has_rows(f: Facts) -> tuple[bool, str]:
    return f.counts["data_bars"] > 0, f"{f.counts['data_bars']} rows"


_AFTER = (State.CUT_OVER, State.RETIRED)
CRITERIA: Final[tuple[Criterion, ...]] = (
    Criterion("Phase 1", "Backup file created and verified", lambda f: (f.backup is not None, f.backup or "none")),
    Criterion("Phase 1", "Pre-migration snapshot stored", lambda f: (f.snapshot > 0, f"{f.snapshot} rows")),
    Criterion("Phase 1", "All invariants confirmed (uniqueness, constraints)",
              _key("name")),
    Criterion("Phase 1", "Database connectivity stable", lambda f: (True, "this check ran")),
    Criterion("Phase 1", "No active ingestion happening (optional: pause workers)"),
    Criterion("Phase 2", "`data_bars` source constraint allows 'synthetic'", _takes_synthetic),
    Criterion("Phase 2", "`data_bars` has raw", _column("raw")),
    Criterion("Phase 2", "`data_bars` has created_at", _column("created_at")),
    Criterion("Phase 2", "`data_bars` has updated_at", _column("updated_at")),
    Criterion("Phase 2", "Unique index on (canonical_symbol, timeframe, ts_utc) exists",
              _key("definition")),
    Criterion("Phase 2", "`calc_dxy_range_1m()` function created",
              _has_function),
    Criterion("Phase 2", "Asset registry entry updated with new metadata",
              lambda f: (f.registry.get("is_synthetic") is True, f"data_location {f.registry.get('data_location')}")),
    Criterion("Phase 2", "No errors in logs"),
    Criterion("Phase 3", "All historical DXY 1m bars migrated to data_bars", _days),
    Criterion("Phase 3", "Count verification passes", _verified),
    Criterion("Phase 3", "Source field set to 'synthetic'", lambda f: (f.wrong_source == 0, f"{f.wrong_source} others")),
    Criterion("Phase 3", "Price range is reasonable (80-120 typically)", _price),
    Criterion("Phase 3", "Old rows soft-deleted in derived_data_bars",
              lambda f: (f.past(State.RETIRED) and f.counts["legacy_active"] == 0, f"{f.counts['legacy_active']} active")),
    Criterion("Phase 3", "No NULL prices or other anomalies", lambda f: (f.bounds[2] == 0, f"{f.bounds[2]} NULL")),
    Criterion("Phase 4", "Tick factory updated (calls `calc_dxy_range_1m`)"),
    Criterion("Phase 4", "Aggregator updated (queries from `data_bars` only)",
              lambda f: (f.readers == 0, f"{f.readers} functions or views of the database read both tables")),
    Criterion("Phase 4", "Signal engine updated (no UNION ALL needed)"),
    Criterion("Phase 4", "Code review completed"),
    Criterion("Phase 5", "All unit tests pass"),
    Criterion("Phase 5", "Integration test passes"),
    Criterion("Phase 5", "DXY 5m/1h bars still being produced", _watched("DXY 5m aggregation")),
    Criterion("Phase 5", "Price freshness within SLA", _fresh),
    Criterion("Phase 6", "Deployment completed without errors"),
    Criterion("Phase 6", "Workers restarted successfully"),
    Criterion("Phase 6", "New DXY 1m bars appearing in data_bars", _watched("DXY 1m in last 5m")),
    Criterion("Phase 6", "Health checks all PASS",
              _none_fails),
    Criterion("Phase 6", "No error spikes in logs"),
    Criterion("Deployment checklist", "Backup", lambda f: (f.backup is not None, f.backup or "none")),
    Criterion("Deployment checklist", "Migration: schema and data", _days),
    Criterion("Deployment checklist", "Code deployment"),
    Criterion("Deployment checklist", "Smoke test"),
    Criterion("Deployment checklist", "Restart workers"),
    Criterion("Deployment checklist", "Verify logs"),
    Criterion("Deployment checklist", "Verify data production", _watched("DXY 1m in last 5m")),
    *(Criterion("Watch 6.2", name, _watched(name)) for name in
      ("DXY 1m in last 5m", "FX components", "DXY price range", "DXY 5m aggregation", "Orphaned 1m in derived")),
    Criterion("Verify commands", "Check DXY 1m is in data_bars", _has_rows),
    Criterion("Verify commands", "Check freshness", _fresh),
    Criterion("Verify commands", "Check no orphans in derived_data_bars",
              lambda f: (f.counts["legacy_active"] == 0, f"{f.counts['legacy_active']} rows")),
    Criterion("Success metrics", "DXY 1m bars in `data_bars`: >= 10,000 rows",
              lambda f: (f.counts["data_bars"] >= 10_000, f"{f.counts['data_bars']} rows")),
    Criterion("Success metrics", "Latest DXY bar: < 5 minutes old", _fresh),
    Criterion("Success metrics", "Price range: 80-120 (typical)", _price),
    Criterion("Success metrics", "NULL prices: 0", lambda f: (f.bounds[2] == 0, f"{f.bounds[2]}")),
    Criterion("Success metrics", "No UNION ALL in aggregator code",
              lambda f: (f.readers == 0, f"{f.readers} in the database's functions and views")),
    Criterion("Success metrics", "Signal engine queries single table for 1m",
              lambda f: (f.past(*_AFTER), f"readers use {f.control.read_from}")),
    Criterion("Success metrics", "DXY metadata in `core_asset_registry_all`",
              lambda f: (f.registry.get("data_location") == BARS, f"data_location {f.registry.get('data_location')}")),
    Criterion("Success metrics", "Code reviewed and approved"),
    Criterion("Success metrics", "No increase in error rates", _no_worse("error_rate", "%", 0.5)),
    Criterion("Success metrics", "Aggregation latency unchanged", _no_worse("latency_p95", "s", 5.0)),
    Criterion("Success metrics", "DXY 5m/1h still produced on schedule", _watched("DXY 5m aggregation")),
    Criterion("Success metrics", "All component pairs fresh", lambda f: (f.pairs == 6, f"{f.pairs} pairs in three days")),
    Criterion("Success metrics", "Migration plan documented (this file)"),
    Criterion("Success metrics", "Code changes documented in PR"),
    Criterion("Success metrics", "Rollback procedure tested"),
    Criterion("Success metrics", "Runbook updated for future reference"),
)  # fmt: skip

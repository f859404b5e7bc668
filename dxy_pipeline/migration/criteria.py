"""The seed's exit criteria, deployment checklist, verify queries and success metrics, under their names.

An item with a judge is decided by the facts (facts.py); one without is for a named operator to sign. Showing them is in
status.py.
"""

from dataclasses import dataclass
from typing import Final

from dxy_pipeline.db.shape import BARS
from dxy_pipeline.migration import judges
from dxy_pipeline.migration.states import State


@dataclass(frozen=True)
class Criterion:
    """One item of one of the seed's lists."""

    part: str
    name: str
    judge: judges.Judge | None = None


_AFTER = (State.CUT_OVER, State.RETIRED)
CRITERIA: Final[tuple[Criterion, ...]] = (
    Criterion("Phase 1", "Backup file created and verified", lambda f: (f.backup is not None, f.backup or "none")),
    Criterion("Phase 1", "Pre-migration snapshot stored", lambda f: (f.snapshot > 0, f"{f.snapshot} rows")),
    Criterion("Phase 1", "All invariants confirmed (uniqueness, constraints)",
              judges.key("name")),
    Criterion("Phase 1", "Database connectivity stable", judges.connected),
    Criterion("Phase 1", "No active ingestion happening (optional: pause workers)"),
    Criterion("Phase 2", "`data_bars` source constraint allows 'synthetic'", judges.takes_synthetic),
    Criterion("Phase 2", "`data_bars` has raw", judges.column("raw")),
    Criterion("Phase 2", "`data_bars` has created_at", judges.column("created_at")),
    Criterion("Phase 2", "`data_bars` has updated_at", judges.column("updated_at")),
    Criterion("Phase 2", "Unique index on (canonical_symbol, timeframe, ts_utc) exists",
              judges.key("definition")),
    Criterion("Phase 2", "`calc_dxy_range_1m()` function created",
              judges.has_function),
    Criterion("Phase 2", "Asset registry entry updated with new metadata",
              lambda f: (f.registry.get("is_synthetic") is True, f"data_location {f.registry.get('data_location')}")),
    Criterion("Phase 2", "No errors in logs"),
    Criterion("Phase 3", "All historical DXY 1m bars migrated to data_bars", judges.days),
    Criterion("Phase 3", "Count verification passes", judges.verified),
    Criterion("Phase 3", "Source field set to 'synthetic'", lambda f: (f.wrong_source == 0, f"{f.wrong_source} others")),
    Criterion("Phase 3", "Price range is reasonable (80-120 typically)", judges.price),
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
    Criterion("Phase 5", "DXY 5m/1h bars still being produced", judges.watched("DXY 5m aggregation")),
    Criterion("Phase 5", "Price freshness within SLA", judges.fresh),
    Criterion("Phase 6", "Deployment completed without errors"),
    Criterion("Phase 6", "Workers restarted successfully"),
    Criterion("Phase 6", "New DXY 1m bars appearing in data_bars", judges.watched("DXY 1m in last 5m")),
    Criterion("Phase 6", "Health checks all PASS",
              judges.none_fails),
    Criterion("Phase 6", "No error spikes in logs"),
    Criterion("Deployment checklist", "Backup", lambda f: (f.backup is not None, f.backup or "none")),
    Criterion("Deployment checklist", "Migration: schema and data", judges.days),
    Criterion("Deployment checklist", "Code deployment"),
    Criterion("Deployment checklist", "Smoke test"),
    Criterion("Deployment checklist", "Restart workers"),
    Criterion("Deployment checklist", "Verify logs"),
    Criterion("Deployment checklist", "Verify data production", judges.watched("DXY 1m in last 5m")),
    *(Criterion("Watch 6.2", name, judges.watched(name)) for name in
      ("DXY 1m in last 5m", "FX components", "DXY price range", "DXY 5m aggregation", "Orphaned 1m in derived")),
    Criterion("Verify 3.2", "data_bars 1m count", judges.has_rows),
    Criterion("Verify 3.2", "data_bars 1m date range", judges.date_range),
    Criterion("Verify 3.2", "synthetic source count", judges.synthetic),
    Criterion("Verify 3.2", "DXY price range (min)", judges.bound(0)),
    Criterion("Verify 3.2", "DXY price range (max)", judges.bound(1)),
    Criterion("Verify 3.2", "derived_data_bars active DXY 1m",
              lambda f: (f.counts["legacy_active"] == 0, f"{f.counts['legacy_active']} bars")),
    Criterion("Detailed Status", "DXY 1m bars in data_bars", judges.detail("DXY 1m bars in data_bars", some=True)),
    Criterion("Detailed Status", "DXY 1m bars in derived (active)",
              judges.detail("DXY 1m bars in derived (active)", some=False)),
    Criterion("Detailed Status", "DXY 1m bars in derived (deleted)",
              judges.detail("DXY 1m bars in derived (deleted)", some=True)),
    Criterion("Verify commands", "Check DXY 1m is in data_bars", judges.has_rows),
    Criterion("Verify commands", "Check freshness", judges.fresh),
    Criterion("Verify commands", "Check no orphans in derived_data_bars",
              lambda f: (f.counts["legacy_active"] == 0, f"{f.counts['legacy_active']} rows")),
    Criterion("Success metrics", "DXY 1m bars in `data_bars`: >= 10,000 rows",
              lambda f: (f.counts["data_bars"] >= 10_000, f"{f.counts['data_bars']} rows")),
    Criterion("Success metrics", "Latest DXY bar: < 5 minutes old", judges.fresh),
    Criterion("Success metrics", "Price range: 80-120 (typical)", judges.price),
    Criterion("Success metrics", "NULL prices: 0", lambda f: (f.bounds[2] == 0, f"{f.bounds[2]}")),
    Criterion("Success metrics", "No UNION ALL in aggregator code",
              lambda f: (f.readers == 0, f"{f.readers} in the database's functions and views")),
    Criterion("Success metrics", "Signal engine queries single table for 1m",
              lambda f: (f.past(*_AFTER), f"readers use {f.control.read_from}")),
    Criterion("Success metrics", "DXY metadata in `core_asset_registry_all`",
              lambda f: (f.registry.get("data_location") == BARS, f"data_location {f.registry.get('data_location')}")),
    Criterion("Success metrics", "Code reviewed and approved"),
    Criterion("Success metrics", "No increase in error rates", judges.no_worse("error_rate", "%", 0.5)),
    Criterion("Success metrics", "Aggregation latency unchanged", judges.no_worse("latency_p95", "s", 5.0)),
    Criterion("Success metrics", "DXY 5m/1h still produced on schedule", judges.watched("DXY 5m aggregation")),
    Criterion("Success metrics", "All component pairs fresh", judges.pairs_fresh),
    Criterion("Success metrics", "Migration plan documented (this file)"),
    Criterion("Success metrics", "Code changes documented in PR"),
    Criterion("Success metrics", "Rollback procedure tested"),
    Criterion("Success metrics", "Runbook updated for future reference"),
)  # fmt: skip

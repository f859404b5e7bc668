"""What the checklist's judges look at, read in one go. What follows from it is in criteria.py."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from dxy_pipeline.db.shape import Database, inspect
from dxy_pipeline.migration import health, ledger
from dxy_pipeline.migration.ledger import Control, Row
from dxy_pipeline.migration.states import State


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
    pairs: dict[str, datetime | None]
    detailed: dict[str, Row]
    sessions: Row
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
            value("SELECT b.path FROM dxy.migration_backup AS b WHERE b.migration_id = %s ORDER BY b.id DESC LIMIT 1", migration),
            value("SELECT count(*) FROM dxy.migration_snapshot AS s WHERE s.migration_id = %s", migration),
            dict(conn.execute("SELECT b.name, b.value FROM dxy.migration_baseline AS b WHERE b.migration_id = %s",
                              (migration,)).fetchall()),
            len(ledger.rows(conn, "readers")),
            (value("SELECT r.metadata FROM public.core_asset_registry_all AS r WHERE r.canonical_symbol = 'DXY'") or {})
            if has_metadata else {},
            value("SELECT max(d.ts_utc) FROM public.derived_data_bars AS d WHERE d.canonical_symbol = 'DXY'"
                  " AND d.timeframe = '5m' AND d.deleted_at IS NULL AND d.ts_utc <= %s", now),
            {row["symbol"]: row["latest"] for row in ledger.rows(conn, "newest_components", now=now)},
            {row["metric"]: row for row in ledger.rows(conn, "detailed_status")},
            ledger.one(conn, "connectivity"),
            health.check(conn, control, now),
            now,
        )  # fmt: skip

    def past(self, *states: State) -> bool:
        """Whether the migration is in one of these states."""
        return self.control.state in states

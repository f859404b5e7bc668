"""plan and shadow: what a migration of this database would meet. Both run on a read-only connection and write nothing."""

import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from dxy_pipeline.db import fitness, widen
from dxy_pipeline.db.shape import BARS, DERIVED, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import fit, ledger, mapping, objects

# Rows a second on two cores with fsync: copy with ledger and triggers, verification, dump and restore. See make bench.
_RATES: Final = {"backfill": 60_000, "verify": 300_000, "backup": 150_000}
_OWN_DDL: Final = (
    ("add dxy_retired_by, dxy_retired_updated_at to derived_data_bars", "ACCESS EXCLUSIVE for an instant (no rewrite)"),
    ("index the rows that retire will tag in derived_data_bars (CONCURRENTLY; empty until then)",
     "SHARE UPDATE EXCLUSIVE while it reads the table; reads and writes go on"),
    ("views, functions and undo table in schema dxy", "none on the desk's tables"),
    ("dual-write: triggers on both tables", "SHARE ROW EXCLUSIVE for an instant; readers are not held up"),
    ("retire: CHECK against live DXY 1m in derived_data_bars, NOT VALID", "ACCESS EXCLUSIVE for an instant"),
    ("retire: VALIDATE that CHECK", "SHARE UPDATE EXCLUSIVE while it reads; reads and writes go on"),
    ("retire and rollback: drop the triggers, rollback: the index too", "ACCESS EXCLUSIVE for an instant"),
)  # fmt: skip


def plan(conn: psycopg.Connection[Any], files: Path) -> dict[str, Any]:
    """Return shape, rows by day, conflicts, natives, readers, DDL with locks, disk and expected time."""
    db = inspect(conn)
    if not {BARS, DERIVED} <= db.tables.keys():
        raise UserError("there is nothing to migrate: data_bars or derived_data_bars is missing", hint="dxy db plan")
    days = ledger.rows(conn, "plan_rows")
    total: Counter[str] = Counter()
    for row in days:
        total.update({name: value for name, value in row.items() if name != "day"})
    ddl = [{"statement": s.title, "lock": s.lock} for s in widen.steps(conn, db)] if not _refused(conn) else []
    legacy = total["legacy"]
    size = _bytes(conn)
    return {
        "database": db.name,
        "shape": db.shape,
        "server": f"PostgreSQL {db.server_version // 10000}.{db.server_version % 10000}",
        "state": ledger.control(conn).state.value if db.revision else "no ledger; run `dxy db upgrade`",
        "rows": {name: total[name] for name in ("legacy", "data_bars", "identical", "reconcilable", "conflict",
                                                "unverifiable", "native")},
        "values that do not survive the column types": _rounding(conn),
        "compared in": mapping.common_types(db),
        "writes that do not fit both tables": fit.clashes(db),
        "readers to move": ledger.rows(conn, "readers"),
        "in the way": blockers(conn, accept_native=True, accept_rounding=True),
        "needs": [flag for flag, wanted in (("--accept-native", total["native"]), ("--accept-rounding", _rounding(conn)))
                  if wanted],
        "ddl": [*ddl, *({"statement": title, "lock": lock} for title, lock in _OWN_DDL)],
        "disk": {"tables": size, "backup and its proof need about": 2 * size, "free here": _free(files)},
        "expected seconds": {name: round(legacy / rate, 1) for name, rate in _RATES.items()},
        "days": days,
    }  # fmt: skip


def blockers(conn: psycopg.Connection[Any], *, accept_native: bool, accept_rounding: bool) -> list[str]:
    """What keeps `prepare` from going on, each in one line; empty when nothing does."""
    db = inspect(conn)
    found = _refused(conn)
    found += [
        f"user {db.user} is not a member of {t.owner}, who owns {t.name}" for t in db.tables.values() if not t.can_alter
    ]
    if found:
        return found
    if trigger := objects.late_trigger(conn):
        found.append(f"the trigger {trigger} on {DERIVED} runs after {objects.KEEP} and would touch updated_at again")
    infinite = conn.execute(
        "SELECT count(*) FROM public.derived_data_bars AS l"
        " WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND NOT isfinite(l.ts_utc)"
    ).fetchone()
    if infinite and infinite[0]:
        found.append(f"{infinite[0]} legacy rows have an infinite ts_utc")
    if not any(row["legacy"] for row in ledger.rows(conn, "plan_rows")):
        found.append("there are no live DXY 1m rows in derived_data_bars: nothing to migrate")
    native = sum(row["native"] for row in ledger.rows(conn, "plan_rows"))
    if native and not accept_native:
        found.append(
            f"data_bars holds {native} DXY minutes that legacy does not have; look at them, then --accept-native"
        )
    if unfit := fit.unfit(conn, db):
        return [*found, *unfit]
    rounded = _rounding(conn)
    if rounded and not accept_rounding:
        found.append(
            f"{rounded} legacy rows do not survive data_bars' column types unchanged; accept with --accept-rounding"
        )
    return found


def shadow(conn: psycopg.Connection[Any], start: datetime, end: datetime) -> dict[str, Any]:
    """Derive [start, end) from the stored FX minutes and compare with legacy, without writing."""
    ledger.require(conn)
    found = ledger.rows(conn, "shadow", start=start, end=end)
    verdicts = Counter(row["verdict"] for row in found)
    shown = [row for row in found if row["verdict"] == "differs"]
    return {"minutes": len(found), "verdicts": dict(sorted(verdicts.items())), "differences": shown}


def _refused(conn: psycopg.Connection[Any]) -> list[str]:
    return fitness.refusals(conn, inspect(conn))


def _rounding(conn: psycopg.Connection[Any]) -> int:
    db = inspect(conn)
    if any(fit.out_of_range(conn, db)):
        return 0  # the comparison itself would fail; that they are in the way is said elsewhere
    own = {f"own_{name}": db.tables[DERIVED].columns[name].type for name in mapping.MEASURES}
    target = {f"target_{name}": db.tables[BARS].columns[name].type for name in mapping.MEASURES}
    return int(ledger.rows(conn, "rounding", {**mapping.normal_forms(db), **own, **target})[0]["count"])


def _bytes(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(
        "SELECT pg_total_relation_size('public.data_bars') + pg_total_relation_size('public.derived_data_bars')"
    ).fetchone()
    return int(row[0]) if row else 0


def _free(files: Path) -> int:
    while not files.exists():
        files = files.parent
    return shutil.disk_usage(files).free

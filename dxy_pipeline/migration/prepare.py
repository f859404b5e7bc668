"""prepare: backup proved, snapshot and baseline stored, tables widened online, objects there, days listed.

Nothing that a reader or writer of the desk could notice, but for columns and a wider CHECK. Every step can be repeated.
"""

import csv
import json
from typing import Any

from dxy_pipeline.db import registry, widen
from dxy_pipeline.db.shape import BARS, DERIVED, REGISTRY, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import backup, ledger, objects, scratch, states
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.plan import blockers
from dxy_pipeline.sql import trusted

DEFAULTS = {"health_minutes": 1440, "watch_gap_minutes": 15, "price_low": 80.0, "price_high": 120.0}


def run(
    ctx: Context, *, accept_native: bool = False, accept_rounding: bool = False, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Take the database from legacy (or rolled back) to prepared. Raises UserError with the first thing in the way."""
    before = ctx.control()
    states.target("prepare", before.state)
    settings = {**DEFAULTS, **(options or {})}
    if settings["health_minutes"] < 0:
        raise UserError("a health window of fewer than 0 minutes", hint="1440 is a market day")
    if stops := blockers(ctx.conn, accept_native=accept_native, accept_rounding=accept_rounding):
        raise UserError(stops[0], hint="see `dxy migrate plan` for all of it")
    _begin(ctx, settings)
    before = ctx.control()
    migration_id = before.migration_id
    ctx.at("prepare.begun")
    _backup(ctx, migration_id)
    ctx.write("snapshot", lambda: ledger.rows(ctx.conn, "snapshot", migration_id=migration_id))
    _snapshot_csv(ctx, migration_id)
    ctx.at("prepare.snapshot")
    _definitions(ctx, migration_id)
    ctx.at("prepare.definitions")
    db = inspect(ctx.conn)
    widen.apply(ctx.conn, widen.steps(ctx.conn, db), lambda title: _widening(ctx, title), ctx.lease.check)
    _tag_columns(ctx)
    _tag_index(ctx)
    ctx.at("prepare.widened")
    objects.deploy(ctx.conn, inspect(ctx.conn), ctx.lease.check)
    ctx.at("prepare.objects")
    record_baseline(ctx, migration_id, "before", "dxy.legacy_image")
    ctx.at("prepare.baseline")
    ctx.write("registry", lambda: registry.upsert(ctx.conn, inspect(ctx.conn), data_location=DERIVED))
    ctx.at("prepare.registry")

    def close() -> None:
        for row in ledger.rows(ctx.conn, "legacy_days"):
            ctx.conn.execute(
                "INSERT INTO dxy.migration_unit (migration_id, day) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (migration_id, row["day"]),
            )
        ctx.move("prepare", before, sets={"preparing": False, "read_from": "legacy"}, details=before.options)
        ctx.at("prepare.closing!")

    ctx.write("prepare", close)
    ctx.at("prepare.done")
    return {"state": "prepared", "migration": migration_id, "days": len(units(ctx, migration_id))}


def units(ctx: Context, migration_id: int) -> list[Any]:
    """The days of this migration."""
    return ctx.conn.execute(
        "SELECT u.day FROM dxy.migration_unit AS u WHERE u.migration_id = %s ORDER BY 1", (migration_id,)
    ).fetchall()


def _begin(ctx: Context, options: dict[str, Any]) -> None:
    """Give this migration its number, once: a prepare that was cut off goes on under the same one."""

    def begin() -> None:
        ctx.conn.execute(
            "UPDATE dxy.migration_control SET migration_id = migration_id + 1, preparing = true, paused = false,"
            " verified_by = NULL, repaired_after = false, cut_over_at = NULL WHERE NOT preparing"
        )
        ctx.conn.execute("UPDATE dxy.migration_control SET options = %s", (json.dumps(options),))

    ctx.write("prepare", begin)


def _backup(ctx: Context, migration_id: int) -> None:
    """Dump and prove, unless a proved backup of this migration is there already, byte for byte."""
    folder = backup.folder(ctx.conn, ctx.files, migration_id)
    if not backup.is_proved(ctx.conn, migration_id):
        ctx.note(f"backup of {BARS}, {DERIVED}, {REGISTRY} to {folder}")
        with scratch.file(folder, "before") as part:
            figures = backup.dump(ctx.conn, ctx.url, part)
            ctx.at("prepare.dumped")
            ctx.note("restoring the backup into a scratch database")
            post = backup.prove(part, figures, ctx.scratch_url(), lambda: ctx.at("prepare.restored"))
            path = backup.keep(part, folder)
        ctx.write("backup", lambda: backup.record(ctx.conn, migration_id, path, figures, post))
    ctx.at("prepare.proved")


def _snapshot_csv(ctx: Context, migration_id: int) -> None:
    path = backup.folder(ctx.conn, ctx.files, migration_id) / "pre_migration_snapshot.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with ctx.conn.cursor() as cur, path.open("w", newline="") as file:
        cur.execute(
            "SELECT table_name, canonical_symbol, timeframe, row_count, earliest, latest, by_source"
            " FROM dxy.migration_snapshot WHERE migration_id = %s ORDER BY 1, 2, 3",
            (migration_id,),
        )
        writer = csv.writer(file)
        writer.writerow([column.name for column in cur.description or ()])
        writer.writerows(cur.fetchall())


def record_baseline(ctx: Context, migration_id: int, prefix: str, image: str) -> None:
    """Store error rate, latency and freshness of the last 24 hours under `prefix`."""
    values = ledger.rows(ctx.conn, "baseline", {"image": image}, now=ctx.clock.now())[0]
    names = {"error_rate": "%", "latency_p95": "seconds", "freshness": "open minutes"}

    def store() -> None:
        for name, unit in names.items():
            ctx.conn.execute(
                "INSERT INTO dxy.migration_baseline (migration_id, name, value, unit, taken_at)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (migration_id, name) DO NOTHING",
                (migration_id, f"{prefix}.{name}", values[name], unit, ctx.clock.now()),
            )

    ctx.write("baseline", store)


def _definitions(ctx: Context, migration_id: int) -> None:
    """Keep the registry row and the definitions of the DXY functions and constraints as they are now."""

    ctx.write("definitions", lambda: ledger.rows(ctx.conn, "definitions", migration_id=migration_id))


def _tag_columns(ctx: Context) -> None:
    have = inspect(ctx.conn).tables[DERIVED].columns
    missing = {name: kind for name, kind in objects.TAG_COLUMNS.items() if name not in have}
    if missing:
        adds = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {kind}" for name, kind in missing.items())
        ctx.note(f"add {', '.join(missing)} to {DERIVED}")
        statement = trusted(f"ALTER TABLE public.{DERIVED} {adds}")
        ctx.write("tag columns", lambda: ctx.conn.execute(statement), locks_tables=True)


def _tag_index(ctx: Context) -> None:
    """Index the rows that the retirement will tag: empty until then.

    The desk's key index covers live rows only. Without this one each direct write to data_bars, and each day of a
    rollback, reads the whole of legacy for a tagged row (43 ms against 1 ms at 300,000 rows).
    """
    found = [i for i in inspect(ctx.conn).tables[DERIVED].indexes if i.name == objects.TAG_INDEX]
    if found and found[0].valid:
        return
    step = widen.Step(
        f"index {objects.TAG_INDEX} on {DERIVED}",
        trusted(
            f"CREATE INDEX CONCURRENTLY {objects.TAG_INDEX} ON public.{DERIVED} (ts_utc) WHERE dxy_retired_by IS NOT NULL"
        ),
        "SHARE UPDATE EXCLUSIVE while it reads the table",
        concurrent=True,
        undo=trusted(f"DROP INDEX CONCURRENTLY IF EXISTS public.{objects.TAG_INDEX}"),
    )
    widen.apply(ctx.conn, [step], lambda title: _widening(ctx, title), ctx.lease.check)


def _widening(ctx: Context, title: str) -> None:
    """Before each change of the desk's tables, which is a transaction of its own."""
    ctx.note(title)
    ctx.at("prepare.widening")

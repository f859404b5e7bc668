"""backfill: history from legacy into data_bars, day by day; the day's accounting commits with its rows."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import ledger, objects
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.states import State

POLICIES = ("stop", "legacy-wins")
BATCH_DAYS = 7
CLASSES = ("inserted", "identical", "reconciled", "superseded", "unverifiable", "conflict")


def run(
    ctx: Context, *, days: Sequence[date] | None = None, policy: str = "stop", again: bool = False
) -> dict[str, Any]:
    """Copy the pending days (or `days`; `again`: done ones too). Returns the summed accounting.

    Stops within one batch when paused. Raises UserError when a day has conflicts under the policy 'stop', or is none of
    the migration's: what could be copied is, the conflicting minutes are untouched and listed.
    """
    control = ctx.control()
    if policy not in POLICIES:
        raise UserError(f"unknown conflict policy {policy!r}", hint=f"one of {', '.join(POLICIES)}")
    if control.state not in {State.DUAL_WRITE, State.VERIFIED} or control.direction != "forward":
        raise UserError(
            f"backfill needs the state dual_write; the migration is in state {control.state}",
            hint="run `dxy migrate dual-write --readers-moved` first",
        )
    objects.require_triggers(ctx.conn)
    ctx.at("backfill.begun")
    _list_new_days(ctx, control.migration_id)
    todo = _pending(ctx, control.migration_id, days, again=again)
    total = dict.fromkeys(("scanned", *CLASSES), 0)
    for first in range(0, len(todo), BATCH_DAYS):
        if ctx.control().paused:
            ctx.note("paused; `dxy migrate resume` goes on")
            return {"paused": True, "days done": first, "days left": len(todo) - first, **total}
        batch = todo[first : first + BATCH_DAYS]
        for row in ctx.write("backfill", lambda batch=batch: _copy(ctx, control.migration_id, batch, policy)):
            for name in total:
                total[name] += row[name]
        ctx.progress("days", first + len(batch), len(todo))
        ctx.at("backfill.committed")
    ctx.at("backfill.done")
    if total["conflict"] and policy == "stop":
        raise UserError(
            f"{total['conflict']} minutes are in both tables with different prices",
            hint="see `dxy migrate conflicts`; then correct a side, or backfill with --on-conflict legacy-wins",
        )
    if todo:
        ctx.write("audit", lambda: ctx.audit("backfill", {"days": len(todo), "policy": policy, **total}))
    if unknown := _unlisted(ctx, control.migration_id, days or ()):
        raise UserError(
            f"no DXY minute to copy on {', '.join(map(str, unknown))}", hint="`dxy migrate plan --days` lists the days"
        )
    return {"days": len(todo), **total}


def _copy(ctx: Context, migration_id: int, batch: Sequence[date], policy: str) -> list[dict[str, Any]]:
    done = []
    for day in batch:
        cur = ctx.conn.execute(
            "SELECT * FROM dxy.backfill_day(%s, %s, %s, %s)", (migration_id, day, policy, ctx.lease.fence)
        )
        names = [column.name for column in cur.description or ()]
        row = cur.fetchone()
        done.append(dict(zip(names, row or (), strict=True)))
    ctx.at("backfill.batch!")
    return done


def _list_new_days(ctx: Context, migration_id: int) -> None:
    """Days that got their first legacy row after `prepare` listed them are units too."""

    def add() -> None:
        ctx.conn.execute(
            "INSERT INTO dxy.migration_unit (migration_id, day)"
            " SELECT %s, d.day FROM (SELECT DISTINCT (l.ts_utc AT TIME ZONE 'UTC')::date AS day"
            " FROM public.derived_data_bars AS l WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m'"
            " AND l.deleted_at IS NULL) AS d ON CONFLICT DO NOTHING",
            (migration_id,),
        )

    ctx.write("units", add)


def _unlisted(ctx: Context, migration_id: int, days: Sequence[date]) -> list[date]:
    rows = ctx.conn.execute("SELECT u.day FROM dxy.migration_unit AS u WHERE u.migration_id = %s", (migration_id,))
    return sorted(set(days) - {row[0] for row in rows})


def _pending(ctx: Context, migration_id: int, days: Sequence[date] | None, *, again: bool) -> list[date]:
    rows = ctx.conn.execute(
        "SELECT u.day FROM dxy.migration_unit AS u WHERE u.migration_id = %s AND (u.state <> 'done' OR %s)"
        " AND (%s::date[] IS NULL OR u.day = ANY (%s::date[])) ORDER BY u.day",
        (migration_id, again, days, days),
    ).fetchall()
    return [row[0] for row in rows]


def conflicts(conn: Any, migration_id: int) -> list[dict[str, Any]]:
    """The conflict report: key, legacy price, target price, recomputed price, decision."""
    return ledger.rows(conn, "conflicts", migration_id=migration_id)

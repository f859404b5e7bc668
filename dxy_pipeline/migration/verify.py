"""verify: count and content of both tables compared day by day in one snapshot, the differing minutes listed.

What differs is for an operator to look at (or for repair.py to mend, which never counts as a verification).
"""

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg

from dxy_pipeline.db.shape import inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import ledger, objects, states
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.states import State


@dataclass(frozen=True)
class Comparison:
    """What one snapshot showed."""

    legacy_rows: int
    target_rows: int
    native_only: int
    failures: list[dict[str, Any]]
    horizon: str
    days: tuple[date, ...] = ()
    total: int = 0
    only_legacy: int = 0
    only_bars: int = 0

    @property
    def differing(self) -> int:
        """How many minutes differ; `failures` lists the first thousand."""
        return max(self.total, len(self.failures))

    @property
    def ok(self) -> bool:
        """Whether both tables hold the same."""
        return not self.failures


def compare(conn: psycopg.Connection[Any], days: list[date] | None = None, *, keys: str = "verify_keys") -> Comparison:
    """Compare in one REPEATABLE READ snapshot (or in the caller's transaction). `days` None: everything.

    `keys`: the query that lists the minutes which matter on days that differ (`at_risk`: those that a rollback would lose).
    """
    if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        return _compare(conn, days, keys)
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        return _compare(conn, days, keys)
    finally:
        conn.rollback()


def _compare(conn: psycopg.Connection[Any], days: list[date] | None, keys: str) -> Comparison:
    # Under row security of another role both sides may look empty, and 0 = 0: this makes that an error.
    # The planner takes each minute for a day of its own and would not let workers sum up days: hence the two costs.
    conn.execute("SELECT set_config('row_security', 'off', true), set_config('jit', 'off', true),"
                 " set_config('work_mem', '64MB', true), set_config('parallel_tuple_cost', '0', true),"
                 " set_config('parallel_setup_cost', '0', true)")  # fmt: skip
    row = conn.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
    fills = {"legacy": _legacy(conn)}
    found = (
        ledger.rows(conn, "verify_days", fills)
        if days is None
        else ledger.rows(conn, "verify_some_days", fills, days=days)
    )
    wrong = [r["day"] for r in found if not r["equal"]]
    failures = ledger.rows(conn, keys, fills, days=wrong) if wrong else []
    counted = {name: failures[0][name] if failures else 0 for name in ("total", "only_legacy", "only_bars")}
    failures = [{name: value for name, value in f.items() if name not in counted} for f in failures]
    if keys == "verify_keys":
        if wrong and not failures:
            failures = [{"ts_utc": None, "problem": f"content of {day} differs"} for day in wrong]
        vanished = [{**r, "problem": "native row vanished"} for r in ledger.rows(conn, "verify_native")]
        failures += vanished
        counted["total"] += len(vanished)
    return Comparison(
        sum(r["legacy_rows"] for r in found),
        sum(r["target_rows"] for r in found),
        found[0]["native_only"] if found else 0,
        failures,
        row[0] if row else "0",
        tuple(wrong),
        **counted,
    )


def _legacy(conn: psycopg.Connection[Any]) -> str:
    """The view of legacy to compare with: once rows are retired, those count for the minutes that they were."""
    retired = conn.execute("SELECT 1 FROM dxy.migration_retired AS r WHERE r.tagged > 0 LIMIT 1").fetchone()
    return "dxy.legacy_held" if retired else "dxy.legacy_image"


def run(ctx: Context) -> dict[str, Any]:
    """Verify everything; clean, the state becomes verified; not clean, it goes back to dual_write.

    Raises UserError while days are missing or failed, or a trigger is not in order.
    """
    before = ctx.control()
    if before.direction != "forward" or before.state not in states.DUAL:
        states.target("verify", before.state if before.direction == "forward" else State.ROLLED_BACK)
    objects.deploy(ctx.conn, inspect(ctx.conn), ctx.lease.check)
    objects.require_triggers(ctx.conn)
    if before.state is not State.CUT_OVER and (why := days_missing(ctx.conn)):
        raise UserError(why, hint="run `dxy migrate backfill` first")
    ctx.at("verify.begun")
    result = compare(ctx.conn)
    ctx.at("verify.compared")
    record(ctx, before, result)
    ctx.at("verify.done")
    return {
        "ok": result.ok,
        "state": ctx.control().state.value,
        "legacy rows": result.legacy_rows,
        "data_bars rows": result.target_rows,
        "native rows left out": result.native_only,
        "differing": result.differing,
        "failures": result.failures,
    }


def record(ctx: Context, before: ledger.Control, result: Comparison, kind: str = "full") -> int:
    """Enter the result in the ledger and move the state; returns the verification's number."""

    def store() -> int:
        row = ctx.conn.execute(
            "INSERT INTO dxy.migration_verification (migration_id, kind, ok, legacy_rows, target_rows, native_only,"
            " failures, horizon, verified_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s::text::xid8, %s) RETURNING id",
            (before.migration_id, kind, result.ok, result.legacy_rows, result.target_rows, result.native_only,
             json.dumps(result.failures[:1000], default=str), result.horizon, ctx.clock.now()),
        ).fetchone()  # fmt: skip
        if row is None:
            raise RuntimeError("INSERT … RETURNING gave no row")
        details = {"verification": row[0], "failures": result.differing}
        if before.state is State.CUT_OVER:
            ctx.audit("verify", details)
            ctx.conn.execute(
                "UPDATE dxy.migration_control SET verified_by = %s, repaired_after = NOT %s", (row[0], result.ok)
            )
        elif result.ok:
            ctx.move("verify", before, sets={"verified_by": row[0], "repaired_after": False}, details=details)
        elif before.state is State.VERIFIED:
            ctx.move("unverify", before, sets={"verified_by": None}, details=details)
        else:
            ctx.audit("verify", details)
        ctx.at("verify.recorded!")
        return int(row[0])

    return ctx.write("verify", store)


def days_missing(conn: psycopg.Connection[Any]) -> str:
    """Say which days the backfill has not done yet; empty when there are none."""
    rows = conn.execute(
        "SELECT u.state, count(*), min(u.day) FROM dxy.migration_unit AS u"
        " JOIN dxy.migration_control AS c ON c.migration_id = u.migration_id WHERE u.state <> 'done' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return f"{rows[0][1]} days are {rows[0][0]}, the first is {rows[0][2]}" if rows else ""

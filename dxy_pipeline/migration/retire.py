"""retire: after the healthy window legacy rows are soft-deleted with this migration's tag, and legacy is closed.

The rows go day by day while the mirror still works; the last transaction takes what came meanwhile, adds the CHECK that
stops a forgotten legacy writer, and drops the triggers. Nothing is purged.
"""

from typing import Any

from dxy_pipeline.db.shape import DERIVED, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import cutover, health, ledger, objects, states, verify
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.prepare import record_baseline
from dxy_pipeline.migration.states import State
from dxy_pipeline.sql import trusted

BATCH_DAYS = 7
_MEND = "`dxy migrate verify --repair` makes legacy equal to data_bars; then `dxy migrate verify`"


def run(ctx: Context) -> dict[str, Any]:
    """Retire legacy. Raises UserError while the health window is not green, or when the tables differ."""
    before = ctx.control()
    if before.state is State.RETIRED and before.direction == "forward":
        _validate(ctx)  # cut off between the closing and the validation
        return {"state": "retired", "retired": 0}
    states.target("retire", before.state)
    cutover.refuse_unproved(before)
    objects.require_triggers(ctx.conn)
    window = health.window(ctx.conn, before, ctx.clock.now())
    if not window.green:
        raise UserError(
            f"the health window is not green: {window.reached} of {window.needed} open minutes; {window.missing}",
            hint="keep `dxy migrate watch --every 300` running, then run it again",
        )
    ctx.at("retire.begun")
    # Every time, days that are retired already included: between two runs anything may have happened.
    objects.deploy(ctx.conn, inspect(ctx.conn))
    _refuse_difference(verify.compare(ctx.conn))
    record_baseline(ctx, before.migration_id, "after", "dxy.bars_image")
    retired = _batches(ctx, before.migration_id)
    counted = ledger.counts(ctx.conn)  # before the locks: it reads both tables whole

    def close() -> int:
        ctx.conn.execute("SELECT pg_advisory_xact_lock(7411, -3)")
        ctx.conn.execute("LOCK TABLE public.derived_data_bars, public.data_bars IN SHARE ROW EXCLUSIVE MODE")
        rest = sum(_retire_day(ctx, before.migration_id, row["day"]) for row in ledger.rows(ctx.conn, "legacy_days"))
        ledger.rows(ctx.conn, "native_at_retire")
        objects.detach(ctx.conn)
        ctx.conn.execute(
            trusted(
                f"ALTER TABLE public.{DERIVED} DROP CONSTRAINT IF EXISTS {objects.RETIRED_CHECK},"
                f" ADD CONSTRAINT {objects.RETIRED_CHECK}"
                " CHECK (deleted_at IS NOT NULL OR canonical_symbol <> 'DXY' OR timeframe <> '1m') NOT VALID"
            )
        )
        window_at = {"health_minutes": window.needed, "reached": window.reached}
        ctx.move("retire", before, details={"retired": retired + rest, "health window": window_at},
                 after=_less(counted, rest))  # fmt: skip
        ctx.at("retire.closing!")
        return rest

    retired += ctx.write("retire", close, locks_tables=True)
    ctx.at("retire.closed")
    _validate(ctx)
    ctx.at("retire.done")
    return {"state": "retired", "retired": retired}


def _less(counted: dict[str, int], retired: int) -> dict[str, int]:
    """The counts after so many more rows were retired."""
    return {
        **counted,
        "legacy_active": counted["legacy_active"] - retired,
        "legacy_deleted": counted["legacy_deleted"] + retired,
    }


def _batches(ctx: Context, migration_id: int) -> int:
    days = [row["day"] for row in ledger.rows(ctx.conn, "legacy_days")]
    total = 0
    for first in range(0, len(days), BATCH_DAYS):
        batch = days[first : first + BATCH_DAYS]

        def work(batch: list[Any] = batch) -> int:
            count = sum(_retire_day(ctx, migration_id, day) for day in batch)
            ctx.at("retire.batch!")
            return count

        total += ctx.write("retire", work)
        ctx.progress("days retired", min(first + BATCH_DAYS, len(days)), len(days))
        ctx.at("retire.committed")
    return total


def _retire_day(ctx: Context, migration_id: int, day: Any) -> int:
    row = ctx.conn.execute("SELECT * FROM dxy.retire_day(%s, %s)", (migration_id, day)).fetchone()
    retired, differing = row or (0, 0)
    if differing:
        raise UserError(f"{differing} minutes of {day} differ; they were not retired", hint=_MEND)
    return int(retired)


def _validate(ctx: Context) -> None:
    """In a transaction of its own: together with the ADD it would keep the exclusive lock while it reads the table."""
    table = inspect(ctx.conn).tables[DERIVED]
    if any(c.name == objects.RETIRED_CHECK and not c.validated for c in table.checks):
        ctx.note(f"validate the CHECK {objects.RETIRED_CHECK}")
        ctx.write(
            "validate",
            lambda: ctx.conn.execute(
                trusted(f"ALTER TABLE public.{DERIVED} VALIDATE CONSTRAINT {objects.RETIRED_CHECK}")
            ),
            locks_tables=True,
        )


def _refuse_difference(result: verify.Comparison) -> None:
    if not result.ok:
        first = result.failures[0]
        raise UserError(
            f"{result.differing} minutes differ, the first at {first['ts_utc']}: {first['problem']}; nothing was retired",
            hint=_MEND,
        )

"""dual-write: from here on every DXY 1m change that reaches one table reaches the other, whoever makes it.

Run again in a later state it restores missing or disabled triggers; what was written meanwhile counts as unverified.
"""

from typing import Any

import psycopg

from dxy_pipeline.db.shape import inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import ledger, objects, states
from dxy_pipeline.migration.context import Context
from dxy_pipeline.sql import trusted

_NOTED = (
    "migration_native",
    "migration_direct",
    "migration_dirty",
    "migration_undo",
    "migration_retired",
    "migration_left",
)


def run(ctx: Context, *, readers_moved: bool) -> dict[str, Any]:
    """Attach the mirror. Raises UserError without `readers_moved`: a reader that adds both tables counts twice."""
    before = ctx.control()
    restoring = before.state in states.DUAL and before.direction == "forward"
    if not restoring:
        states.target("dual-write", before.state)
    if not readers_moved:
        raise UserError(
            readers_in_the_way(ctx.conn),
            hint="move them to the view dxy.dxy_1m_active, then run it again with --readers-moved",
        )
    ctx.at("dual-write.begun")
    objects.deploy(ctx.conn, inspect(ctx.conn), ctx.lease.check)
    if restoring:
        return _restore(ctx)

    counted = ledger.counts(ctx.conn)  # before the locks: it reads both tables whole

    def attach() -> int:
        for table in _NOTED:
            ctx.conn.execute(trusted(f"DELETE FROM dxy.{table}"))  # noqa: S608 - one of these names
        objects.attach(ctx.conn)
        ctx.at("dual-write.attached!")
        ledger.rows(ctx.conn, "native_record")
        row = ctx.conn.execute("SELECT count(*) FROM dxy.migration_native").fetchone()
        native = row[0] if row else 0
        ctx.move("dual-write", before, details={"native_rows": native}, after=counted)
        ctx.at("dual-write.recorded!")
        return native

    native = ctx.write("dual write", attach, locks_tables=True)
    ctx.at("dual-write.done")
    return {"state": "dual_write", "native rows": native, "triggers": len(objects.TRIGGERS)}


def readers_in_the_way(conn: psycopg.Connection[Any]) -> str:
    """Why somebody has to say that readers were moved, with those that the database itself knows of."""
    found = [row["name"] for row in ledger.rows(conn, "readers")]
    named = f" (in this database: {', '.join(found[:3])})" if found else ""
    return f"readers that add both tables would count each DXY minute twice{named}"


def _restore(ctx: Context) -> dict[str, Any]:
    missing = restore(ctx)
    return {"state": ctx.control().state.value, "restored": missing or "nothing was missing"}


def restore(ctx: Context) -> list[str]:
    """Put missing, disabled or altered triggers back and return their names; the tables count as unverified then."""
    muted = ctx.control().muted
    missing = objects.missing_triggers(ctx.conn, muted=muted)

    def work() -> None:
        objects.attach(ctx.conn, muted=muted)
        ctx.conn.execute("UPDATE dxy.migration_control SET repaired_after = true")
        ctx.audit("restore-triggers", {"missing": missing})
        ctx.at("restore.attached!")

    if missing:
        ctx.write("restore triggers", work, locks_tables=True)
        ctx.at("restore.done")
    return missing

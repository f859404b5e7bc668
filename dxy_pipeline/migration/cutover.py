"""cutover: readers switch to data_bars in one transaction, after a full verification and a second look under the gate.

The gate is an advisory lock that readers which choose the table themselves share (dxy.reading_table()).
"""

from typing import Any

from dxy_pipeline.db import registry
from dxy_pipeline.db.shape import BARS, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import ledger, objects, states, verify
from dxy_pipeline.migration.context import Context


def run(ctx: Context) -> dict[str, Any]:
    """Switch readers. Raises UserError, with nothing switched, when anything differs or was repaired since."""
    before = ctx.control()
    states.target("cutover", before.state)
    refuse_unproved(before)
    objects.require_triggers(ctx.conn)
    ctx.at("cutover.begun")
    # Everything first, with nobody held off: a write that evaded the mirror is in no log of changed days.
    full = verify.compare(ctx.conn)
    if not full.ok:
        verify.record(ctx, before, full, "cutover")
        raise UserError(
            f"{full.differing} minutes differ, the first at {full.failures[0]['ts_utc']}:"
            f" {full.failures[0]['problem']}; nothing was switched",
            hint="dxy migrate verify shows them; mend, verify, then cut over",
        )
    verify.record(ctx, before, full, "cutover")
    before = ctx.control()
    ctx.at("cutover.verified")
    counted = ledger.counts(ctx.conn)  # before the locks: it reads both tables whole

    def switch() -> dict[str, Any]:
        ctx.conn.execute("SELECT pg_advisory_xact_lock(7411, -3)")
        ctx.at("cutover.gate!")
        ctx.conn.execute("LOCK TABLE public.derived_data_bars, public.data_bars IN SHARE ROW EXCLUSIVE MODE")
        changed = [row["day"] for row in ledger.rows(ctx.conn, "dirty_days", horizon=full.horizon)]
        delta = verify.compare(ctx.conn, changed)
        if not delta.ok:
            raise UserError(f"{delta.differing} minutes changed and differ; nothing was switched",
                            hint="dxy migrate verify")  # fmt: skip
        objects.require_triggers(ctx.conn)
        ctx.move("cutover", before, sets={"read_from": "data_bars", "cut_over_at": ctx.clock.now()},
                 details={"days looked at again": len(changed)}, after=counted)  # fmt: skip
        registry.upsert(ctx.conn, inspect(ctx.conn), data_location=BARS)
        ctx.at("cutover.flipped!")
        return {"state": "cut_over", "rows": full.target_rows, "days looked at again": len(changed)}

    result = ctx.write("cutover", switch, locks_tables=True)
    ctx.at("cutover.done")
    return result


def refuse_unproved(control: ledger.Control) -> None:
    """Raise UserError unless the last verification was clean and nothing was repaired since."""
    if control.verified_by is None or control.repaired_after:
        raise UserError(
            "there was a repair after the last clean verification" if control.repaired_after else "nothing is verified",
            hint="run `dxy migrate verify` first",
        )

"""What a rollback proves before it takes anything away: nothing that an application wrote would be lost.

Refusing is cheap while nothing has changed; after the undo has begun there is nothing left to compare with.
"""

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import dual_write, ledger, verify
from dxy_pipeline.migration.context import Context


def require_retired_rows(ctx: Context) -> None:
    """Raise UserError when rows that the retirement tagged are not there any more: history would be lost with data_bars."""
    found = {row["day"]: row["tagged"] for row in ledger.rows(ctx.conn, "tagged_days")}
    gone = {
        day: tagged - found.get(day, 0)
        for day, tagged in ctx.conn.execute(
            "SELECT r.day, r.tagged FROM dxy.migration_retired AS r ORDER BY 1"
        ).fetchall()
        if tagged > found.get(day, 0)
    }
    if gone:
        refuse_gone(sum(gone.values()), min(gone))


def refuse_gone(rows: int, day: object) -> None:
    """Raise the UserError that says so."""
    raise UserError(
        f"{rows} rows that were retired are gone from derived_data_bars, the first of {day}; data_bars alone has them now",
        hint="after a purge there is no way back; restore those rows from a backup with their tag to roll back",
    )


def compare(ctx: Context) -> verify.Comparison:
    """Restore missing triggers, compare everything, and return the proof.

    Raises UserError for minutes that would be lost: the two tables differ there and no write that was seen explains it.
    """
    dual_write.restore(ctx)
    found = verify.compare(ctx.conn, keys="at_risk")
    _refuse(found)
    return found


def again(ctx: Context, proof: verify.Comparison) -> None:
    """Compare the days that changed since `proof`, in the caller's transaction, which keeps writers off."""
    changed = [row["day"] for row in ledger.rows(ctx.conn, "dirty_days", horizon=proof.horizon)]
    _refuse(verify.compare(ctx.conn, changed, keys="at_risk"))


def _refuse(found: verify.Comparison) -> None:
    if found.failures:
        first = found.failures[0]
        raise UserError(
            f"{found.differing} minutes differ and a rollback would lose a side of them, the first at {first['ts_utc']}:"
            f" {first['problem']}; nothing was taken back",
            hint="`dxy migrate verify --repair` mends them and keeps both sides (--on-extra copy: also those that readers"
            " do not see); then `dxy migrate rollback`",
        )

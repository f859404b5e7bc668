"""verify --repair: make the table that readers do not use equal to the one they use, minute by minute, with both rows kept.

A minute that only the other table has is somebody's write or somebody's delete that passed the mirror by; nobody but the
operator can tell which, so it takes a word to copy or to delete it. A repair never counts as a verification.
"""

from typing import Any

from dxy_pipeline.db.shape import inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import ledger, objects, states, verify
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.states import State

EXTRAS = ("copy", "delete")


def run(ctx: Context, *, extra: str = "") -> dict[str, Any]:
    """Mend all minutes that differ, in batches, until none is left. Also while a rollback waits for it.

    `extra`: what becomes of minutes that readers do not see: 'copy' them to the readers' table or 'delete' them. Raises
    UserError without it when there are any; nothing is changed then.
    """
    before = ctx.control()
    if extra not in {"", *EXTRAS}:
        raise UserError(f"unknown way {extra!r} with minutes that one table has alone", hint=" or ".join(EXTRAS))
    if before.state not in states.DUAL or before.muted:
        states.target("verify", State.ROLLED_BACK if before.muted else before.state)
    objects.deploy(ctx.conn, inspect(ctx.conn), ctx.lease.check)
    objects.require_triggers(ctx.conn)
    # History that is still to be copied is the backfill's; before that only what no backfill would bring is mended.
    unfinished = before.state is not State.CUT_OVER and verify.days_missing(ctx.conn)
    keys = "at_risk" if unfinished else "verify_keys"
    ctx.at("repair.begun")
    repaired, seen, found = 0, set[Any](), verify.compare(ctx.conn, keys=keys)
    _refuse_extra(found, before.read_from, extra)
    while fresh := [f["ts_utc"] for f in found.failures if _mendable(f) and f["ts_utc"] not in seen]:
        seen.update(fresh)
        repaired += _batch(ctx, before, fresh, extra)
        ctx.lease.renew()
        ctx.at("repair.committed")
        found = verify.compare(ctx.conn, list(found.days), keys=keys)
    return {"repaired": repaired, "left": found.differing, "next": "dxy migrate verify"}


def _mendable(failure: dict[str, Any]) -> bool:
    return failure["ts_utc"] is not None and failure["problem"] != "native row vanished"


def _refuse_extra(found: verify.Comparison, source: str, extra: str) -> None:
    other, alone = ("data_bars", found.only_bars) if source == "legacy" else ("derived_data_bars", found.only_legacy)
    if alone and not extra:
        raise UserError(
            f"only {other} has {alone} of the minutes that differ; readers do not see them",
            hint="`dxy migrate verify --repair --on-extra copy` copies them to the table that readers use;"
            " --on-extra delete removes them (both keep the rows in dxy.migration_repair)",
        )


def _batch(ctx: Context, before: ledger.Control, minutes: list[Any], extra: str) -> int:
    def mend() -> int:
        row = ctx.conn.execute(
            "SELECT dxy.repair_minutes(%s, %s, %s, %s)",
            (before.migration_id, minutes, before.read_from, extra or None),
        ).fetchone()
        ctx.conn.execute("UPDATE dxy.migration_control SET repaired_after = true")
        details = {"minutes": len(minutes), "first": str(minutes[0]), "from": before.read_from, "extra": extra}
        ctx.audit("repair", details)
        ctx.at("repair.batch!")
        return int(row[0]) if row else 0

    return ctx.write("repair", mend)

"""rollback: from every state back to legacy, exact as docs/migration.md promises, in batches while writers go on.

From retired: the mirror comes back; tagged rows are un-deleted, and what data_bars took since is pulled back, while legacy
stays closed to its own writers; then it opens. Then both tables are compared, and what no write that was seen explains stops
it (proof.py). Then readers return to legacy; then the way legacy -> data_bars is muted and data_bars is taken back day by
day; last the triggers go and the registry row returns. Cut off anywhere, the same command goes on.
"""

import json
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import psycopg

from dxy_pipeline.core.index import DXY, SYMBOLS
from dxy_pipeline.db.fitness import WANTED_COLUMNS
from dxy_pipeline.db.shape import DERIVED, REGISTRY, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import dual_write, ledger, objects, proof, states, verify
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.states import State
from dxy_pipeline.sql import trusted

BATCH_DAYS = 7
_TOTALS = (
    "un-deleted",
    "pulled to legacy",
    "removed from data_bars",
    "restored in data_bars",
    "kept, unexplained",
)
NOT_RESTORED = (
    "ctid and xmin, heap order, bloat, sequence positions, ids of mirrored rows, added columns, the wider CHECK"
)


def run(ctx: Context) -> dict[str, Any]:
    """Go back. Returns what was undone and what is not restored."""
    before = ctx.control()
    if before.state in {State.NONE, State.LEGACY, State.ROLLED_BACK}:
        if before.preparing:
            return _abandon(ctx)
        states.target("rollback", before.state)
    proof.require_retired_rows(ctx)
    proved = proof.compare(ctx) if before.direction == "forward" and before.state in states.DUAL else None
    ctx.write("rollback", lambda: _begin(ctx))
    ctx.at("rollback.begun")
    totals = dict.fromkeys(_TOTALS, 0)
    if ctx.control().state in {State.RETIRED, State.CUT_OVER}:
        objects.deploy(ctx.conn, inspect(ctx.conn), ctx.lease.check)
    if ctx.control().state is State.RETIRED:
        _locked(ctx, _reopen)
    if ctx.control().state is State.CUT_OVER:
        proved = None if _unretire(ctx, totals) else proved
        if objects.is_closed(ctx.conn):
            ctx.write("rollback", lambda: _open(ctx), locks_tables=True)
    ctx.at("rollback.unretired")
    if ctx.control().state in states.DUAL and not ctx.control().muted:
        proved = proved or proof.compare(ctx)
        ctx.at("rollback.proved")
        _cut(ctx, proved)
    if ctx.control().state is State.DUAL_WRITE:
        dual_write.restore(ctx)
        _undo(ctx, totals)
    ctx.at("rollback.undone")
    _locked(ctx, _close)
    ctx.at("rollback.done")
    return {"state": "rolled_back", **totals, "not restored": NOT_RESTORED}


def _cut(ctx: Context, proved: verify.Comparison) -> None:
    """Readers return to legacy, and data_bars follows legacy no more."""
    if ctx.control().state is not State.DUAL_WRITE:
        _locked(ctx, _readers_back)
    ctx.write("rollback", lambda: _mute(ctx, proved), locks_tables=True)


def _locked(ctx: Context, work: Callable[[Context, dict[str, int]], None]) -> None:
    """Run a step that holds others off. The rows are counted before it: that reads both tables whole."""
    counted = ledger.counts(ctx.conn)
    ctx.write("rollback", lambda: work(ctx, counted), locks_tables=True)


def _abandon(ctx: Context) -> dict[str, Any]:
    """A prepare that was cut off: nothing of the desk's is changed but added columns and the wider CHECK."""

    def work() -> None:
        now = ctx.control()
        _restore_registry(ctx, now.migration_id)
        objects.withdraw(ctx.conn)
        objects.drop_tag_index(ctx.conn)
        ctx.conn.execute("UPDATE dxy.migration_control SET preparing = false")
        ctx.audit("abandon")
        ctx.at("abandon.closing!")

    ctx.write("rollback", work, locks_tables=True)
    ctx.at("abandon.done")
    return {"state": ctx.control().state.value, "not restored": NOT_RESTORED}


def _begin(ctx: Context) -> None:
    ctx.conn.execute("UPDATE dxy.migration_control SET direction = 'rollback', paused = false, verified_by = NULL")


def _reopen(ctx: Context, counted: dict[str, int]) -> None:
    """The mirror works again, in one transaction with the end of the CHECK: no write falls between.

    Legacy stays closed to its own writers: one of theirs would go to data_bars over a write that data_bars took while
    there was no mirror, and that write would be forgotten.
    """
    objects.attach(ctx.conn)
    objects.close_legacy(ctx.conn)
    ctx.conn.execute(trusted(f"ALTER TABLE public.{DERIVED} DROP CONSTRAINT IF EXISTS {objects.RETIRED_CHECK}"))
    ctx.move("reopen", ctx.control(), after=counted)
    ctx.at("rollback.reopened!")


def _open(ctx: Context) -> None:
    objects.open_legacy(ctx.conn)
    ctx.at("rollback.opened!")


def _unretire(ctx: Context, totals: dict[str, int]) -> bool:
    """Un-delete what the retirement took away and pull what data_bars took since; False: nothing was retired."""
    tagged = {row["day"] for row in ledger.rows(ctx.conn, "tagged_days")}
    if not (tagged or _reopened(ctx)):
        return False
    days = sorted(tagged | {row["day"] for row in ledger.rows(ctx.conn, "bars_days")})
    done = _day_by_day(ctx, days, "unretire_day", lambda: ctx.at("rollback.unretire!"), "un-deleted")
    for day, (undeleted, pulled, gone) in done:
        if gone > 0:
            proof.refuse_gone(gone, day)
        totals["un-deleted"] += undeleted
        totals["pulled to legacy"] += pulled
    return True


def _day_by_day(
    ctx: Context, days: list[date], function: str, reached: Callable[[], None], said: str
) -> Iterator[tuple[date, tuple[int, int, int]]]:
    """Call one of the day functions for each day, in batches of one transaction each, and yield what it returned."""
    for first in range(0, len(days), BATCH_DAYS):
        batch = days[first : first + BATCH_DAYS]

        def work(batch: list[date] = batch) -> list[tuple[date, tuple[int, int, int]]]:
            done = []
            for day in batch:
                row = ctx.conn.execute(trusted(f"SELECT * FROM dxy.{function}(%s)"), (day,)).fetchone()  # noqa: S608 - ours
                done.append((day, row or (0, 0, 0)))
            reached()
            return done

        yield from ctx.write("rollback", work)
        ctx.progress(f"days {said}", min(first + BATCH_DAYS, len(days)), len(days))


def _reopened(ctx: Context) -> bool:
    """Whether this rollback came from retired: then days without a tag have writes that legacy lacks, too.

    A run that was cut off after the last tagged day finds no tag any more, so the tags alone do not tell.
    """
    row = ctx.conn.execute(
        "SELECT a.action FROM dxy.migration_audit AS a WHERE a.from_state <> a.to_state ORDER BY a.id DESC LIMIT 1"
    ).fetchone()
    return row == ("reopen",)


def _readers_back(ctx: Context, counted: dict[str, int]) -> None:
    """Readers return to legacy under the gate; the mirror still works both ways."""
    ctx.conn.execute("SELECT pg_advisory_xact_lock(7411, -3)")
    now = ctx.control()
    ctx.move("readers-back", now, sets={"read_from": "legacy", "verified_by": None}, after=counted)
    _restore_registry(ctx, now.migration_id)
    ctx.at("rollback.readers!")


def _mute(ctx: Context, proved: verify.Comparison) -> None:
    """Legacy writes no longer reach data_bars, which would chase them for ever; they are noted. Holds up writers only."""
    objects.attach(ctx.conn, muted=True)
    proof.again(ctx, proved)
    ctx.conn.execute("UPDATE dxy.migration_control SET muted = true")
    ctx.at("rollback.muted!")


def _undo(ctx: Context, totals: dict[str, int]) -> None:
    wanted = {row["day"] for row in ledger.rows(ctx.conn, "bars_days")}
    undo = ctx.conn.execute(
        "SELECT DISTINCT (u.ts_utc AT TIME ZONE 'UTC')::date FROM dxy.migration_undo AS u"
    ).fetchall()
    days = sorted(wanted | {row[0] for row in undo})
    for _, (removed, restored, kept) in _day_by_day(ctx, days, "undo_day", lambda: ctx.at("rollback.undo!"), "undone"):
        totals["removed from data_bars"] += removed - restored
        totals["restored in data_bars"] += restored
        totals["kept, unexplained"] += kept


def _close(ctx: Context, counted: dict[str, int]) -> None:
    now = ctx.control()
    if ctx.conn.execute("SELECT 1 WHERE to_regclass('dxy.migration_undo') IS NOT NULL").fetchone():
        left = ctx.conn.execute("SELECT count(*) FROM dxy.migration_undo").fetchone()
        if left and left[0]:
            raise UserError(f"{left[0]} rows are not restored yet", hint="run `dxy migrate rollback` again")
    _restore_registry(ctx, now.migration_id)
    ctx.move("rollback", now, sets={"direction": "forward", "read_from": "legacy", "cut_over_at": None,
                                    "repaired_after": False, "verified_by": None, "muted": False}, after=counted)  # fmt: skip
    objects.withdraw(ctx.conn)
    objects.detach(ctx.conn)  # last: from here to the commit nobody reads
    objects.drop_tag_index(ctx.conn)
    ctx.at("rollback.closing!")


def _restore_registry(ctx: Context, migration_id: int) -> None:
    """Put DXY's registry row back as `prepare` found it; what was not there then is emptied.

    That is a column that we added since, or the whole row, where a foreign key keeps it.
    """
    rows = ctx.conn.execute(
        "SELECT d.name, d.definition FROM dxy.migration_definition AS d"
        " WHERE d.migration_id = %s AND d.name IN ('registry', 'registry symbols')",
        (migration_id,),
    ).fetchall()
    saved = dict(rows)
    if "registry symbols" not in saved:  # cut off before it was looked at: it is as it was
        return
    columns = inspect(ctx.conn).tables[REGISTRY].columns
    _remove_added_symbols(ctx, migration_id)
    was = saved.get("registry", {})
    names = [name for name in was if name in columns and name != "canonical_symbol"]
    added = [name for name in WANTED_COLUMNS[REGISTRY] if name in columns and name not in was]
    pairs = ", ".join([*(f'"{name}" = s."{name}"' for name in names), *(f'"{name}" = DEFAULT' for name in added)])
    ctx.conn.execute(
        trusted(
            f"UPDATE public.{REGISTRY} AS r SET {pairs}"  # noqa: S608 - names are the catalog's
            f" FROM jsonb_populate_record(NULL::public.{REGISTRY}, %s::text::jsonb) AS s WHERE r.canonical_symbol = %s"
        ),
        (json.dumps(was), DXY),
    )


def _remove_added_symbols(ctx: Context, migration_id: int) -> None:
    """Take out the registry rows that `prepare` added; one that bars refer to by a foreign key has to stay."""
    try:
        with ctx.conn.transaction():
            ctx.conn.execute(
                trusted(
                    f"DELETE FROM public.{REGISTRY} AS r USING dxy.migration_definition AS d"  # noqa: S608
                    " WHERE d.migration_id = %s AND d.name = 'registry symbols' AND r.canonical_symbol = ANY (%s)"
                    " AND NOT coalesce(d.definition, '[]') ? r.canonical_symbol"
                ),
                (migration_id, [DXY, *SYMBOLS]),
            )
    except psycopg.errors.ForeignKeyViolation:
        ctx.note("registry rows that bars refer to stay")

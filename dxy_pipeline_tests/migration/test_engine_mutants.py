"""Deliberate faults in the engine: each makes a named check fail, so that the checks are known to be able to.

A mutant replaces one piece of SQL or one function; the check is run on the sound engine first (it must pass) and then
on the mutant: there its own assertion must fail, with the words that belong to the fault. Anything else that goes wrong, be
it on the way to the state that is checked, counts as a broken mutant and not as a catch.
"""

from collections.abc import Callable
from typing import Any

import pytest

import dxy_pipeline.sql
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import backfill, cutover, lease, objects, proof, retire, rollback, verify
from dxy_pipeline_tests.migration.support import PATH, Stage, Staged, content, desk_columns, enter, mirror_differs

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
ONE = "2024-06-10 01:00:00+00"
LATE = "2024-07-01 00:00:00+00"


def mirrored(db: Staged) -> None:
    """Writes to either table arrive in the other: an update, a soft delete, an un-delete, a hard delete, an insert."""
    new = "(canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
    new += " VALUES ('DXY', '1m', '{}', 1, 1, 1, 1, 0, {})"
    for statement in (
        f"UPDATE public.derived_data_bars SET close = 77 WHERE {KEY} = '{ONE}'",
        f"UPDATE public.derived_data_bars SET deleted_at = now() WHERE {KEY} = '2024-06-10 01:01+00'",
        f"DELETE FROM public.derived_data_bars WHERE {KEY} = '2024-06-10 01:02+00'",
        "INSERT INTO public.derived_data_bars " + new.format("2024-07-01 00:00+00", "'dxy'"),
        f"UPDATE public.data_bars SET close = 78 WHERE {KEY} = '2024-06-10 01:03+00'",
        f"DELETE FROM public.data_bars WHERE {KEY} = '2024-06-10 01:04+00'",
        "INSERT INTO public.data_bars " + new.format("2024-07-01 00:01+00", "'synthetic'"),
        f"UPDATE public.derived_data_bars SET deleted_at = NULL WHERE {KEY} = '2024-06-10 01:01+00'",
    ):
        db.conn.execute(statement)
        assert mirror_differs(db.conn) == 0, f"not mirrored: {statement}"
    for table in ("data_bars", "derived_data_bars"):
        row = db.conn.execute(
            f"SELECT close::float8 FROM public.{table} WHERE {KEY} = '2024-06-10 01:03+00'"
        ).fetchone()
        assert row == (78.0,), f"a price is not in {table}"


def unaudited(db: Staged) -> None:
    """A write by an application's own trigger is mirrored, and one session's replica mode does not pass by."""
    db.conn.execute("SET session_replication_role = replica")
    db.conn.execute(f"UPDATE public.derived_data_bars SET close = 77 WHERE {KEY} = '{ONE}'")
    db.conn.execute("RESET session_replication_role")
    assert mirror_differs(db.conn) == 0, "a write in replica mode is not mirrored"


def complete(db: Staged) -> None:
    """After the backfill every legacy row is in data_bars."""
    db.migration.backfill()
    assert mirror_differs(db.conn) == 0, "not every legacy row is in data_bars"


def content_is_compared(db: Staged) -> None:
    """Two rows' prices swapped: the same counts, another content."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"UPDATE public.data_bars SET close = close + 0.001 WHERE {KEY} = '{ONE}'")
    assert not db.migration.verify()["ok"], "a changed price is not seen"


def minus_zero_is_seen(db: Staged) -> None:
    """-0 for 0 is a difference."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"UPDATE public.data_bars SET vol = '-0' WHERE {KEY} = '{ONE}'")
    assert not db.migration.verify()["ok"], "a changed sign is not seen"


def rollback_is_exact(db: Staged, reached: str = "retired") -> None:
    """Through all phases and back: byte-identical (what the desk had at `legacy`)."""
    columns, before = desk_columns(db.conn), content(db.conn)
    for state in PATH[1 : PATH.index(reached) + 1]:
        enter(db.migration, state)
    db.migration.rollback()
    after = content(db.conn, columns)
    for table, was in before.items():
        assert after[table] == was, f"{table} is not what it was"


def early_rollback_is_exact(db: Staged) -> None:
    """The same before anything is retired."""
    rollback_is_exact(db, "verified")


def direct_writes_survive_a_rollback(db: Staged) -> None:
    """An application's own write to data_bars is still there after the rollback, and in legacy too."""
    db.conn.execute(f"UPDATE public.data_bars SET close = 78 WHERE {KEY} = '{ONE}'")
    db.migration.rollback()
    for table in ("data_bars", "derived_data_bars"):
        row = db.conn.execute(f"SELECT close::float8 FROM public.{table} WHERE {KEY} = '{ONE}'").fetchone()
        assert row == (78.0,), f"the write is not in {table}"


def native_is_restored(db: Staged) -> None:
    """A native row that a legacy write replaced comes back."""
    native = f"SELECT close::float8 FROM public.data_bars WHERE {KEY} = '2024-06-30 00:07+00'"
    before = db.conn.execute(native).fetchone()
    db.conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
        " VALUES ('DXY', '1m', '2024-06-30 00:07+00', 1, 1, 1, 81, 0)"
    )
    db.migration.rollback()
    assert db.conn.execute(native).fetchone() == before, "the native row is not what it was"


def corrupt_cutover_refused(db: Staged) -> None:
    """The cutover looks for itself."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{ONE}'")
    with pytest.raises(UserError, match="nothing was switched"):
        db.migration.cutover()


def repair_does_not_verify(db: Staged) -> None:
    """After a repair the cutover is refused."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{ONE}'")
    db.migration.verify(repair=True)
    with pytest.raises(UserError, match="repair after the last"):
        db.migration.cutover()


def retirement_keeps_data_bars(db: Staged) -> None:
    """Retiring legacy takes nothing out of data_bars."""
    query = "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = 'DXY'"
    before = db.conn.execute(query).fetchone()
    db.migration.retire()
    assert db.conn.execute(query).fetchone() == before, "rows are gone from data_bars"


def zombie_is_refused(db: Staged) -> None:
    """A runner with an old fencing token writes nothing."""
    with db.migration._running("backfill", "") as ctx:
        db.conn.execute("UPDATE dxy.migration_lease SET fence = fence + 1")
        with pytest.raises(UserError, match="another runner"):
            backfill.run(ctx)
        assert mirror_differs(db.conn) == 447, "it wrote all the same"


def disabled_trigger_is_noticed(db: Staged) -> None:
    """A disabled mirror trigger stops the verification."""
    db.conn.execute("ALTER TABLE public.derived_data_bars DISABLE TRIGGER dxy_mirror_update")
    with pytest.raises(UserError, match="missing or disabled"):
        db.migration.verify()


def mirrored_writes_are_taken_back(db: Staged) -> None:
    """What came to data_bars through the mirror goes again with a rollback."""
    db.conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
        f" VALUES ('DXY', '1m', '{LATE}', 1, 1, 1, 81, 0)"
    )
    db.migration.rollback()
    left = db.conn.execute(f"SELECT close FROM public.data_bars WHERE {KEY} = '{LATE}'").fetchall()
    assert left == [], "a mirrored row is left in data_bars"


def dead_rows_are_no_minutes(db: Staged) -> None:
    """A dead legacy row on a native bar's minute is purged: the bar stays."""
    native = f"SELECT count(*) FROM public.data_bars WHERE {KEY} = '2024-06-30 00:08+00'"
    db.conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, deleted_at)"
        " VALUES ('DXY', '1m', '2024-06-30 00:08+00', 1, 1, 1, 1, 0, now())"
    )
    db.conn.execute("DELETE FROM public.derived_data_bars WHERE canonical_symbol = 'DXY' AND ts_utc > '2024-06-30'")
    assert db.conn.execute(native).fetchone() == (1,), "a native bar is gone"


def a_write_past_the_mirror_stops_the_rollback(db: Staged) -> None:
    """Only data_bars has it: a rollback would lose it."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"UPDATE public.data_bars SET close = 5 WHERE {KEY} = '{ONE}'")
    with pytest.raises(UserError, match="a rollback would lose"):
        db.migration.rollback()


def a_purge_stops_the_rollback(db: Staged) -> None:
    """Retired rows that are gone cannot come back."""
    db.migration.retire()
    db.conn.execute("DELETE FROM public.derived_data_bars WHERE dxy_retired_by IS NOT NULL")
    with pytest.raises(UserError, match="rows that were retired are gone"):
        db.migration.rollback()


def a_repair_keeps_both_rows(db: Staged) -> None:
    """What a repair overwrites is not lost."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"UPDATE public.data_bars SET close = 5 WHERE {KEY} = '{ONE}'")
    db.migration.verify(repair=True)
    kept = db.conn.execute(
        "SELECT (r.data_bars_image::public.data_bars).close FROM dxy.migration_repair AS r"
    ).fetchall()
    assert kept == [(5.0,)], "the overwritten row is not kept"


def only_what_is_in_data_bars_is_retired(db: Staged) -> None:
    """A legacy row that came past the mirror is not taken from whoever looks for it."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"UPDATE public.derived_data_bars SET close = 5 WHERE {KEY} = '{ONE}' AND deleted_at IS NULL")
    with pytest.raises(UserError, match="were not retired"), db.migration._running("retire", "") as ctx:
        retire._batches(ctx, 1)


Patch = Callable[[pytest.MonkeyPatch], None]


def sql_fault(name: str, old: str, new: str) -> Patch:
    """Replace a piece of an SQL file, wherever it is rendered."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real = dxy_pipeline.sql.load  # another piece of this fault may be in place already
        assert old in real(f"migration/{name}"), f"{old!r} is not in {name}.sql"

        def faulty(wanted: str) -> str:
            found: str = real(wanted)
            return found.replace(old, new) if wanted == f"migration/{name}" else found

        monkeypatch.setattr("dxy_pipeline.sql.load", faulty)

    return patch


def code_fault(module: Any, name: str, value: Any) -> Patch:
    """Replace a function of the engine."""
    return lambda monkeypatch: monkeypatch.setattr(module, name, value)


def replica_passes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggers are enabled, but not ALWAYS, and nobody looks."""
    sql_fault("attach", "ENABLE ALWAYS TRIGGER dxy_mirror_update", "ENABLE TRIGGER dxy_mirror_update")(monkeypatch)
    monkeypatch.setattr(objects, "TRIGGERS", frozenset())


def skip_a_batch(ctx: Any, migration_id: int, days: Any, *, again: bool) -> list[Any]:
    return _pending(ctx, migration_id, days, again=again)[1:]


def faults(*patches: Patch) -> Patch:
    """Several pieces of one fault."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for one in patches:
            one(monkeypatch)

    return patch


def no_refusal(*_: Any) -> None:
    """Stands for a check that lets everything pass."""


_pending = backfill._pending
GUARD = "PERFORM set_config('dxy.mirror', 'on', true);"
NOT_REFUSED = "DID NOT RAISE"
# name -> (the check that catches it, state before, fault, the words with which the check's own assertion fails)
MUTANTS: dict[str, tuple[Callable[[Staged], None], str, Patch, str]] = {
    "a skipped batch": (
        complete, "dual_write", code_fault(backfill, "_pending", skip_a_batch), "not every legacy row is in data_bars"
    ),
    "a verification that compares counts only": (
        content_is_compared,
        "verified",
        sql_fault("verify_days", "f.legacy_content) = (f.target_rows, f.target_content)", "0) = (f.target_rows, 0)"),
        "a changed price is not seen",
    ),
    "a verification that takes -0 for 0": (
        minus_zero_is_seen,
        "legacy+verified",
        sql_fault("images", "THEN (d.vol::${vol})::text = '-0' END", "THEN false END"),
        "a changed sign is not seen",
    ),
    "an un-delete without the tag": (
        rollback_is_exact,
        "legacy",
        faults(
            sql_fault("functions", "AND l.dxy_retired_by IS NOT NULL\n            AND NOT EXISTS", "AND NOT EXISTS"),
            sql_fault("functions", "SET tagged = r.tagged - u.n", "SET tagged = 0"),  # the count would notice
            sql_fault(
                "batches",
                "l.timeframe = '1m' AND l.dxy_retired_by IS NOT NULL\n            AND l.ts_utc >= v_from",
                "l.timeframe = '1m' AND l.deleted_at IS NOT NULL\n            AND l.ts_utc >= v_from",
            ),
        ),
        "derived_data_bars is not what it was",
    ),
    "a backfill that the mirror follows": (
        early_rollback_is_exact, "legacy", sql_fault("batches", GUARD, ""), "data_bars is not what it was"
    ),
    "a mirror that follows itself (its functions do not say so)": (
        mirrored_writes_are_taken_back,
        "legacy+cut_over",
        sql_fault("functions", GUARD, ""),
        "a mirrored row is left in data_bars",
    ),
    "a mirror that follows itself (its triggers do not look)": (
        mirrored_writes_are_taken_back,
        "legacy+cut_over",
        sql_fault("attach", "current_setting('dxy.mirror', true) IS DISTINCT FROM 'on'", "true"),
        "a mirrored row is left in data_bars",
    ),
    "a mirror of one direction": (
        mirrored,
        "legacy+cut_over",
        sql_fault("functions", "PERFORM dxy.mirror_to_legacy(v_keys);", "PERFORM dxy.mirror_to_bars(v_keys);"),
        "a price is not in",
    ),
    "a mirror that forgets deletes": (
        mirrored,
        "legacy+cut_over",
        sql_fault("functions", "AND d.ts_utc = ANY (v_delete)", "AND d.ts_utc = ANY (v_delete) AND false"),
        "not mirrored: UPDATE public.derived_data_bars SET deleted_at = now",
    ),
    "a mirror that takes dead rows for minutes": (
        dead_rows_are_no_minutes,
        "legacy+cut_over",
        sql_fault("functions", "AND o.deleted_at IS NULL;", ";"),
        "a native bar is gone",
    ),
    "triggers that replica mode passes by": (
        unaudited, "legacy+cut_over", replica_passes_by, "a write in replica mode is not mirrored"
    ),
    "no undo of native rows": (
        native_is_restored,
        "legacy+dual_write",
        sql_fault("functions", "ORDER BY k\n    ON CONFLICT (ts_utc) DO NOTHING;\n    DELETE", "LIMIT 0;\n    DELETE"),
        "the native row is not what it was",
    ),
    "a rollback that takes the applications' rows too": (
        direct_writes_survive_a_rollback,
        "legacy+cut_over",
        sql_fault("batches", "AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = d.ts_utc))", ")"),
        "the write is not in data_bars",
    ),
    "updated_at is not restored": (
        rollback_is_exact,
        "legacy",
        sql_fault("functions", "NEW.updated_at := OLD.dxy_retired_updated_at", "NULL"),
        "derived_data_bars is not what it was",
    ),
    "a rollback that proves nothing": (
        a_write_past_the_mirror_stops_the_rollback, "verified", code_fault(proof, "_refuse", no_refusal), NOT_REFUSED
    ),
    "a retirement that keeps no count": (
        a_purge_stops_the_rollback,
        "legacy+cut_over",
        sql_fault("batches", "IF retired > 0 THEN", "IF false THEN"),
        NOT_REFUSED,
    ),
    "a retirement that does not look at the rows": (
        only_what_is_in_data_bars_is_retired,
        "legacy+cut_over",
        sql_fault("batches", "IF differing > 0 THEN", "differing := 0;\n    IF differing > 0 THEN"),
        NOT_REFUSED,
    ),
    "a retirement that the mirror follows": (
        retirement_keeps_data_bars,
        "legacy+cut_over",
        sql_fault("batches", GUARD, ""),
        "rows are gone from data_bars",
    ),
    "a cutover that trusts the last verification": (
        corrupt_cutover_refused,
        "verified",
        code_fault(cutover.verify, "compare", lambda *_: verify.Comparison(0, 0, 0, [], "0")),
        NOT_REFUSED,
    ),
    "a repair that counts as a verification": (
        repair_does_not_verify, "verified", code_fault(cutover, "refuse_unproved", no_refusal), NOT_REFUSED
    ),
    "a repair that keeps nothing": (
        a_repair_keeps_both_rows,
        "legacy+verified",
        sql_fault("repair", "WHERE d.overwritten IS NOT NULL ORDER BY", "WHERE false ORDER BY"),
        "the overwritten row is not kept",
    ),
    "no fence": (
        zombie_is_refused,
        "dual_write",
        code_fault(lease.Lease, "write", lambda self, work, **_: work()),
        "it wrote all the same",
    ),
    "triggers are not looked at": (
        disabled_trigger_is_noticed, "verified", code_fault(objects, "missing_triggers", lambda *_, **__: []), NOT_REFUSED
    ),
    "the registry is not restored": (
        rollback_is_exact,
        "legacy",
        code_fault(rollback, "_restore_registry", no_refusal),
        "core_asset_registry_all is not what it was",
    ),
}  # fmt: skip


_sound: set[tuple[Any, str]] = set()


@pytest.mark.parametrize("name", MUTANTS)
def test_each_fault_is_caught(stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    check, state, fault, words = MUTANTS[name]
    start, _, until = state.partition("+")
    if (check, state) not in _sound:
        with stage.at("P", until or start) as db:
            check(db)
        _sound.add((check, state))
    with stage.at("P", start) as db:
        fault(monkeypatch)
        for place in PATH[1 : PATH.index(until) + 1] if until else ():
            enter(db.migration, place)
        with pytest.raises((AssertionError, pytest.fail.Exception), match=words):
            check(db)


def test_there_are_enough_of_them() -> None:
    assert len({fault for _, _, fault, _ in MUTANTS.values()}) >= 20
    assert retire.BATCH_DAYS == 2

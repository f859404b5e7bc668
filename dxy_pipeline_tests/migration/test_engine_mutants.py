"""Deliberate faults in the engine: each makes a named check fail, so that the checks are known to be able to.

A mutant replaces one piece of SQL or one function; the check is run on the sound engine first (it must pass) and then
on the mutant (it must fail).
"""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import backfill, cutover, lease, objects, retire, rollback, verify
from dxy_pipeline.sql import load
from dxy_pipeline_tests.migration.support import Stage, Staged, content, desk_columns, enter, mirror_differs

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
ONE = "2024-06-10 01:00:00+00"


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
        assert mirror_differs(db.conn) == 0, statement
    for table in ("data_bars", "derived_data_bars"):
        row = db.conn.execute(
            f"SELECT close::float8 FROM public.{table} WHERE {KEY} = '2024-06-10 01:03+00'"
        ).fetchone()
        assert row == (78.0,), table


def unaudited(db: Staged) -> None:
    """A write by an application's own trigger is mirrored, and one session's replica mode does not pass by."""
    db.conn.execute("SET session_replication_role = replica")
    db.conn.execute(f"UPDATE public.derived_data_bars SET close = 77 WHERE {KEY} = '{ONE}'")
    db.conn.execute("RESET session_replication_role")
    assert mirror_differs(db.conn) == 0


def complete(db: Staged) -> None:
    """After the backfill every legacy row is in data_bars."""
    db.migration.backfill()
    assert mirror_differs(db.conn) == 0


def content_is_compared(db: Staged) -> None:
    """Two rows' prices swapped: the same counts, another content."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"UPDATE public.data_bars SET close = close + 0.001 WHERE {KEY} = '{ONE}'")
    assert not db.migration.verify()["ok"]


def minus_zero_is_seen(db: Staged) -> None:
    """-0 for 0 is a difference."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"UPDATE public.data_bars SET vol = '-0' WHERE {KEY} = '{ONE}'")
    assert not db.migration.verify()["ok"]


def rollback_is_exact(db: Staged) -> None:
    """From verified through the retirement and back: byte-identical (what the desk had at `legacy`)."""
    columns, before = desk_columns(db.conn), content(db.conn)
    for state in ("prepared", "dual_write", "backfilled", "verified", "cut_over", "retired"):
        enter(db.migration, state)
    db.migration.rollback()
    assert content(db.conn, columns) == before


def direct_writes_survive_a_rollback(db: Staged) -> None:
    """An application's own write to data_bars is still there after the rollback, and in legacy too."""
    db.conn.execute(f"UPDATE public.data_bars SET close = 78 WHERE {KEY} = '{ONE}'")
    db.migration.rollback()
    for table in ("data_bars", "derived_data_bars"):
        row = db.conn.execute(f"SELECT close::float8 FROM public.{table} WHERE {KEY} = '{ONE}'").fetchone()
        assert row == (78.0,), table


def native_is_restored(db: Staged) -> None:
    """A native row that a legacy write replaced comes back."""
    native = f"SELECT close::float8 FROM public.data_bars WHERE {KEY} = '2024-06-30 00:07+00'"
    before = db.conn.execute(native).fetchone()
    db.conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
        " VALUES ('DXY', '1m', '2024-06-30 00:07+00', 1, 1, 1, 81, 0)"
    )
    db.migration.rollback()
    assert db.conn.execute(native).fetchone() == before


def corrupt_cutover_refused(db: Staged) -> None:
    """The cutover looks for itself."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{ONE}'")
    with pytest.raises(UserError):
        db.migration.cutover()


def repair_does_not_verify(db: Staged) -> None:
    """After a repair the cutover is refused."""
    with db.conn.transaction():
        db.conn.execute("SET LOCAL dxy.mirror = 'on'")
        db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{ONE}'")
    db.migration.verify(repair=True)
    with pytest.raises(UserError):
        db.migration.cutover()


def retirement_keeps_data_bars(db: Staged) -> None:
    """Retiring legacy takes nothing out of data_bars."""
    query = "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = 'DXY'"
    before = db.conn.execute(query).fetchone()
    db.migration.retire()
    assert db.conn.execute(query).fetchone() == before


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


Patch = Callable[[pytest.MonkeyPatch], None]


def sql_fault(name: str, old: str, new: str) -> Patch:
    """Replace a piece of an SQL file, wherever it is rendered."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        text = load(f"migration/{name}")
        assert old in text, f"{old!r} is not in {name}.sql"
        real = load.__wrapped__

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


_pending = backfill._pending
# name -> (the check that catches it, state before, fault)
MUTANTS: dict[str, tuple[Callable[[Staged], None], str, Patch]] = {
    "a skipped batch": (complete, "dual_write", code_fault(backfill, "_pending", skip_a_batch)),
    "a verification that compares counts only": (
        content_is_compared,
        "verified",
        sql_fault("verify_days", "f.legacy_content) = (f.target_rows, f.target_content)", "0) = (f.target_rows, 0)"),
    ),
    "a verification that takes -0 for 0": (
        minus_zero_is_seen,
        "legacy+verified",
        sql_fault("images", "THEN (d.vol::${vol})::text = '-0' END", "THEN false END"),
    ),
    "an un-delete without the tag": (
        rollback_is_exact,
        "legacy",
        sql_fault("functions", "AND l.dxy_retired_by IS NOT NULL\n        AND NOT EXISTS", "AND NOT EXISTS"),
    ),
    "a lost loop guard": (
        rollback_is_exact,
        "legacy",
        sql_fault("batches", "SET dxy.mirror = 'on'\n", ""),
    ),
    "a mirror of one direction": (
        mirrored,
        "legacy+cut_over",
        code_fault(objects, "DIRECTIONS", {"derived_data_bars": "to_bars", "data_bars": "to_bars"}),
    ),
    "a mirror that forgets deletes": (
        mirrored,
        "legacy+cut_over",
        sql_fault("functions", "AND d.ts_utc = ANY (v_delete)", "AND d.ts_utc = ANY (v_delete) AND false"),
    ),
    "triggers that replica mode passes by": (
        unaudited,
        "legacy+cut_over",
        replica_passes_by,
    ),
    "no undo of native rows": (
        native_is_restored,
        "legacy+dual_write",
        sql_fault("functions", "ORDER BY k\n    ON CONFLICT (ts_utc) DO NOTHING;\n    DELETE", "LIMIT 0;\n    DELETE"),
    ),
    "a rollback that takes the applications' rows too": (
        direct_writes_survive_a_rollback,
        "legacy+cut_over",
        sql_fault("batches", "AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = d.ts_utc))", ")"),
    ),
    "updated_at is not restored": (
        rollback_is_exact,
        "legacy",
        sql_fault("functions", "NEW.updated_at := OLD.dxy_retired_updated_at", "NULL"),
    ),
    "a cutover that trusts the last verification": (
        corrupt_cutover_refused,
        "verified",
        code_fault(cutover.verify, "compare", lambda *_: verify.Comparison(0, 0, 0, [], "0")),
    ),
    "a repair that counts as a verification": (
        repair_does_not_verify,
        "verified",
        code_fault(cutover, "_refuse_unproved", lambda _: None),
    ),
    "a retirement that the mirror follows": (
        retirement_keeps_data_bars,
        "legacy+cut_over",
        sql_fault("batches", "SET dxy.mirror = 'on'\n", ""),
    ),
    "no fence": (zombie_is_refused, "dual_write", code_fault(lease.Lease, "write", lambda self, work, **_: work())),
    "triggers are not looked at": (
        disabled_trigger_is_noticed,
        "verified",
        code_fault(objects, "missing_triggers", lambda _: []),
    ),
    "the registry is not restored": (
        rollback_is_exact,
        "legacy",
        code_fault(rollback, "_restore_registry", lambda *_: None),
    ),
}  # fmt: skip


_sound: set[tuple[Any, str]] = set()


@pytest.mark.parametrize("name", MUTANTS)
def test_each_fault_is_caught(stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    check, state, fault = MUTANTS[name]
    start, _, until = state.partition("+")
    if (check, state) not in _sound:
        with stage.at("P", until or start) as db:
            check(db)
        _sound.add((check, state))
    fault(monkeypatch)
    with stage.at("P", start) as db:
        with pytest.raises((Exception, pytest.fail.Exception)) as caught:
            on_the_mutant(db, check, until)
        broken = (TypeError, NameError, AttributeError, psycopg.errors.SyntaxErrorOrAccessRuleViolation)
        assert not isinstance(caught.value, broken), "the mutant itself is broken"


def on_the_mutant(db: Staged, check: Callable[[Staged], None], until: str) -> None:
    """Bring the database to the state with the fault in place, then check."""
    for place in ("prepared", "dual_write", "backfilled", "verified", "cut_over") if until else ():
        enter(db.migration, place)
        if place == until:
            break
    check(db)


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 10
    assert retire.BATCH_DAYS == 2

"""What the desk must not notice: nothing that runs at each write or under a lock reads a whole table.

On the tests' small tables a scan costs nothing; at five million legacy rows it is 0.7 s. So the scans are counted.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from dxy_pipeline.migration import ledger, objects, steps
from dxy_pipeline_tests.migration.support import PATH, Stage, enter

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
TABLES = ("data_bars", "derived_data_bars")
NEW = "(canonical_symbol, timeframe, ts_utc, open, high, low, close, vol{}) VALUES ('DXY', '1m', '{}', 1, 1, 1, 1, 0{})"
WRITES = {
    "legacy insert": "INSERT INTO public.derived_data_bars " + NEW.format("", "2024-07-01 00:00+00", ""),
    "legacy update": f"UPDATE public.derived_data_bars SET close = 2 WHERE {KEY} = '2024-06-10 01:00+00' AND deleted_at IS NULL",
    "soft delete": f"UPDATE public.derived_data_bars SET deleted_at = now() WHERE {KEY} = '2024-06-10 01:01+00'"
    " AND deleted_at IS NULL",
    "legacy hard delete": f"DELETE FROM public.derived_data_bars WHERE {KEY} = '2024-06-10 01:02+00' AND deleted_at IS NULL",
    "data_bars insert": "INSERT INTO public.data_bars "
    + NEW.format(", source", "2024-07-01 00:01+00", ", 'synthetic'"),
    "data_bars update": f"UPDATE public.data_bars SET close = 3 WHERE {KEY} = '2024-06-10 01:03+00'",
    "data_bars delete": f"DELETE FROM public.data_bars WHERE {KEY} = '2024-06-10 01:04+00'",
}
PER_DAY = {
    "backfilled": "SELECT * FROM dxy.backfill_day(1, '2024-06-10', 'stop', 1)",
    "cut_over": "SELECT * FROM dxy.retire_day(1, '2024-06-10')",
    "reopened": "SELECT * FROM dxy.unretire_day('2024-06-10')",
    "dual_write": "SELECT * FROM dxy.undo_day('2024-06-10')",
}


@contextmanager
def nothing_scanned(conn: psycopg.Connection) -> Iterator[None]:
    """Fail when the block reads one of the desk's tables from end to end."""
    query = "SELECT relname::text, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = 'public' AND relname = ANY (%s)"
    with conn.transaction():
        conn.execute("SET LOCAL enable_seqscan = off")  # the statement's own way to its rows is not under test
        before = conn.execute(query, (list(TABLES),)).fetchall()
        yield
        assert dict(conn.execute(query, (list(TABLES),)).fetchall()) == dict(before)


@pytest.mark.parametrize("shape", ["S", "Sfull", "P"])
@pytest.mark.parametrize("place", ["dual_write", "cut_over", "half retired"])
def test_no_write_of_the_desk_makes_the_mirror_read_a_whole_table(any_stage: Stage, shape: str, place: str) -> None:
    with any_stage.at(shape, "cut_over" if place == "half retired" else place) as db:
        if place == "half retired":
            db.conn.execute("SELECT dxy.retire_day(1, '2024-06-10')")
        for name, statement in WRITES.items():
            with nothing_scanned(db.conn):
                db.conn.execute(statement)
            assert db.conn.execute("SELECT count(*) FROM dxy.migration_dirty").fetchone() != (0,), name


@pytest.mark.parametrize("shape", ["S", "Sfull", "P"])
@pytest.mark.parametrize("place", PER_DAY)
def test_no_day_of_a_batch_reads_a_whole_table(any_stage: Stage, shape: str, place: str) -> None:
    with any_stage.at(shape, "retired" if place == "reopened" else place) as db:
        if place == "reopened":
            steps.install(stop_after("rollback.reopened!"))
            with pytest.raises(KeyboardInterrupt):
                db.migration.rollback()
        with nothing_scanned(db.conn):
            db.conn.execute(PER_DAY[place])


def stop_after(wanted: str) -> Callable[[str, Any], None]:
    """A hook that ends the run at the first other step after `wanted`, when that one's transaction has been committed."""
    seen: list[str] = []

    def hook(step: str, _: Any) -> None:
        if wanted in seen and step != wanted:
            raise KeyboardInterrupt
        seen.append(step)

    return hook


def test_no_row_is_counted_while_others_are_held_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit's counts read both tables whole: under the locks of a cutover that would be seconds, not an instant."""
    real, held = ledger.counts, []
    locks = (
        "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND granted AND (mode = 'AccessExclusiveLock' OR mode ="
        " 'ShareRowExclusiveLock') AND relation = ANY (%s::regclass[]) UNION ALL SELECT 'gate' FROM pg_locks WHERE pid ="
        " pg_backend_pid() AND locktype = 'advisory' AND mode = 'ExclusiveLock'"
    )

    def counts(conn: psycopg.Connection[Any]) -> Any:
        held.extend(conn.execute(locks, ([f"public.{name}" for name in TABLES],)).fetchall())
        return real(conn)

    with stage.at("P", "legacy") as db:
        monkeypatch.setattr(ledger, "counts", counts)
        for place in PATH[1:]:
            enter(db.migration, place)
            assert held == [], place
        db.migration.rollback()
        assert held == []
        audited = [row["counts_after"] for row in db.migration.audit() if row["to_state"] in {"retired", "rolled_back"}]
        assert [row["legacy_active"] for row in audited if row["data_bars"] > 20] == [0]
        assert audited[-1] == real(db.conn)


@pytest.mark.parametrize("left", ["invalid", "none"])
def test_the_index_of_retired_rows_is_built_anew_when_it_is_not_valid(stage: Stage, left: str) -> None:
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.dxy_retired_rows')"
    with stage.at("P", "legacy") as db:
        steps.install(stop_after("prepare.widening"))
        with pytest.raises(KeyboardInterrupt):
            enter(db.migration, "prepared")
        steps.install(None)
        if left == "invalid":
            db.conn.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.dxy_retired_rows'::regclass"
            )
        else:
            db.conn.execute("DROP INDEX public.dxy_retired_rows")
        enter(db.migration, "prepared")
        assert db.conn.execute(query).fetchone() == (True,)
        db.migration.rollback()
        assert db.conn.execute(query).fetchone() is None
        assert objects.TAG_INDEX == "dxy_retired_rows"


def test_an_abandoned_prepare_leaves_no_index(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        steps.install(stop_after("prepare.widening"))
        with pytest.raises(KeyboardInterrupt):
            enter(db.migration, "prepared")
        steps.install(None)
        db.migration.rollback()
        assert db.conn.execute("SELECT to_regclass('public.dxy_retired_rows')").fetchone() == (None,)

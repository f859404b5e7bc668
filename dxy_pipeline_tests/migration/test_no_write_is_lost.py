"""Trouble in the middle of retirement, rollback and repair: whatever happens, no acknowledged write and no history is lost."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import steps, verify
from dxy_pipeline_tests.migration.support import PATH, Stage, Staged, content, desk_columns, enter, mirror_differs

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
ONE, TWO = "2024-06-10 01:00:00+00", "2024-06-10 01:01:00+00"
LATE = "2024-07-01 00:00:00+00"
NATIVE = "2024-06-30 00:05:00+00"
_NEW = "(canonical_symbol, timeframe, ts_utc, open, high, low, close, vol) VALUES ('DXY', '1m', '{}', 1, 1, 1, {}, 0)"
LEGACY = "INSERT INTO public.derived_data_bars " + _NEW
UPSERT = LEGACY + (
    " ON CONFLICT (canonical_symbol, timeframe, ts_utc) WHERE deleted_at IS NULL DO UPDATE SET close = excluded.close"
)
BARS = "INSERT INTO public.data_bars " + _NEW.replace("vol)", "vol, source)").replace("0)", "0, 'synthetic')")
ALIVE = f"SELECT close::float8 FROM public.derived_data_bars WHERE deleted_at IS NULL AND {KEY} = '{{}}'"
IN_BARS = f"SELECT close::float8 FROM public.data_bars WHERE {KEY} = '{{}}'"


class Cut(BaseException):
    """Stands for a kill."""


def cut_at(step: str, nth: int = 1) -> Callable[[str, Any], None]:
    """A hook that cuts the run off the nth time a step is reached."""
    left = [nth]

    def hook(name: str, _: Any) -> None:
        left[0] -= name == step
        if name == step and left[0] == 0:
            raise Cut

    return hook


def cut(work: Callable[[], Any], step: str, nth: int = 1) -> None:
    """Run and cut off there; it must come so far."""
    steps.install(cut_at(step, nth))
    with pytest.raises(Cut):
        work()
    steps.install(None)


def value(conn: psycopg.Connection, query: str) -> Any:
    row = conn.execute(query).fetchone()
    return row[0] if row else None


def seen_by_readers(conn: psycopg.Connection) -> Any:
    return value(conn, "SELECT count(*) FROM dxy.dxy_1m_active")


@contextlib.contextmanager
def evading(conn: psycopg.Connection) -> Iterator[None]:
    """Write past the mirror."""
    with conn.transaction():
        conn.execute("SET LOCAL dxy.mirror = 'on'")
        yield


def migrated(db: Staged, until: str) -> None:
    """All phases up to this state."""
    for place in PATH[1 : PATH.index(until) + 1]:
        enter(db.migration, place)


# Retirement and purge


@pytest.mark.parametrize("rows", ["", "AND ts_utc < '2024-06-10 00:00+00'"], ids=["all", "a day"])
def test_after_a_purge_the_rollback_is_refused_and_nothing_changes(stage: Stage, rows: str) -> None:
    with stage.at("P", "retired") as db:
        db.conn.execute(f"DELETE FROM public.derived_data_bars WHERE dxy_retired_by IS NOT NULL {rows}")
        before = content(db.conn)
        gone = 10 if rows else 447
        with pytest.raises(UserError, match=f"{gone} rows that were retired are gone .* the first of 2024-06-09"):
            db.migration.rollback()
        assert content(db.conn) == before
        assert db.migration.status()["state"] == "retired"
        assert seen_by_readers(db.conn) == 467


def test_a_purge_between_two_runs_of_a_rollback_is_noticed(stage: Stage) -> None:
    with stage.at("P", "retired") as db:
        cut(db.migration.rollback, "rollback.unretire!", 2)
        db.conn.execute("DELETE FROM public.derived_data_bars WHERE dxy_retired_by IS NOT NULL")
        with pytest.raises(UserError, match="rows that were retired are gone"):
            db.migration.rollback()
        assert seen_by_readers(db.conn) == 467


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_killed_rollback_still_pulls_what_came_after_the_retirement(stage: Stage, nth: int) -> None:
    """Several days hold new minutes only, and no tagged row tells the run that goes on of them."""
    with stage.at("P", "retired") as db:
        days = [f"2024-07-{day:02} 00:00:00+00" for day in range(1, 9)]
        for number, day in enumerate(days):
            db.conn.execute(BARS.format(day, 100 + number))
        cut(db.migration.rollback, "rollback.unretire!", nth)
        db.migration.rollback()
        for number, day in enumerate(days):
            assert value(db.conn, ALIVE.format(day)) == value(db.conn, IN_BARS.format(day)) == 100 + number


@pytest.mark.parametrize("mirrored", [True, False], ids=["after a mirrored write", "alone"])
def test_what_data_bars_took_while_legacy_was_closed_outlives_a_later_legacy_write(
    stage: Stage, mirrored: bool
) -> None:
    """There was no mirror that noted it: legacy opens for its own writers only when the rollback has fetched it."""
    with stage.at("P", "cut_over") as db:
        if mirrored:  # an older image of the minute lies in the undo
            db.conn.execute(f"UPDATE public.data_bars SET close = 70 WHERE {KEY} = %s", (ONE,))
            db.conn.execute(UPSERT.format(ONE, 71))
        enter(db.migration, "retired")
        db.conn.execute(f"UPDATE public.data_bars SET close = 72 WHERE {KEY} = %s", (ONE,))
        refused: list[str] = []

        def write(step: str, _: Any) -> None:
            if step in {"rollback.begun", "rollback.unretire!", "rollback.unretired"}:
                with psycopg.connect(db.url, autocommit=True, options="-c statement_timeout=5s") as writer:
                    try:
                        writer.execute(UPSERT.format(ONE, 73))
                    except psycopg.errors.CheckViolation:
                        refused.append(step)

        steps.install(write)
        try:
            db.migration.rollback()
        finally:
            steps.install(None)
        assert set(refused) == {"rollback.begun", "rollback.unretire!"}
        assert value(db.conn, ALIVE.format(ONE)) == 73
        assert value(db.conn, IN_BARS.format(ONE)) == 72


@pytest.mark.parametrize("step", ["rollback.reopened!", "rollback.unretire!", "rollback.opened!"])
def test_a_rollback_that_was_cut_off_opens_legacy_in_the_end(stage: Stage, step: str) -> None:
    with stage.at("P", "retired") as db:
        cut(db.migration.rollback, step)
        with pytest.raises(psycopg.errors.CheckViolation):
            db.conn.execute(UPSERT.format(ONE, 73))
        db.migration.rollback()
        db.conn.execute(UPSERT.format(ONE, 73))
        assert value(db.conn, ALIVE.format(ONE)) == 73


@pytest.mark.parametrize("killed", [False, True], ids=["under way", "killed"])
def test_a_legacy_write_to_a_minute_that_is_retired_already(stage: Stage, killed: bool) -> None:
    """It takes the tagged row's place: one row of the minute is alive after the rollback, and it is the newest."""
    with stage.at("P", "cut_over") as db:
        done = []

        def write(step: str, _: Any) -> None:
            if step == "retire.committed" and not done:
                done.append(step)
                for close in (76, 77):
                    db.conn.execute(UPSERT.format(ONE, close))
                db.conn.execute(f"UPDATE public.derived_data_bars SET deleted_at = NULL WHERE {KEY} = '{TWO}'")
                if killed:
                    raise Cut

        steps.install(write)
        if killed:
            with pytest.raises(Cut):
                db.migration.retire()
        else:
            db.migration.retire()
        steps.install(None)
        assert value(db.conn, IN_BARS.format(ONE)) == 77
        tagged = f"SELECT count(*) FROM public.derived_data_bars WHERE dxy_retired_by IS NOT NULL AND {KEY} IN"
        assert value(db.conn, f"{tagged} ('{ONE}', '{TWO}')") == (0 if killed else 2)
        if killed:
            assert db.migration.verify()["ok"]
            db.migration.retire()
        db.migration.rollback()
        alive = f"SELECT array_agg(close::float8) FROM public.derived_data_bars WHERE deleted_at IS NULL AND {KEY} = '{ONE}'"
        assert value(db.conn, alive) == [77]


def test_a_minute_that_was_retired_and_is_deleted_in_data_bars_stays_deleted(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:
        cut(db.migration.retire, "retire.committed")
        db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{ONE}'")
        db.conn.execute(UPSERT.format(TWO, 77))
        db.conn.execute(f"DELETE FROM public.derived_data_bars WHERE deleted_at IS NULL AND {KEY} = '{TWO}'")
        assert db.migration.verify()["ok"]
        db.migration.rollback()
        for minute in (ONE, TWO):
            assert value(db.conn, ALIVE.format(minute)) is None
            assert value(db.conn, IN_BARS.format(minute)) is None


TOUCHES = {
    "an update of all rows": (
        "UPDATE public.derived_data_bars SET quality_score = 2 WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
    ),
    "an update of dead rows": "UPDATE public.derived_data_bars SET vol = 5 WHERE deleted_at IS NOT NULL",
    "a purge of dead rows that nobody tagged": (
        "DELETE FROM public.derived_data_bars WHERE deleted_at IS NOT NULL AND dxy_retired_by IS NULL"
    ),
}


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("where", ["retirement", "rollback"])
def test_dead_rows_are_nobodys_minutes(stage: Stage, touch: str, where: str) -> None:
    """With the mirror at work and rows retired, touching dead rows takes nothing from those who read data_bars."""
    with stage.at("P", "cut_over" if where == "retirement" else "retired") as db:
        if where == "retirement":
            cut(db.migration.retire, "retire.committed")
        else:
            db.conn.execute(BARS.format(LATE, 70))
            cut(db.migration.rollback, "rollback.unretire!")
        before = value(db.conn, "SELECT md5(string_agg(a::text, ' ' ORDER BY ts_utc)) FROM dxy.dxy_1m_active AS a")
        db.conn.execute(TOUCHES[touch])
        after = value(db.conn, "SELECT md5(string_agg(a::text, ' ' ORDER BY ts_utc)) FROM dxy.dxy_1m_active AS a")
        assert after == before
        if where == "retirement" and touch != "an update of dead rows":  # the touched price of a retired minute differs
            db.migration.retire()
            assert seen_by_readers(db.conn) == 467


def test_a_purge_of_an_old_dead_row_takes_no_native_bar(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        db.conn.execute(
            "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol,"
            f" deleted_at) VALUES ('DXY', '1m', '{NATIVE}', 1, 1, 1, 1, 0, '2024-06-01')"
        )
        migrated(db, "cut_over")
        native = value(db.conn, IN_BARS.format(NATIVE))
        db.conn.execute(f"UPDATE public.derived_data_bars SET vol = 1 WHERE {KEY} = '{NATIVE}'")
        db.conn.execute(f"DELETE FROM public.derived_data_bars WHERE {KEY} = '{NATIVE}'")
        assert value(db.conn, IN_BARS.format(NATIVE)) == native
        assert value(db.conn, "SELECT count(*) FROM dxy.migration_undo") == 0


def test_a_native_bar_that_vanished_is_reported(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:
        with evading(db.conn):
            db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{NATIVE}'")
        found = db.migration.verify()
        assert [f["problem"] for f in found["failures"]] == ["native row vanished"]


def test_a_retirement_that_goes_on_compares_again(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:
        cut(db.migration.retire, "retire.committed")
        db.conn.execute("ALTER TABLE public.derived_data_bars DISABLE TRIGGER dxy_mirror_insert")
        db.conn.execute(LEGACY.format(LATE, 77))
        assert db.migration.dual_write(readers_moved=True)["restored"] == ["derived_data_bars.dxy_mirror_insert"]
        with pytest.raises(UserError, match="repair after the last clean verification"):
            db.migration.retire()
        assert not db.migration.verify()["ok"]
        db.conn.execute("UPDATE dxy.migration_control SET repaired_after = false")
        with pytest.raises(UserError, match=r"1 minutes differ.*nothing was retired"):
            db.migration.retire()
        assert db.migration.verify(repair=True, extra="copy")["repaired"] == 1
        assert db.migration.verify()["ok"]
        assert value(db.conn, IN_BARS.format(LATE)) == 77
        db.migration.retire()


def test_a_row_that_data_bars_does_not_hold_is_never_retired(stage: Stage) -> None:
    """Not even when it came after the comparison, past the mirror."""
    with stage.at("P", "cut_over") as db:

        def write(step: str, _: Any) -> None:
            if step == "retire.committed":
                with evading(db.conn):
                    db.conn.execute(LEGACY.format(LATE, 77))
                steps.install(None)

        steps.install(write)
        with pytest.raises(UserError, match="1 minutes of 2024-07-01 differ; they were not retired"):
            db.migration.retire()
        assert value(db.conn, ALIVE.format(LATE)) == 77
        assert db.migration.status()["state"] == "cut_over"


# Rollback


@pytest.mark.parametrize("state", ["dual_write", "backfilled", "verified", "cut_over"])
@pytest.mark.parametrize("how", ["ALTER TABLE public.data_bars DISABLE TRIGGER dxy_mirror_insert",
                                 "DROP TRIGGER dxy_mirror_insert ON public.data_bars"])  # fmt: skip
def test_a_rollback_over_a_broken_mirror_loses_no_write(stage: Stage, state: str, how: str) -> None:
    with stage.at("P", state) as db:
        db.conn.execute(how)
        db.conn.execute(BARS.format(LATE, 99))
        before = value(db.conn, "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = 'DXY'")
        with pytest.raises(UserError, match="1 minutes differ and a rollback would lose a side of them") as caught:
            db.migration.rollback()
        assert "--on-extra copy" in caught.value.hint
        status = db.migration.status()
        assert status["next"] != "rollback, which was cut off"
        assert status["triggers missing"] == []
        assert value(db.conn, "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = 'DXY'") == before
        assert db.migration.verify(repair=True, extra="copy")["repaired"] == 1
        db.migration.rollback()
        assert value(db.conn, ALIVE.format(LATE)) == 99


def test_a_rollback_refuses_what_readers_see_and_legacy_has_otherwise(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:
        with evading(db.conn):
            db.conn.execute(f"UPDATE public.data_bars SET close = 5 WHERE {KEY} = '{ONE}'")
            db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{TWO}'")
        with pytest.raises(UserError, match="2 minutes differ"):
            db.migration.rollback()
        db.migration.verify(repair=True, extra="delete")
        db.migration.rollback()
        assert value(db.conn, ALIVE.format(ONE)) == 5
        assert value(db.conn, ALIVE.format(TWO)) is None


def test_what_is_not_copied_yet_is_in_no_way_of_a_rollback(stage: Stage) -> None:
    """Half of the backfill done, and a conflict that nobody has decided: legacy is what readers use, nothing is lost."""
    with stage.at("P", "legacy") as db:
        db.conn.execute(BARS.format(ONE, 5))
        columns, before = desk_columns(db.conn), content(db.conn)
        migrated(db, "dual_write")
        cut(db.migration.backfill, "backfill.committed")
        db.migration.rollback()
        assert content(db.conn, columns) == before


@pytest.mark.parametrize("step", ["rollback.begun", "rollback.proved"])
def test_a_rollback_that_was_cut_off_proves_again(stage: Stage, step: str) -> None:
    with stage.at("P", "cut_over") as db:
        cut(db.migration.rollback, step)
        with evading(db.conn):
            db.conn.execute(BARS.format(LATE, 99))
        with pytest.raises(UserError, match="1 minutes differ"):
            db.migration.rollback()
        assert db.migration.verify(repair=True, extra="copy")["repaired"] == 1
        db.migration.rollback()
        assert value(db.conn, ALIVE.format(LATE)) == 99


def test_a_change_between_the_proof_and_the_muting_is_looked_at(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:

        def write(step: str, _: Any) -> None:
            if step == "rollback.readers!":
                steps.install(None)
                with psycopg.connect(db.url, autocommit=True) as other:
                    other.execute(BARS.format("2024-07-01 00:01:00+00", 1))  # mirrored: the day counts as changed
                    with evading(other):
                        other.execute(BARS.format(LATE, 99))

        steps.install(write)
        with pytest.raises(UserError, match="1 minutes differ"):
            db.migration.rollback()
        assert db.migration.verify(repair=True, extra="copy")["repaired"] == 1
        db.migration.rollback()
        assert value(db.conn, ALIVE.format(LATE)) == 99


def test_what_passes_the_mirror_by_during_the_undo_is_kept(stage: Stage) -> None:
    """A row of data_bars that legacy lacks, or has otherwise, is not taken out unless legacy itself has changed."""
    with stage.at("P", "cut_over") as db:
        native = value(db.conn, "SELECT count(*) FROM dxy.migration_native")
        was = value(db.conn, ALIVE.format(ONE))
        cut(db.migration.rollback, "rollback.undo!")
        with evading(db.conn):
            db.conn.execute(BARS.format(LATE, 99))
            db.conn.execute(f"UPDATE public.data_bars SET close = 98 WHERE {KEY} = '{ONE}'")
        result = db.migration.rollback()
        assert result["kept, unexplained"] == 2
        assert value(db.conn, ALIVE.format(LATE)) == value(db.conn, IN_BARS.format(LATE)) == 99
        assert (value(db.conn, ALIVE.format(ONE)), value(db.conn, IN_BARS.format(ONE))) == (was, 98)
        assert value(db.conn, "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = 'DXY'") == native + 2


def test_legacy_writes_during_the_undo_are_no_riddle(stage: Stage) -> None:
    """data_bars follows no more: its copies of what legacy changed since go, like all the others."""
    with stage.at("P", "legacy") as db:
        columns, before = desk_columns(db.conn), content(db.conn)
    with stage.at("P", "cut_over") as db:
        cut(db.migration.rollback, "rollback.undo!")
        db.conn.execute(UPSERT.format(ONE, 77))
        db.conn.execute(f"DELETE FROM public.derived_data_bars WHERE deleted_at IS NULL AND {KEY} = '{TWO}'")
        db.conn.execute(LEGACY.format(LATE, 78))
        assert value(db.conn, IN_BARS.format(LATE)) is None
        result = db.migration.rollback()
        assert result["kept, unexplained"] == 0
        assert content(db.conn, columns)["data_bars"] == before["data_bars"]
        assert (value(db.conn, ALIVE.format(ONE)), value(db.conn, ALIVE.format(LATE))) == (77, 78)
        assert value(db.conn, ALIVE.format(TWO)) is None


# Repair


def test_a_repair_asks_before_it_deletes_and_keeps_both_rows(stage: Stage) -> None:
    with stage.at("P", "backfilled") as db:
        with evading(db.conn):
            db.conn.execute(BARS.format(LATE, 99))
            db.conn.execute(f"UPDATE public.data_bars SET close = 98, vol = '-0' WHERE {KEY} = '{ONE}'")
        was = value(db.conn, ALIVE.format(ONE))
        with pytest.raises(UserError, match="only data_bars has 1 of the minutes that differ"):
            db.migration.verify(repair=True)
        assert value(db.conn, IN_BARS.format(ONE)) == 98
        assert db.migration.verify(repair=True, extra="delete") == {
            "repaired": 2,
            "left": 0,
            "next": "dxy migrate verify",
        }
        assert value(db.conn, IN_BARS.format(LATE)) is None
        assert value(db.conn, IN_BARS.format(ONE)) == was
        kept = db.conn.execute(
            "SELECT (r.data_bars_image::public.data_bars).close, (r.data_bars_image::public.data_bars).vol::text,"
            " (r.legacy_image::public.derived_data_bars).close, r.overwritten FROM dxy.migration_repair AS r ORDER BY r.ts_utc"
        ).fetchall()
        assert kept == [(98.0, "-0", was, "data_bars"), (99.0, "0", None, "data_bars")]
        assert db.migration.verify()["ok"]


@pytest.mark.parametrize("extra", ["copy", "delete"])
def test_a_minute_that_only_the_other_table_has_is_copied_or_deleted(stage: Stage, extra: str) -> None:
    for state, write in (("backfilled", BARS), ("cut_over", LEGACY)):
        with stage.at("P", state) as db:
            with evading(db.conn):
                db.conn.execute(write.format(LATE, 99))
            db.migration.verify(repair=True, extra=extra)
            assert db.migration.verify()["ok"]
            wanted = 99 if extra == "copy" else None
            assert value(db.conn, ALIVE.format(LATE)) == value(db.conn, IN_BARS.format(LATE)) == wanted


def test_a_repair_after_the_cutover_keeps_the_rollback_exact(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        db.conn.execute(
            "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
            " SELECT 'DXY', '1m', ts_utc, open + 5e-9, high + 5e-9, low + 5e-9, close + 5e-9, 0, 'synthetic'"
            f" FROM public.derived_data_bars WHERE {KEY} = '{ONE}' AND deleted_at IS NULL"
        )
        columns, before = desk_columns(db.conn), content(db.conn)
        migrated(db, "cut_over")
        with evading(db.conn):
            db.conn.execute(
                f"UPDATE public.derived_data_bars SET vol = 1 WHERE {KEY} IN ('{ONE}', '{TWO}') AND deleted_at IS NULL"
            )
        ledger = "SELECT (SELECT count(*) FROM dxy.migration_undo), (SELECT count(*) FROM dxy.migration_direct)"
        noted = db.conn.execute(ledger).fetchone()
        assert noted == (1, 0)
        assert db.migration.verify(repair=True)["repaired"] == 2
        assert db.conn.execute(ledger).fetchone() == noted
        assert db.migration.verify()["ok"]
        db.migration.rollback()
        assert content(db.conn, columns)["data_bars"] == before["data_bars"]
        assert value(db.conn, f"SELECT vol::float8 FROM public.derived_data_bars WHERE {KEY} = '{TWO}'") == 0


@pytest.mark.parametrize("shape", ["P", "S"])
def test_more_than_a_thousand_minutes_are_counted_and_repaired(stage: Stage, shape: str) -> None:
    with stage.at(shape, "backfilled") as db:
        with evading(db.conn):
            db.conn.execute(
                "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
                " SELECT 'DXY', '1m', '2024-07-01 00:00+00'::timestamptz + g * interval '1 minute', 1, 1, 1, 1, 0, 'synthetic'"
                " FROM generate_series(0, 2399) AS g"
            )
        found = db.migration.verify()
        assert (found["differing"], len(found["failures"])) == (2400, 1000)
        with pytest.raises(UserError, match="only data_bars has 2400 of the minutes"):
            db.migration.verify(repair=True)
        cut(lambda: db.migration.verify(repair=True, extra="copy"), "repair.batch!", 2)
        assert db.migration.verify()["differing"] == 1400
        assert db.migration.verify(repair=True, extra="copy")["repaired"] == 1400
        assert db.migration.verify()["ok"]
        assert mirror_differs(db.conn) == 0


def test_a_repair_of_a_retired_minute(stage: Stage) -> None:
    """Both ways: legacy's row with the tag stands for the minute."""
    with stage.at("P", "cut_over") as db:
        cut(db.migration.retire, "retire.committed")
        with evading(db.conn):
            db.conn.execute(f"UPDATE public.data_bars SET close = 98 WHERE {KEY} = '{ONE}'")
            db.conn.execute(f"DELETE FROM public.data_bars WHERE {KEY} = '{TWO}'")
        assert db.migration.verify()["differing"] == 2
        assert db.migration.verify(repair=True, extra="copy")["left"] == 0
        assert db.migration.verify()["ok"]
        assert value(db.conn, IN_BARS.format(TWO)) is not None
        db.migration.retire()
        db.migration.rollback()
        assert value(db.conn, ALIVE.format(ONE)) == 98


def test_an_unknown_way_with_extra_minutes_is_refused(stage: Stage) -> None:
    with stage.at("P", "verified") as db, pytest.raises(UserError, match="unknown way 'guess'"):
        db.migration.verify(repair=True, extra="guess")


# Triggers

ALTERED = {
    "another function": (
        "CREATE OR REPLACE TRIGGER dxy_mirror_update AFTER UPDATE ON public.derived_data_bars"
        " FOR EACH STATEMENT EXECUTE FUNCTION public.nothing()"
    ),
    "a function of the same name elsewhere": (
        "CREATE OR REPLACE TRIGGER dxy_mirror_update AFTER UPDATE ON public.derived_data_bars REFERENCING OLD TABLE AS"
        " old_rows NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (current_setting('dxy.mirror', true) IS DISTINCT FROM"
        " 'on') EXECUTE FUNCTION public.mirror_legacy_statement('mirror')"
    ),
    "another argument": (
        "CREATE OR REPLACE TRIGGER dxy_mirror_update AFTER UPDATE ON public.derived_data_bars REFERENCING OLD TABLE AS"
        " old_rows NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (current_setting('dxy.mirror', true) IS DISTINCT FROM"
        " 'on') EXECUTE FUNCTION dxy.mirror_legacy_statement('note')"
    ),
    "another condition": (
        "CREATE OR REPLACE TRIGGER dxy_mirror_update AFTER UPDATE ON public.derived_data_bars REFERENCING OLD TABLE AS"
        " old_rows NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION"
        " dxy.mirror_legacy_statement('mirror')"
    ),
}


@pytest.mark.parametrize("how", ALTERED)
def test_a_trigger_of_the_right_name_and_another_definition(any_stage: Stage, how: str) -> None:
    with any_stage.at("P", "verified") as db:
        assert db.migration.status()["triggers missing"] == []
        for name in ("nothing", "mirror_legacy_statement"):
            db.conn.execute(
                f"CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            )
        db.conn.execute(ALTERED[how])
        db.conn.execute("ALTER TABLE public.derived_data_bars ENABLE ALWAYS TRIGGER dxy_mirror_update")
        assert db.migration.status()["triggers missing"] == ["derived_data_bars.dxy_mirror_update"]
        with pytest.raises(UserError, match=r"dxy_mirror_update is missing"):
            db.migration.cutover()
        assert db.migration.dual_write(readers_moved=True)["restored"] == ["derived_data_bars.dxy_mirror_update"]
        assert db.migration.status()["triggers missing"] == []


def test_a_clean_comparison_counts_nothing() -> None:
    assert verify.Comparison(1, 1, 0, [], "0").differing == 0

"""Exact rollback: every row that no application wrote is byte-identical, updated_at included; every write is kept."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import states
from dxy_pipeline_tests.migration.support import PATH, Stage, content, desk_columns, enter, mirror_differs

L = "UPDATE public.derived_data_bars SET {} WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc = '{}'"
B = "UPDATE public.data_bars SET {} WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc = '{}'"
NEW_BAR = (
    "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source, raw)"
    " VALUES ('DXY', '1m', '{}', 1, 1, 1, {}, 0, 'synthetic', '{{\"kind\": \"dxy\"}}')"
)
NEW_LEGACY = (
    "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
    " VALUES ('DXY', '1m', '{}', 1, 1, 1, {}, 0)"
)
NATIVE = "2024-06-30 00:05:00+00"  # one of the native minutes of data_bars, which legacy does not have


EVERYWHERE = [("P", state) for state in PATH[1:]] + [(shape, "retired") for shape in ("S", "Sfull", "E")]


@pytest.mark.parametrize(("shape", "reached"), EVERYWHERE)
def test_nothing_but_added_columns_is_left(any_stage: Stage, shape: str, reached: str) -> None:
    """Dead legacy rows, several dead and one live on a key, native rows: all byte-identical, from every state."""
    with any_stage.at(shape, "legacy") as db:
        columns, before = desk_columns(db.conn), content(db.conn)
    with any_stage.at(shape, reached) as db:
        db.migration.rollback(reason="test")
        assert content(db.conn, columns) == before
        assert db.conn.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%dxy\\_mirror%'").fetchone() == (0,)
        assert db.migration.status()["state"] == "rolled_back"


@pytest.mark.parametrize("shape", ["S", "P"])
def test_forward_again_any_number_of_times(stage: Stage, shape: str) -> None:
    with stage.at(shape, "legacy") as db:
        columns, before = desk_columns(db.conn), content(db.conn)
        for _ in range(2):
            for state in PATH[1:]:
                enter(db.migration, state)
            db.migration.rollback()
            assert content(db.conn, columns) == before
        replayed = states.replay([(r["from_state"], r["to_state"]) for r in db.migration.audit()])
        assert replayed == db.migration.status()["state"] == "rolled_back"


def legacy_close(conn: psycopg.Connection, ts: str) -> float | None:
    row = conn.execute(
        "SELECT close::float8 FROM public.derived_data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
        " AND ts_utc = %s AND deleted_at IS NULL",
        (ts,),
    ).fetchone()
    return row[0] if row else None


def bars_close(conn: psycopg.Connection, ts: str) -> float | None:
    row = conn.execute(
        "SELECT close::float8 FROM public.data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc = %s",
        (ts,),
    ).fetchone()
    return row[0] if row else None


# (statement, minute, close in legacy after the rollback, close in data_bars after it; "same": as before the migration)
WRITES: dict[str, tuple[str, str, Any, Any]] = {
    "legacy update": (L.format("close = 77", "2024-06-10 01:00:00+00"), "2024-06-10 01:00:00+00", 77, None),
    "legacy soft delete": (
        L.format("deleted_at = now()", "2024-06-10 01:01:00+00"),
        "2024-06-10 01:01:00+00",
        None,
        None,
    ),
    "legacy insert": (NEW_LEGACY.format("2024-07-01 00:00:00+00", 76), "2024-07-01 00:00:00+00", 76, None),
    "legacy hard delete": (
        "DELETE FROM public.derived_data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-10 01:02:00+00'",
        "2024-06-10 01:02:00+00",
        None,
        None,
    ),
    "data_bars update": (B.format("close = 78", "2024-06-10 02:00:00+00"), "2024-06-10 02:00:00+00", 78, 78),
    "data_bars delete": (
        "DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-10 02:01:00+00'",
        "2024-06-10 02:01:00+00",
        None,
        None,
    ),
    "data_bars insert": (NEW_BAR.format("2024-07-01 00:01:00+00", 79), "2024-07-01 00:01:00+00", 79, 79),
    "native update": (B.format("close = 80", NATIVE), NATIVE, 80, 80),
    "native delete": (
        "DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-30 00:06:00+00'",
        "2024-06-30 00:06:00+00",
        None,
        None,
    ),
    "legacy insert over a native row": (
        NEW_LEGACY.format("2024-06-30 00:07:00+00", 81),
        "2024-06-30 00:07:00+00",
        81,
        "same",
    ),
}


@pytest.mark.parametrize("shape", ["S", "Sfull", "P"])
@pytest.mark.parametrize("when", ["dual_write", "verified", "cut_over", "retired"])
def test_writes_made_on_the_way_are_kept_and_nothing_else(stage: Stage, shape: str, when: str) -> None:
    with stage.at(shape, "legacy") as db:
        columns = desk_columns(db.conn)
        before = rows(db.conn, columns)
        native_before = bars_close(db.conn, "2024-06-30 00:07:00+00")
    with stage.at(shape, when) as db:
        done = {}
        for name, (statement, ts, legacy, bars) in WRITES.items():
            if when == "retired" and name.startswith("legacy"):
                continue  # legacy is closed then (see test_a_forgotten_legacy_writer_is_stopped)
            if when == "dual_write" and name in {"data_bars update", "data_bars delete"}:
                continue  # the history is not there yet
            db.conn.execute(statement)
            done[name] = (ts, legacy, bars)
        if when != "retired":
            assert mirror_differs(db.conn) <= 447 if when == "dual_write" else mirror_differs(db.conn) == 0
        db.migration.rollback()
        for name, (ts, legacy, bars) in done.items():
            wanted = native_before if bars == "same" else bars
            assert (name, legacy_close(db.conn, ts)) == (name, legacy)
            assert (name, bars_close(db.conn, ts)) == (name, wanted)
        touched = {ts for ts, _, _ in done.values()}
        assert untouched(before, touched) == untouched(rows(db.conn, columns), touched)


def rows(conn: psycopg.Connection, columns: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    return {
        table: conn.execute(f"SELECT ts_utc::text, t::text FROM (SELECT {names} FROM public.{table}) AS t").fetchall()
        for table, names in columns.items()
        if table != "core_asset_registry_all"
    }


def untouched(found: dict[str, list[tuple[str, str]]], touched: set[str]) -> dict[str, list[str]]:
    return {table: sorted(text for ts, text in listed if ts not in touched) for table, listed in found.items()}


def test_a_forgotten_legacy_writer_is_stopped(stage: Stage) -> None:
    with stage.at("P", "retired") as db:
        with pytest.raises(psycopg.errors.CheckViolation, match="dxy_1m_moved_to_data_bars"):
            db.conn.execute(NEW_LEGACY.format("2024-07-01 00:00:00+00", 1))
        db.conn.execute(NEW_LEGACY.format("2024-07-01 00:00:00+00", 1).replace("'1m'", "'5m'"))


def test_rows_deleted_before_the_migration_stay_deleted(stage: Stage) -> None:
    with stage.at("P", "retired") as db:
        dead = "SELECT count(*) FROM public.derived_data_bars WHERE deleted_at IS NOT NULL AND timeframe = '1m'"
        assert db.conn.execute(dead).fetchone() == (447 + 20,)
        assert db.migration.rollback()["un-deleted"] == 447
        assert db.conn.execute(dead).fetchone() == (20,)


def test_roll_back_of_a_prepare_that_was_cut_off(stage: Stage) -> None:
    from dxy_pipeline.migration import steps

    with stage.at("P", "legacy") as db:
        columns, before = desk_columns(db.conn), content(db.conn)

        def stop(step: str, _: Any) -> None:
            if step == "prepare.registry":
                raise KeyboardInterrupt

        steps.install(stop)
        with pytest.raises(KeyboardInterrupt):
            enter(db.migration, "prepared")
        steps.install(None)
        assert db.migration.rollback()["state"] == "legacy"
        assert content(db.conn, columns) == before
        enter(db.migration, "prepared")


def test_nothing_to_roll_back_is_said(stage: Stage) -> None:
    with stage.at("P", "legacy") as db, pytest.raises(UserError, match="rollback needs the state"):
        db.migration.rollback()


@pytest.mark.parametrize("shape", ["P"])
def test_forward_is_refused_while_a_rollback_is_not_finished(stage: Stage, shape: str) -> None:
    from dxy_pipeline.migration import steps

    def stop(step: str, _: Any) -> None:
        if step == "rollback.unretired":
            raise KeyboardInterrupt

    commands: dict[str, Callable[..., Any]]
    with stage.at(shape, "cut_over") as db:
        steps.install(stop)
        with pytest.raises(KeyboardInterrupt):
            db.migration.rollback()
        steps.install(None)
        commands = {"retire": db.migration.retire, "cutover": db.migration.cutover, "verify": db.migration.verify}
        for command in commands.values():
            with pytest.raises(UserError, match="a rollback has begun"):
                command()
        envelope = db.conn.execute("SELECT public.calc_dxy_range_1m(now(), now() + interval '1 minute')").fetchone()
        assert envelope is not None
        assert "being rolled back" in envelope[0]["error"]
        db.migration.rollback()


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_rollback_cut_off_between_two_batches_still_fetches_what_came_after_the_retirement(
    stage: Stage, batch: int
) -> None:
    """The last days hold no retired row: a run that goes on must not take the missing tags for the end of the work."""
    from dxy_pipeline.migration import steps

    seen: list[str] = []

    def stop(step: str, _: Any) -> None:
        if step in {"rollback.unretire!", "rollback.unretired"}:
            seen.append(step)
            if len(seen) > batch:
                raise KeyboardInterrupt

    with stage.at("P", "retired") as db:
        for day in (1, 3, 5):
            db.conn.execute(NEW_BAR.format(f"2024-07-0{day} 00:01:00+00", 70 + day))
        steps.install(stop)
        with pytest.raises(KeyboardInterrupt):
            db.migration.rollback()
        steps.install(None)
        db.migration.rollback()
        for day in (1, 3, 5):
            assert legacy_close(db.conn, f"2024-07-0{day} 00:01:00+00") == 70 + day
            assert bars_close(db.conn, f"2024-07-0{day} 00:01:00+00") == 70 + day

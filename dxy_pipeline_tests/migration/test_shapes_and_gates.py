"""Column types that differ, who may write what in which state, and that readers see exactly one table."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dxy_pipeline.db import schema
from dxy_pipeline.migration import states
from dxy_pipeline_tests import shapes
from dxy_pipeline_tests.migration.support import PATH, Stage, content, desk_columns, enter, mirror_differs
from dxy_pipeline_tests.pg_server import Cluster

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
ONE = "2024-06-10 01:00:00+00"


@pytest.mark.parametrize("floats", ["data_bars", "derived_data_bars"])
def test_numeric_on_one_side_and_float8_on_the_other(
    any_stage: Stage, any_server: Cluster, new_database: Callable[..., str], floats: str
) -> None:
    """Mirrored both ways, verified by content and rolled back exactly, in the coarser of the two types."""
    url = new_database(any_server, head=False)
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as conn:
        shapes.build_shape_s(conn)
        for column in ("open", "high", "low", "close", "vol", "vwap"):
            conn.execute(f"ALTER TABLE public.{floats} ALTER COLUMN {column} TYPE double precision")
        schema.upgrade(conn)
        columns, before = desk_columns(conn), content(conn)
        migration = any_stage.migration(url)
        assert migration.plan()["values that do not survive the column types"] == 0
        assert migration.plan()["compared in"]["close"] == "numeric(20,8)"
        for place in PATH[1:6]:
            enter(migration, place)
        with conn.transaction(force_rollback=True):
            conn.execute(f"UPDATE public.data_bars SET close = 101.123456785 WHERE {KEY} = '{ONE}'")
            assert mirror_differs(conn) == 0
            conn.execute(
                f"UPDATE public.derived_data_bars SET close = 102.00000001 WHERE {KEY} = '2024-06-10 01:01+00'"
            )
            assert mirror_differs(conn) == 0
        assert migration.verify()["ok"]
        enter(migration, "retired")
        migration.rollback()
        assert content(conn, columns) == before


def test_values_that_do_not_survive_the_types_are_counted_and_need_a_word(
    stage: Stage, server: Cluster, new_database: Callable[..., str]
) -> None:
    url = new_database(server, head=False)
    with psycopg.connect(url, autocommit=True) as conn:
        shapes.build_shape_s(conn, natives=False)
        conn.execute("ALTER TABLE public.derived_data_bars ALTER COLUMN close TYPE double precision")
        conn.execute(f"UPDATE public.derived_data_bars SET close = 103.123456789012 WHERE {KEY} = '{ONE}'")
        schema.upgrade(conn)
        migration = stage.migration(url)
        assert migration.plan()["values that do not survive the column types"] == 1
        with pytest.raises(Exception, match=r"1 legacy rows do not survive.*--accept-rounding"):
            migration.prepare()
        migration.prepare(accept_rounding=True, options={"health_minutes": 0})
        for place in PATH[2:6]:
            enter(migration, place)


def envelope(conn: psycopg.Connection, start: str) -> Any:
    row = conn.execute(
        "SELECT public.calc_dxy_range_1m(%s, %s::timestamptz + interval '1 hour')", (start, start)
    ).fetchone()
    assert row is not None
    return row[0]


# state -> (history allowed, live allowed, roll-ups allowed, words of the refusal)
GATES = {
    "legacy": (False, False, False, "dxy migrate prepare"),
    "prepared": (False, False, False, "dxy migrate dual-write"),
    "dual_write": (False, True, False, "dxy migrate backfill"),
    "verified": (False, True, False, "dxy migrate backfill"),
    "cut_over": (True, True, True, ""),
    "retired": (True, True, True, ""),
}


@pytest.mark.parametrize("place", GATES)
def test_who_may_write_what_in_which_state(stage: Stage, place: str) -> None:
    history, live, rollups, words = GATES[place]
    with stage.at("P", place) as db:
        found = envelope(db.conn, "2024-06-10 00:00+00")
        assert found["success"] is history
        assert history or words in found["error"]
        assert envelope(db.conn, "now")["success"] is live
        row = db.conn.execute(
            "SELECT public.calc_dxy_rollup_range('5m', '2024-06-10 00:00+00', '2024-06-10 01:00+00')"
        ).fetchone()
        assert row is not None
        assert row[0]["success"] is rollups
        assert rollups or "belong to the desk's aggregator" in row[0]["error"]


@pytest.mark.parametrize("place", PATH[1:])
def test_readers_see_each_minute_once_in_every_state(stage: Stage, place: str) -> None:
    with stage.at("P", place) as db:
        row = db.conn.execute("SELECT count(*), count(DISTINCT ts_utc) FROM dxy.dxy_1m_active").fetchone()
        after_cutover = place in {"cut_over", "retired"}
        assert row == ((467, 467) if after_cutover else (447, 447))
        table = db.conn.execute("SELECT dxy.reading_table()").fetchone()
        assert table == ("data_bars" if after_cutover else "derived_data_bars",)


def test_a_reader_that_holds_the_gate_holds_off_the_cutover(stage: Stage) -> None:
    with stage.at("P", "verified", patience=0.5) as db, psycopg.connect(db.url) as reader:
        assert reader.execute("SELECT dxy.reading_table()").fetchone() == ("derived_data_bars",)
        with pytest.raises(Exception, match="cutover: a lock never came"):
            db.migration.cutover()
        assert reader.execute("SELECT count(*) FROM dxy.dxy_1m_active").fetchone() == (447,)
        reader.rollback()
        assert db.migration.cutover()["state"] == "cut_over"


def test_a_writer_with_an_old_snapshot_fails_instead_of_missing_a_row(stage: Stage) -> None:
    """REPEATABLE READ: it deletes a row that the backfill copied after its snapshot; 40001 and a retry, not a ghost."""
    with stage.at("P", "dual_write") as db, psycopg.connect(db.url) as writer:
        writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        writer.execute("SELECT 1")
        db.migration.backfill()
        with pytest.raises(psycopg.errors.SerializationFailure):
            writer.execute(f"DELETE FROM public.derived_data_bars WHERE {KEY} = '{ONE}'")
        writer.rollback()
        writer.execute(f"DELETE FROM public.derived_data_bars WHERE {KEY} = '{ONE}'")
        writer.commit()
        assert mirror_differs(db.conn) == 0


def test_ten_thousand_upserts_without_statistics(stage: Stage) -> None:
    """Stale statistics once made this 430 seconds: the mirror's plan is pinned."""
    with stage.at("P", "dual_write") as db:
        db.conn.execute("SET statement_timeout = '60s'")
        db.conn.execute(
            "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
            " SELECT 'DXY', '1m', '2023-01-02 00:00+00'::timestamptz + g * interval '1 minute', 1, 1, 1, 1, 0"
            " FROM generate_series(1, 10000) AS g"
        )
        assert db.conn.execute("SELECT count(*) FROM public.data_bars WHERE ts_utc < '2024-01-01'").fetchone() == (
            10000,
        )


def test_the_audit_replays_to_the_state(stage: Stage) -> None:
    with stage.at("P", "retired") as db:
        rows = db.migration.audit()
        assert states.replay([(r["from_state"], r["to_state"]) for r in rows]) == "retired"
        assert all(r["actor"] == "tester" and r["code_version"] and r["counts_after"] for r in rows)
        with pytest.raises(ValueError, match="begins in"):
            states.replay([("legacy", "prepared"), ("verified", "cut_over")])

"""Legacy minutes whose six inputs were never stored: noted as they come in, kept after the move, forgotten by a rollback."""

import psycopg
import pytest

from dxy_pipeline_tests.migration.support import Stage, enter

LATE = "2024-06-08 10:00:00+00"


def noted(conn: psycopg.Connection) -> list[str]:
    rows = conn.execute(
        "SELECT ts_utc::text FROM dxy.unverifiable_day, unnest(minutes) AS r,"
        " generate_series(lower(r), upper(r) - interval '1 minute', '1 minute') AS ts_utc ORDER BY 1"
    ).fetchall()
    return [row[0] for row in rows]


def minutes(conn: psycopg.Connection, day: str) -> int:
    row = conn.execute(
        "SELECT count(*) FROM data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
        " AND ts_utc >= %s::timestamptz AND ts_utc < %s::timestamptz + interval '1 day'",
        (day, day),
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("shape", ["S", "P"])
def test_noted_by_the_backfill_and_by_the_mirror(stage: Stage, shape: str) -> None:
    with stage.at(shape, "dual_write") as db:
        assert noted(db.conn) == []
        db.conn.execute(
            "INSERT INTO derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
            " VALUES ('DXY', '1m', %s, 104, 104, 104, 104, 0)",
            (LATE,),
        )
        db.conn.execute(
            "UPDATE derived_data_bars SET close = close + 1 WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
            " AND ts_utc = '2024-06-10 01:00+00' AND deleted_at IS NULL"
        )
        assert noted(db.conn) == [LATE]
        db.migration.backfill(policy="legacy-wins")
        assert len(noted(db.conn)) == 11


@pytest.mark.parametrize("shape", ["S", "P"])
def test_after_the_cutover_only_they_outlive_their_inputs(stage: Stage, shape: str) -> None:
    with stage.at(shape, "cut_over") as db:
        kept, verifiable = minutes(db.conn, "2024-06-09"), minutes(db.conn, "2024-06-10")
        assert (kept, verifiable > 100, len(noted(db.conn))) == (10, True, 10)
        db.conn.execute(
            "DELETE FROM data_bars WHERE canonical_symbol = 'USDCHF' AND ts_utc >= '2024-06-10' AND ts_utc < '2024-06-11'"
        )
        row = db.conn.execute("SELECT public.calc_dxy_range_1m('2024-06-09', '2024-06-11')").fetchone()
        assert row is not None
        assert (row[0]["success"], row[0]["deleted"]) == (True, verifiable)
        assert (minutes(db.conn, "2024-06-09"), minutes(db.conn, "2024-06-10")) == (10, 0)


def test_a_rollback_leaves_no_note(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:
        db.migration.rollback()
        assert noted(db.conn) == []
        enter(db.migration, "prepared")
        enter(db.migration, "dual_write")
        enter(db.migration, "backfilled")
        assert len(noted(db.conn)) == 10

"""Whose minutes a derivation may take away: its own, and migrated ones whose inputs were there; nobody else's.

A row of ours is its own evidence that the inputs were there. A desk's own DXY row, or a legacy row that was migrated
without inputs, says nothing about them: it is kept, and counts neither for nor against count-match and drift.
"""

import json
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dxy_pipeline.checks import engine
from dxy_pipeline.core.index import index_price
from dxy_pipeline.db import schema
from dxy_pipeline_tests.bars import MINUTE, RATES, T0, derive, dxy_minutes, put, put_six, remove, row_versions, scalar
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.shapes import START, build_shape_p, build_shape_s

HOUR = timedelta(hours=1)
LEGACY = {"kind": "dxy", "formula": "standard"}
MIGRATED = {"kind": "dxy", "derivation_version": 1, "migrated_from": "derived_data_bars", "legacy": LEGACY}


def dxy_row(
    conn: psycopg.Connection, minute: int, price: float, raw: dict[str, object] | None, source: str = "synthetic"
) -> None:
    """Store a DXY minute as somebody else would."""
    conn.execute(
        "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count,"
        " is_partial, source, ingested_at, raw) VALUES ('DXY', '1m', %(ts)s, %(p)s, %(p)s, %(p)s, %(p)s, 0, 0, false,"
        " %(source)s, now(), %(raw)s)",
        {"ts": T0 + minute * MINUTE, "p": price, "source": source, "raw": json.dumps(raw or {})},
    )


def violations(conn: psycopg.Connection) -> dict[str, int]:
    """What count-match and drift say of the last 48 hours, touched minutes settled."""
    conn.execute("DELETE FROM dxy.touched_range")
    results = engine.run_checks(conn, NOW, only={"count_match", "drift"})
    assert {result.name for result in results} == {"count_match", "drift"}
    return {result.name: result.violations for result in results}


@pytest.mark.parametrize("builder", [build_shape_s, build_shape_p])
def test_a_desks_own_minutes_survive_a_backfill(any_empty_db: str, builder: object) -> None:
    """No legacy rows, so nothing stops the derivation; FX bars of the desk's DXY minutes were never stored."""
    with psycopg.connect(any_empty_db, autocommit=True) as conn:
        builder(conn)  # type: ignore[operator]
        conn.execute("DELETE FROM derived_data_bars WHERE timeframe = '1m'")
        own = "SELECT md5(string_agg(d::text, '|' ORDER BY ts_utc)) FROM data_bars AS d WHERE canonical_symbol = 'DXY'"
        schema.upgrade(conn)
        before = scalar(conn, own)
        day = START + timedelta(days=20)
        envelope = derive(conn, day, day + timedelta(days=1))
        assert (envelope["success"], envelope["deleted"]) == (True, 0)
        assert scalar(conn, own) == before


@pytest.mark.parametrize("raw", [None, {"kind": "dxy"}, {"note": "by hand"}])
def test_a_foreign_row_is_kept_without_inputs_and_taken_over_with_them(
    any_conn: psycopg.Connection, raw: dict[str, object] | None
) -> None:
    dxy_row(any_conn, 0, 104.5, raw)
    put_six(any_conn, T0 + MINUTE)
    assert derive(any_conn, T0, T0 + HOUR)["deleted"] == 0
    assert dxy_minutes(any_conn)[T0] == 104.5
    assert violations(any_conn) == {"count_match": 0, "drift": 0}
    put_six(any_conn, T0)
    assert derive(any_conn, T0, T0 + HOUR)["updated"] == 1
    remove(any_conn, "EURUSD", T0)  # now it is ours, and follows its inputs
    assert derive(any_conn, T0, T0 + HOUR)["deleted"] == 1


def test_a_row_of_ours_that_lost_an_input_counts_as_extra_until_it_is_gone(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 3)
    derive(conn, T0, T0 + HOUR)
    remove(conn, "EURUSD", T0)
    assert violations(conn) == {"count_match": 1, "drift": 0}
    assert derive(conn, T0, T0 + HOUR)["deleted"] == 1
    assert violations(conn) == {"count_match": 0, "drift": 0}


def test_a_migrated_bar_whose_inputs_were_there_is_retracted_with_them(any_conn: psycopg.Connection) -> None:
    """Only a minute noted as unverifiable is exempt, and only until it is derived from complete inputs."""
    for minute in range(3):
        dxy_row(any_conn, minute, 104.5, MIGRATED)
    any_conn.execute("SELECT dxy.note_unverifiable(%s)", ([T0, T0 + MINUTE],))
    put_six(any_conn, T0 + 2 * MINUTE)
    remove(any_conn, "USDCHF", T0 + 2 * MINUTE)
    assert violations(any_conn) == {"count_match": 1, "drift": 0}
    envelope = derive(any_conn, T0, T0 + HOUR)
    assert (envelope["inserted"], envelope["updated"], envelope["deleted"]) == (0, 0, 1)
    assert list(dxy_minutes(any_conn)) == [T0, T0 + MINUTE]
    assert violations(any_conn) == {"count_match": 0, "drift": 0}
    before = row_versions(any_conn)
    assert derive(any_conn, T0, T0 + HOUR)["deleted"] == 0
    assert row_versions(any_conn) == before


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_a_minute_derived_from_complete_inputs_is_unverifiable_no_longer(conn: psycopg.Connection, off: float) -> None:
    """Whether its migrated row agrees and stays, or is replaced: from here on it follows its inputs."""
    dxy_row(conn, 0, round(index_price(RATES), 8) + off, MIGRATED)
    conn.execute("SELECT dxy.note_unverifiable(%s)", ([T0],))
    put_six(conn, T0)
    assert derive(conn, T0, T0 + HOUR)["updated"] == (1 if off else 0)
    assert scalar(conn, "SELECT count(*) FROM dxy.unverifiable_day") == 0
    remove(conn, "USDJPY", T0)
    assert derive(conn, T0, T0 + HOUR)["deleted"] == 1


def test_one_input_of_six_is_no_evidence(conn: psycopg.Connection) -> None:
    dxy_row(conn, 0, 104.5, MIGRATED)
    conn.execute("SELECT dxy.note_unverifiable(%s)", ([T0],))
    put(conn, [("EURUSD", T0, 1.08)])
    assert derive(conn, T0, T0 + HOUR)["deleted"] == 0
    assert scalar(conn, "SELECT count(*) FROM dxy.unverifiable_day") == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 3 * 1440)))))
def test_notes_add_and_go_by_the_minute(conn: psycopg.Connection, steps: list[tuple[bool, set[int]]]) -> None:
    """Whatever the order and the days, and no day is left that says nothing."""
    conn.execute("DELETE FROM dxy.unverifiable_day")
    noted: set[int] = set()
    for adds, minutes in steps:
        call = "add" if adds else "forget"
        conn.execute(f"SELECT dxy.{call}_unverifiable(%s::timestamptz[])", ([T0 + m * MINUTE for m in minutes],))
        noted = noted | minutes if adds else noted - minutes
        found = conn.execute(
            "SELECT m FROM generate_series(0, 3 * 1440) AS m WHERE dxy.is_unverifiable(%s + m * interval '1 minute')",
            (T0,),
        ).fetchall()
        assert {row[0] for row in found} == noted
        days = scalar(conn, "SELECT array_agg(day ORDER BY day) FROM dxy.unverifiable_day")
        assert (days or []) == sorted({(T0 + m * MINUTE).date() for m in noted})

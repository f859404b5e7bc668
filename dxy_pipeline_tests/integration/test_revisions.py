"""The append-only revisions: what was known when, for 1m and for roll-ups."""

from datetime import datetime, timedelta

import psycopg
import pytest

from dxy_pipeline import client
from dxy_pipeline_tests.bars import MINUTE, RATES, T0, derive, dxy_minutes, put, put_six, remove, roll_up, scalar
from dxy_pipeline_tests.conftest import NOW

HOUR = timedelta(hours=1)


def instant(conn: psycopg.Connection) -> datetime:
    return scalar(conn, "SELECT clock_timestamp()")


def known(conn: psycopg.Connection, at: datetime, timeframe: str = "1m") -> dict[datetime, float]:
    rows = client.bars_as_of(timeframe, T0, T0 + HOUR, at, conn=conn)
    return {row["ts_utc"]: float(row["close"]) for row in rows}


def test_what_was_known_when(any_conn: psycopg.Connection) -> None:
    conn = any_conn
    before_all = instant(conn)
    put_six(conn, T0, 3)
    derive(conn, T0, T0 + HOUR)
    first, first_at = dxy_minutes(conn), instant(conn)
    put(conn, [("EURUSD", T0 + MINUTE, 1.09)])
    derive(conn, T0, T0 + HOUR)
    corrected, corrected_at = dxy_minutes(conn), instant(conn)
    remove(conn, "EURUSD", T0 + MINUTE)
    derive(conn, T0, T0 + HOUR)
    retracted, retracted_at = dxy_minutes(conn), instant(conn)
    put(conn, [("EURUSD", T0 + MINUTE, 1.10)])
    derive(conn, T0, T0 + HOUR)
    assert known(conn, before_all) == {}
    assert known(conn, first_at) == first
    assert known(conn, corrected_at) == corrected != first
    assert known(conn, retracted_at) == retracted
    assert T0 + MINUTE not in retracted
    assert known(conn, instant(conn)) == dxy_minutes(conn)


def test_rollups_as_they_were_known(any_conn: psycopg.Connection) -> None:
    conn = any_conn
    put_six(conn, T0, 5)
    derive(conn, T0, T0 + HOUR)
    roll_up(conn, "5m", T0, T0 + HOUR, NOW)
    first_at, first = instant(conn), known(conn, instant(conn), "5m")
    put(conn, [("EURUSD", T0 + 4 * MINUTE, 1.09)])
    derive(conn, T0, T0 + HOUR)
    roll_up(conn, "5m", T0, T0 + HOUR, NOW)
    corrected_at, corrected = instant(conn), known(conn, instant(conn), "5m")
    for i in range(4):
        remove(conn, "USDJPY", T0 + i * MINUTE)
    derive(conn, T0, T0 + HOUR)
    roll_up(conn, "5m", T0, T0 + HOUR, NOW)
    gone_at = instant(conn)
    put_six(conn, T0, 5)
    derive(conn, T0, T0 + HOUR)
    roll_up(conn, "5m", T0, T0 + HOUR, NOW)
    assert [len(known(conn, at, "5m")) for at in (first_at, corrected_at, gone_at)] == [1, 1, 0]
    assert known(conn, first_at, "5m") == first
    assert known(conn, corrected_at, "5m") == corrected != first
    assert known(conn, instant(conn), "5m") == first


def test_only_what_changed_is_remembered_with_old_and_new(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 30)
    derive(conn, T0, T0 + HOUR)
    assert scalar(conn, "SELECT count(*) FROM dxy.bar_revision") == 0  # a first value replaces nothing
    before = dxy_minutes(conn)
    put(conn, [("EURUSD", T0 + 7 * MINUTE, 1.09)])
    remove(conn, "EURUSD", T0 + 9 * MINUTE)
    derive(conn, T0, T0 + HOUR)
    rows = conn.execute(
        "SELECT ts_utc, (old ->> 'close')::float8, (new ->> 'close')::float8, known_from < known_until"
        " FROM dxy.bar_revision ORDER BY ts_utc"
    ).fetchall()
    at, gone = T0 + 7 * MINUTE, T0 + 9 * MINUTE
    assert rows == [(at, before[at], dxy_minutes(conn)[at], True), (gone, before[gone], None, True)]


def test_a_bar_without_any_clock_column_was_always_known(conn: psycopg.Connection) -> None:
    """S may have NULL in updated_at and created_at; a correction of such a bar must not fail on its revision."""
    conn.execute(
        "ALTER TABLE data_bars ALTER updated_at DROP NOT NULL, ALTER created_at DROP NOT NULL,"
        " ALTER ingested_at DROP NOT NULL"
    )
    put_six(conn, T0, 2)
    derive(conn, T0, T0 + HOUR)
    conn.execute("UPDATE data_bars SET updated_at = NULL, created_at = NULL, ingested_at = NULL")
    stored, at = dxy_minutes(conn), instant(conn)
    assert known(conn, at) == stored
    put(conn, [("EURUSD", T0, 1.09)])
    assert derive(conn, T0, T0 + HOUR)["updated"] == 1
    assert known(conn, at) == stored


def test_a_re_run_adds_no_revision(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 5)
    for _ in range(2):
        derive(conn, T0, T0 + HOUR)
        roll_up(conn, "5m", T0, T0 + HOUR, NOW)
    put_six(conn, T0, 5, rates=RATES)
    derive(conn, T0, T0 + HOUR)
    assert scalar(conn, "SELECT count(*) FROM dxy.bar_revision") == 0


@pytest.mark.parametrize("role", ["dxy_reader", "dxy_writer"])
def test_nobody_edits_the_past(conn: psycopg.Connection, role: str) -> None:
    for verb in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
        assert scalar(conn, "SELECT has_table_privilege(%s, 'dxy.bar_revision', %s)", role, verb) is False

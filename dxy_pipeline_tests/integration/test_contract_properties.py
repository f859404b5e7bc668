"""The bar contract as an invariant: however FX bars arrived and whatever ran in between, the tables end the same.

Each example works in one transaction that is rolled back, on a database that holds 40 minutes of every hour around a
UTC midnight; the edits fall on a few of them.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dxy_pipeline import bar_store
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline_tests.bars import MINUTE, RATES, T0, dxy_minutes, put, put_six, remove, scalar, table_hash

MIDNIGHT = T0.replace(hour=0) + timedelta(days=1)
START, END = MIDNIGHT - timedelta(hours=1), MIDNIGHT + timedelta(hours=1)
NOW = MIDNIGHT + timedelta(days=1)
BASE = [MIDNIGHT + i * MINUTE for i in (*range(-60, -20), *range(20))]
PLACES = [MIDNIGHT + i * MINUTE for i in (-25, -24, -23, -22, -21, -3, -2, -1, 0, 1, 2, 18, 19, 20, 21)]

symbols = st.sampled_from(SYMBOLS)
places = st.sampled_from(PLACES)
closes = st.one_of(
    st.sampled_from([None, 0.0, -1.0, float("nan")]), st.floats(0.9, 1.1).map(lambda factor: round(factor, 4))
)
bounds = st.integers(-60, 60).map(lambda i: MIDNIGHT + i * MINUTE)
edits = st.one_of(
    st.tuples(st.just("put"), symbols, places, closes),
    st.tuples(st.just("remove"), symbols, places),
    st.tuples(st.just("fill"), places, st.integers(1, 6)),
    st.tuples(st.just("wipe"), places),
)
runs = st.one_of(
    st.tuples(st.just("derive"), bounds, bounds),
    st.tuples(st.just("roll_up"), st.sampled_from(["5m", "1h"]), bounds, bounds),
    st.tuples(st.just("sensor")),
)
stories = st.lists(st.one_of(edits, edits, runs), min_size=1, max_size=25)


def apply(conn: psycopg.Connection, event: tuple) -> None:
    match event:
        case ("put", str(symbol), datetime() as at, close):
            put(conn, [(symbol, at, RATES[symbol] * close if close else close)])
        case ("remove", str(symbol), datetime() as at):
            remove(conn, symbol, at)
        case ("fill", datetime() as at, int(minutes)):
            put_six(conn, at, minutes)
        case ("wipe", datetime() as at):
            conn.execute("DELETE FROM data_bars WHERE ts_utc = %s AND canonical_symbol <> 'DXY'", (at,))
        case ("derive", datetime() as one, datetime() as other) if one != other:
            bar_store.derive(conn, min(one, other), max(one, other))
        case ("roll_up", str(timeframe), datetime() as one, datetime() as other) if one != other:
            bar_store.roll_up(conn, timeframe, min(one, other), max(one, other), NOW)
        case ("sensor",):
            work_off(conn)


def work_off(conn: psycopg.Connection) -> None:
    """What the sensor's runs do: each touched day, bottom-up, until nothing waits."""
    for _ in range(3):
        days = bar_store.touched_days(conn, NOW + timedelta(days=3650))
        if not days:
            return
        for found in days:
            start = datetime.combine(found.day, MIDNIGHT.timetz())
            bar_store.derive(conn, start, start + timedelta(days=1))
            for timeframe in ("5m", "1h"):
                bar_store.roll_up(conn, timeframe, start, start + timedelta(days=1), NOW)
    raise AssertionError("the log of touched minutes does not run dry")


def cleanly(conn: psycopg.Connection) -> str:
    """The hash of one derivation from nothing, of the FX rows as they stand."""
    conn.execute("DELETE FROM data_bars WHERE canonical_symbol = 'DXY'")
    conn.execute("DELETE FROM derived_data_bars")
    bar_store.derive(conn, START, END)
    for timeframe in ("5m", "1h"):
        bar_store.roll_up(conn, timeframe, START, END, NOW)
    return table_hash(conn)


@pytest.fixture
def prepared(any_db: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(any_db, options="-c TimeZone=UTC") as conn:
        for at in BASE:
            put_six(conn, at, rates={**RATES, "EURUSD": RATES["EURUSD"] + at.minute * 1e-4})
        work_off(conn)
        conn.commit()
        conn.execute("ANALYZE")
        conn.commit()
        yield conn


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=stories)
def test_any_story_ends_in_the_table_of_one_clean_derivation(prepared: psycopg.Connection, story: list[tuple]) -> None:
    try:
        for event in story:
            apply(prepared, event)
        work_off(prepared)
        ended = table_hash(prepared)
        again = bar_store.derive(prepared, START, END)
        assert (again.inserted, again.updated, again.deleted) == (0, 0, 0)
        for timeframe in ("5m", "1h"):
            assert bar_store.roll_up(prepared, timeframe, START, END, NOW) == bar_store.RollUpResult()
        live = "SELECT count(*) - count(DISTINCT (timeframe, ts_utc)) FROM derived_data_bars WHERE deleted_at IS NULL"
        assert scalar(prepared, live) == 0
        assert ended == cleanly(prepared)
    finally:
        prepared.rollback()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(10)),
    cuts=st.lists(st.integers(1, 59), max_size=4, unique=True),
    again=st.lists(st.integers(0, 9), max_size=4),
)
def test_shuffled_duplicated_and_chunked_input(
    any_conn: psycopg.Connection, order: list[int], cuts: list[int], again: list[int]
) -> None:
    """Ten chunks of rows in any order, some sent twice; derived in pieces cut anywhere, each piece run twice."""
    rows = [(s, T0 + i * MINUTE, RATES[s] * (1 + i * 1e-4)) for i in range(60) for s in SYMBOLS]
    with any_conn.transaction(force_rollback=True):
        put(any_conn, rows)
        bar_store.derive(any_conn, T0, T0 + timedelta(hours=1))
        clean = table_hash(any_conn)
        any_conn.execute("DELETE FROM data_bars")
        for chunk in [*order, *again]:
            put(any_conn, rows[chunk::10])
            bar_store.derive(any_conn, T0, T0 + chunk * MINUTE + MINUTE)
        marks = [T0, *(T0 + cut * MINUTE for cut in sorted(cuts, reverse=True)), T0 + timedelta(hours=1)]
        for start, end in zip(sorted(marks), sorted(marks)[1:], strict=False):
            bar_store.derive(any_conn, start, end)
            bar_store.derive(any_conn, start, end)
        assert table_hash(any_conn) == clean


def test_retraction_reaches_the_rollups_over_midnight(prepared: psycopg.Connection) -> None:
    """The story by hand that the machine plays: both hours lose their last minute above the threshold."""
    conn = prepared
    count = "SELECT count(*) FROM derived_data_bars WHERE timeframe = '1h' AND deleted_at IS NULL"
    before = scalar(conn, count)
    put_six(conn, MIDNIGHT + 20 * MINUTE, 16)
    work_off(conn)
    assert scalar(conn, count) == before + 1  # 36 of 60
    remove(conn, "USDCHF", MIDNIGHT)
    work_off(conn)
    assert (MIDNIGHT in dxy_minutes(conn), scalar(conn, count)) == (False, before)

"""calc_dxy_rollup_range: 5m and 1h straight from the 1m bars, their completeness, and what they never touch."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from dxy_pipeline.core import fx_week
from dxy_pipeline_tests.bars import (
    MINUTE,
    RATES,
    T0,
    buckets,
    derive,
    dxy_minutes,
    put,
    put_six,
    remove,
    roll_up,
    row_versions,
    scalar,
    table_hash,
)
from dxy_pipeline_tests.conftest import NOW

HOUR = timedelta(hours=1)
NEW_YEAR = datetime(2024, 1, 1, 22, 0, tzinfo=UTC)  # 17:00 in New York: the market reopens


def fill(conn: psycopg.Connection, minutes: int, missing: tuple[int, ...] = (), start: datetime = T0) -> None:
    put_six(conn, start, minutes, step=1e-4)
    for i in missing:
        remove(conn, "USDSEK", start + i * MINUTE)
    derive(conn, start, start + minutes * MINUTE)


def test_the_rule_in_figures(any_conn: psycopg.Connection) -> None:
    fill(any_conn, 60)
    envelope = roll_up(any_conn, "5m", T0, T0 + HOUR, NOW)
    assert {k: envelope[k] for k in ("success", "timeframe", "inserted", "updated", "deleted", "revived")} == {
        "success": True,
        "timeframe": "5m",
        "inserted": 12,
        "updated": 0,
        "deleted": 0,
        "revived": 0,
    }
    roll_up(any_conn, "1h", T0, T0 + HOUR, NOW)
    closes = list(dxy_minutes(any_conn).values())
    for timeframe, width in (("5m", 5), ("1h", 60)):
        for ts, bar in buckets(any_conn, timeframe).items():
            i = (ts - T0) // MINUTE
            part = closes[i : i + width]
            assert bar == {
                "open": part[0],
                "high": max(part),
                "low": min(part),
                "close": part[-1],
                "vol": 0,
                "vwap": None,
                "trade_count": 0,
                "is_partial": False,
                "source_candles": width,
                "expected_candles": width,
                "quality_score": 2,
                "source": "agg",
            }


@pytest.mark.parametrize(("there", "score"), [(5, 2), (4, 1), (3, 0), (2, None), (0, None)])
def test_completeness_of_5m(any_conn: psycopg.Connection, there: int, score: int | None) -> None:
    fill(any_conn, 5, missing=tuple(range(there, 5)))
    roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    found = buckets(any_conn, "5m")
    assert {ts: bar["quality_score"] for ts, bar in found.items()} == ({} if score is None else {T0: score})
    assert all(bar["source_candles"] == there and bar["expected_candles"] == 5 for bar in found.values())


@pytest.mark.parametrize(("there", "score"), [(60, 2), (59, 1), (48, 1), (47, 0), (36, 0), (35, None)])
def test_completeness_of_1h(conn: psycopg.Connection, there: int, score: int | None) -> None:
    fill(conn, 60, missing=tuple(range(there, 60)))
    roll_up(conn, "1h", T0, T0 + HOUR, NOW)
    assert {ts: bar["quality_score"] for ts, bar in buckets(conn, "1h").items()} == (
        {} if score is None else {T0: score}
    )


def test_1h_comes_straight_from_1m(conn: psycopg.Connection) -> None:
    """Through 5m it would lose the extreme of a 5m bar that was dropped for thinness."""
    fill(conn, 60, missing=(1, 2, 3))
    put(conn, [("EURUSD", T0 + 4 * MINUTE, 1.0)])
    derive(conn, T0, T0 + HOUR)
    for timeframe in ("5m", "1h"):
        roll_up(conn, timeframe, T0, T0 + HOUR, NOW)
    assert T0 not in buckets(conn, "5m")
    assert buckets(conn, "1h")[T0]["high"] == max(dxy_minutes(conn).values()) > 109


def test_volume_and_vwap_of_foreign_minutes(conn: psycopg.Connection) -> None:
    fill(conn, 5)
    conn.execute(
        "UPDATE data_bars SET vol = 10 * extract(minute FROM ts_utc), vwap = 100 + extract(minute FROM ts_utc),"
        " trade_count = 3 WHERE canonical_symbol = 'DXY'"
    )
    roll_up(conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    bar = buckets(conn, "5m")[T0]
    assert (bar["vol"], bar["trade_count"]) == (100, 15)
    assert bar["vwap"] == pytest.approx(sum((100 + m) * 10 * m for m in range(5)) / 100)


@pytest.mark.parametrize(
    ("start", "open_from", "open_to"),
    [
        (datetime(2024, 6, 14, 20, 0, tzinfo=UTC), 0, 60),  # Friday's last hour
        (datetime(2024, 6, 14, 21, 0, tzinfo=UTC), 0, 0),  # 17:00 New York: shut
        (datetime(2024, 12, 24, 18, 0, tzinfo=UTC), 0, 0),  # 13:00 New York on the 24th: shut
        (NEW_YEAR, 0, 60),
        (datetime(2024, 3, 10, 21, 0, tzinfo=UTC), 0, 60),  # Sunday 17:00 of the day summer time began
        (datetime(2024, 11, 3, 21, 0, tzinfo=UTC), 0, 0),  # 16:00 of the Sunday it ended
        (datetime(2024, 11, 3, 22, 0, tzinfo=UTC), 0, 60),
    ],
)
def test_expected_minutes_follow_the_calendar(
    conn: psycopg.Connection, start: datetime, open_from: int, open_to: int
) -> None:
    fill(conn, 60, start=start)
    for timeframe in ("5m", "1h"):
        roll_up(conn, timeframe, start, start + HOUR, start + 48 * HOUR)
    expected = open_to - open_from
    assert fx_week.open_minutes(start, start + HOUR) == expected
    assert sum(b["expected_candles"] for b in buckets(conn, "5m").values()) == expected
    assert sum(b["expected_candles"] for b in buckets(conn, "1h").values()) == expected


def test_the_calendar_in_the_database_is_the_one_of_python(conn: psycopg.Connection) -> None:
    for day in (datetime(1999, 1, 4, tzinfo=UTC), datetime(2024, 12, 20, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC)):
        for i in range(21):
            start = day + timedelta(days=i)
            end = start + timedelta(days=1)
            assert scalar(conn, "SELECT dxy.open_minutes(%s, %s)", start, end) == fx_week.open_minutes(start, end)


def test_partial_until_the_end_plus_the_settle_delay(conn: psycopg.Connection) -> None:
    fill(conn, 5)
    end = T0 + 5 * MINUTE
    for now, partial in (
        (end - MINUTE, True),
        (end + timedelta(seconds=89), True),
        (end + timedelta(seconds=90), False),
    ):
        roll_up(conn, "5m", T0, end, now)
        assert buckets(conn, "5m")[T0]["is_partial"] is partial
    assert roll_up(conn, "5m", T0, end, end + HOUR)["updated"] == 0


def test_an_unaligned_range_makes_whole_buckets(conn: psycopg.Connection) -> None:
    fill(conn, 60)
    roll_up(conn, "5m", T0 + 7 * MINUTE, T0 + 11 * MINUTE, NOW)
    assert sorted(buckets(conn, "5m")) == [T0 + 5 * MINUTE, T0 + 10 * MINUTE]
    roll_up(conn, "1h", T0 + 7 * MINUTE, T0 + 8 * MINUTE, NOW)
    assert buckets(conn, "1h")[T0]["source_candles"] == 60


def test_a_re_run_writes_nothing(any_conn: psycopg.Connection) -> None:
    fill(any_conn, 240)
    for timeframe in ("5m", "1h"):
        roll_up(any_conn, timeframe, T0, T0 + 4 * HOUR, NOW + HOUR)
    before, lsn = row_versions(any_conn), scalar(any_conn, "SELECT pg_current_wal_insert_lsn()::text")
    for timeframe in ("5m", "1h"):
        envelope = roll_up(any_conn, timeframe, T0, T0 + 4 * HOUR, NOW + HOUR)
        assert [envelope[k] for k in ("inserted", "updated", "deleted", "revived")] == [0, 0, 0, 0]
    written = scalar(any_conn, "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", lsn)
    assert row_versions(any_conn) == before
    assert written < 4096


def test_a_corrected_minute_changes_exactly_one_5m_and_one_1h(conn: psycopg.Connection) -> None:
    fill(conn, 240)
    for timeframe in ("5m", "1h"):
        roll_up(conn, timeframe, T0, T0 + 4 * HOUR, NOW + HOUR)
    versions = "SELECT timeframe, ts_utc, xmin::text FROM derived_data_bars ORDER BY 1, 2"
    before = conn.execute(versions).fetchall()
    at = T0 + 97 * MINUTE
    put(conn, [("EURUSD", at, 1.2)])
    derive(conn, T0, T0 + 4 * HOUR)
    for timeframe in ("5m", "1h"):
        assert roll_up(conn, timeframe, T0, T0 + 4 * HOUR, NOW + HOUR)["updated"] == 1
    changed = {row[:2] for row in set(conn.execute(versions).fetchall()) - set(before)}
    assert changed == {("5m", T0 + 95 * MINUTE), ("1h", T0 + HOUR)}


def test_a_bucket_that_no_longer_qualifies_is_soft_deleted_and_revived(any_conn: psycopg.Connection) -> None:
    fill(any_conn, 5)
    roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    clean = table_hash(any_conn)
    row = scalar(any_conn, "SELECT id FROM derived_data_bars")
    for i in range(3):
        remove(any_conn, "GBPUSD", T0 + i * MINUTE)
    derive(any_conn, T0, T0 + HOUR)
    assert roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)["deleted"] == 1
    assert buckets(any_conn, "5m") == {}
    assert scalar(any_conn, "SELECT deleted_at IS NOT NULL FROM derived_data_bars") is True
    assert roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)["deleted"] == 0
    put_six(any_conn, T0, 5, step=1e-4)
    derive(any_conn, T0, T0 + HOUR)
    envelope = roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    assert (envelope["inserted"], envelope["revived"]) == (0, 1)
    assert scalar(any_conn, "SELECT array_agg(id) FROM derived_data_bars") == [row]
    assert table_hash(any_conn) == clean


FOREIGN_DEAD = """
    INSERT INTO derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source, deleted_at, raw)
    VALUES ('DXY', '5m', %s, 1, 1, 1, 1, 'agg', now() - make_interval(days => %s), '{"by": "the desk"}')"""


def test_the_desks_dead_rows_stay_dead(conn: psycopg.Connection) -> None:
    fill(conn, 5)
    for days in (3, 1):
        conn.execute(FOREIGN_DEAD, (T0, days))
    dead = "SELECT array_agg(d::text ORDER BY id) FROM derived_data_bars AS d WHERE raw ? 'by'"
    before = scalar(conn, dead)
    envelope = roll_up(conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    assert (envelope["inserted"], envelope["revived"]) == (1, 0)
    assert scalar(conn, dead) == before


def test_a_full_unique_index_leaves_room_for_one_row_a_key(any_conn: psycopg.Connection) -> None:
    """There a dead row of the desk has to be reused, or the bucket could never be stored; its image is kept."""
    any_conn.execute("DROP INDEX derived_data_bars_active_idx")
    any_conn.execute("CREATE UNIQUE INDEX whole_key ON derived_data_bars (canonical_symbol, timeframe, ts_utc)")
    fill(any_conn, 5)
    any_conn.execute(FOREIGN_DEAD, (T0, 1))
    envelope = roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    assert (envelope["inserted"], envelope["revived"]) == (0, 1)
    assert buckets(any_conn, "5m")[T0]["source_candles"] == 5
    assert scalar(any_conn, "SELECT old -> 'raw' ->> 'by' FROM dxy.bar_revision WHERE timeframe = '5m'") == "the desk"
    assert roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)["updated"] == 0


def test_rollups_of_other_symbols_and_timeframes_stay(conn: psycopg.Connection) -> None:
    fill(conn, 60)
    conn.execute(
        "INSERT INTO derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close)"
        " SELECT s, t, %s, 7, 7, 7, 7 FROM unnest('{XAUUSD,EURUSD}'::text[]) AS s, unnest('{5m,1h}'::text[]) AS t"
        " UNION ALL SELECT 'DXY', '4h', %s, 7, 7, 7, 7",
        (T0, T0),
    )
    others = (
        "SELECT array_agg(d::text || d.xmin || d.ctid ORDER BY d.id) FROM derived_data_bars AS d"
        " WHERE NOT (canonical_symbol = 'DXY' AND timeframe IN ('5m', '1h'))"
    )
    before = scalar(conn, others)
    assert len(before) == 5
    for timeframe in ("5m", "1h"):
        roll_up(conn, timeframe, T0, T0 + HOUR, NOW)
    assert scalar(conn, others) == before


def test_only_data_bars_is_read(conn: psycopg.Connection) -> None:
    """Active DXY 1m rows in derived_data_bars (legacy) must not be added: that was the double counting."""
    fill(conn, 5)
    conn.execute(
        "INSERT INTO derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " SELECT 'DXY', '1m', ts_utc, 150, 150, 150, 150, 'dxy' FROM data_bars WHERE canonical_symbol = 'DXY'"
    )
    roll_up(conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    bar = buckets(conn, "5m")[T0]
    assert (bar["source_candles"], bar["high"]) == (5, max(dxy_minutes(conn).values()))


def test_double_counting_is_an_error(any_conn: psycopg.Connection) -> None:
    fill(any_conn, 5)
    any_conn.execute(
        "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source, ingested_at,"
        " is_partial) SELECT 'DXY', '1m', ts_utc + interval '30 seconds', close, close, close, close, 'ingest', now(),"
        " false FROM data_bars WHERE canonical_symbol = 'DXY'"
    )
    envelope = roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    assert envelope["success"] is False
    assert "double counting" in envelope["error"]
    assert buckets(any_conn, "5m") == {}
    derive(any_conn, T0, T0 + HOUR)  # mends it: a bar that starts on no minute follows from nothing
    assert roll_up(any_conn, "5m", T0, T0 + 5 * MINUTE, NOW)["inserted"] == 1


def test_a_gap_of_any_length_is_passed_over(conn: psycopg.Connection) -> None:
    """An empty window must not wedge progress: the first and the last day of three weeks have bars, nothing between."""
    last = T0 + timedelta(days=21)
    fill(conn, 5)
    fill(conn, 5, start=last)
    conn.execute("DELETE FROM derived_data_bars")
    assert derive(conn, T0 - HOUR, last + HOUR)["success"] is True
    assert roll_up(conn, "5m", T0 - HOUR, last + HOUR, last + HOUR)["inserted"] == 2
    assert roll_up(conn, "5m", T0 + timedelta(days=3), T0 + timedelta(days=10), NOW)["success"] is True


@pytest.mark.parametrize(
    ("timeframe", "start", "end", "version", "now", "words"),
    [
        ("4h", T0, T0 + HOUR, 1, NOW, "Invalid timeframe: 4h"),
        (None, T0, T0 + HOUR, 1, NOW, "Invalid timeframe: NULL"),
        ("5m", T0 + HOUR, T0, 1, NOW, "Invalid timestamp range"),
        ("5m", T0, T0 + HOUR, 0, NOW, "Invalid derivation version: 0"),
        ("5m", T0, T0 + HOUR, 1, None, "p_now must be finite"),
        ("5m", T0, T0 + HOUR, 1, "infinity", "p_now must be finite"),
    ],
)
def test_bad_arguments_get_the_envelope(
    conn: psycopg.Connection, timeframe: object, start: object, end: object, version: int, now: object, words: str
) -> None:
    fill(conn, 5)
    call = "SELECT calc_dxy_rollup_range(%s::text, %s::timestamptz, %s::timestamptz, %s, %s::timestamptz)"
    envelope = scalar(conn, call, timeframe, start, end, version, now)
    assert words in envelope["error"]
    assert (envelope["success"], envelope["inserted"]) == (False, 0)
    assert buckets(conn, "5m") == {}


def test_the_desks_touch_trigger_does_not_disturb(conn: psycopg.Connection) -> None:
    conn.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.updated_at = now(); RETURN new; END';"
        "CREATE TRIGGER touch BEFORE UPDATE ON derived_data_bars FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    fill(conn, 5)
    roll_up(conn, "5m", T0, T0 + 5 * MINUTE, NOW)
    put(conn, [("USDJPY", T0, RATES["USDJPY"] + 1)])
    derive(conn, T0, T0 + HOUR)
    assert roll_up(conn, "5m", T0, T0 + 5 * MINUTE, NOW)["updated"] == 1
    assert roll_up(conn, "5m", T0, T0 + 5 * MINUTE, NOW)["updated"] == 0


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
@pytest.mark.parametrize(
    "change", ["new.ts_utc := new.ts_utc + interval '1 day'", "new.close := new.high + 1", "new.low := NULL"]
)
def test_bars_that_a_trigger_changes_are_refused(any_conn: psycopg.Connection, event: str, change: str) -> None:
    fill(any_conn, 60)
    if event == "UPDATE":
        roll_up(any_conn, "5m", T0, T0 + HOUR, NOW)
        put(any_conn, [("EURUSD", T0 + i * MINUTE, 1.09) for i in range(0, 60, 7)])
        derive(any_conn, T0, T0 + HOUR)
    before = buckets(any_conn, "5m")
    any_conn.execute("ALTER TABLE derived_data_bars ALTER low DROP NOT NULL")
    any_conn.execute(
        "CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF new.canonical_symbol = 'DXY' THEN {change}; END IF; RETURN new; END $$"  # type: ignore[arg-type]
    )
    any_conn.execute(
        f"CREATE TRIGGER meddle BEFORE {event} ON derived_data_bars FOR EACH ROW EXECUTE FUNCTION meddle()"  # type: ignore[arg-type]
    )
    envelope = roll_up(any_conn, "5m", T0, T0 + HOUR, NOW)
    assert envelope["success"] is False, envelope
    assert "count-match failed: DXY 5m bars are not written as they were meant" in envelope["error"]
    assert buckets(any_conn, "5m") == before


def test_hard_limits_hold_for_roll_ups_too(conn: psycopg.Connection) -> None:
    """Minutes that we did not derive (a desk's own, migrated ones) may lie outside."""
    fill(conn, 60)
    conn.execute("UPDATE data_bars SET high = 201 WHERE canonical_symbol = 'DXY' AND ts_utc = %s", (T0 + 7 * MINUTE,))
    envelope = roll_up(conn, "5m", T0, T0 + HOUR, NOW)
    assert envelope["success"] is False
    assert "DXY 5m outside the hard limits 50 to 200 at 2024-06-12 08:05:00+00" in envelope["error"]
    assert buckets(conn, "5m") == {}

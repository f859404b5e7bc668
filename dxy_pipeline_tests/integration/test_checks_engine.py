"""How checks are run: as a reader, in one snapshot, within a time limit, told apart from being wrong; what they show.

That each check passes and fails on real rows is shown by the faults suite.
"""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from typer.testing import CliRunner

from dxy_pipeline import bar_reads, bar_store
from dxy_pipeline.checks import engine
from dxy_pipeline.checks.config import CHECKS, Severity
from dxy_pipeline.checks.engine import CheckResult, run_checks
from dxy_pipeline.checks.thresholds import parsed_threshold, with_thresholds
from dxy_pipeline.cli import app
from dxy_pipeline.core import fx_week
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline_tests.bars import MINUTE, RATES, put, put_six
from dxy_pipeline_tests.conftest import NOW

HOUR = timedelta(hours=1)


def live_hours(conn: psycopg.Connection, hours: int = 3, now: datetime = NOW) -> None:
    """Minutes of the six pairs up to `now`, derived and rolled up."""
    start = now - hours * HOUR
    put(
        conn,
        [
            (symbol, start + n * MINUTE, rate * (1 + 1e-5 * (n % 7)))
            for n in range(hours * 60)
            for symbol, rate in RATES.items()
        ],
    )
    bar_store.derive(conn, start, now)
    for timeframe in bar_store.ROLLUP_TIMEFRAMES:
        bar_store.roll_up(conn, timeframe, start, now, now)


def failed(results: list[CheckResult]) -> dict[str, str]:
    return {result.key: result.description for result in results if not result.passed}


def one(conn: psycopg.Connection, name: str, asset: str = "fx_1m", now: datetime = NOW) -> CheckResult:
    return next(r for r in run_checks(conn, now, only=[name], sample=50) if r.asset_key == asset)


def test_all_checks_pass_on_both_servers(any_conn: psycopg.Connection) -> None:
    live_hours(any_conn)
    for rhythm in ("minute", "daily"):
        results = run_checks(any_conn, NOW, rhythm=rhythm)
        assert failed(results) == {}
        assert all(r.evaluated for r in results)
    assert {r.key for r in results} == {f"{c.asset}.{c.name}" for c in CHECKS}


def test_an_empty_database_says_what_is_missing(conn: psycopg.Connection) -> None:
    found = failed(run_checks(conn, NOW))
    assert set(found) == {
        "fx_1m.freshness", "fx_1m.components_present", "fx_1m.staleness", "dxy_1m.freshness", "dxy_1m.recent_bars",
        "dxy_5m.freshness", "dxy_1h.freshness",
    }  # fmt: skip
    assert found["dxy_1m.freshness"].startswith("ERROR: no bar in the window: 1 violation")


def test_a_reader_sees_all_it_needs(conn: psycopg.Connection) -> None:
    live_hours(conn)
    conn.execute("SET ROLE dxy_reader")
    for rhythm in ("minute", "daily"):
        results = run_checks(conn, NOW, rhythm=rhythm)
        assert failed(results) == {}
        assert all(r.evaluated for r in results)


def test_nothing_is_written_and_the_connection_is_left_as_it_was(conn: psycopg.Connection) -> None:
    live_hours(conn)
    counted = "SELECT pg_current_xact_id_if_assigned(), sum(n_tup_ins) FROM pg_stat_user_tables"
    conn.execute("SELECT pg_stat_force_next_flush()")  # the server tells its counts a second late, else
    before = conn.execute(counted).fetchone()
    run_checks(conn, NOW)
    conn.execute("SELECT pg_stat_force_next_flush()")
    after = conn.execute(counted).fetchone()
    assert before == after
    assert (conn.isolation_level, conn.read_only, conn.autocommit) == (None, None, True)
    conn.execute("CREATE TEMP TABLE still_writable ()")


def test_a_check_that_takes_too_long_fails_visibly_and_alone(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_hours(conn)
    conn.execute(
        "CREATE OR REPLACE FUNCTION dxy.recomputed_minutes(p_from_utc timestamptz, p_to_utc timestamptz)"
        " RETURNS TABLE (ts_utc timestamptz, price numeric) LANGUAGE plpgsql STABLE AS"
        " 'BEGIN PERFORM pg_sleep(20); RETURN; END'"
    )
    monkeypatch.setitem(engine._TIME_LIMIT, engine.Rhythm.MINUTE, "300ms")
    results = {r.key: r for r in run_checks(conn, NOW)}
    slow = results["dxy_1m.drift"]
    assert (slow.passed, slow.evaluated, slow.severity) == (False, False, Severity.ERROR)
    assert slow.description == "ERROR: 2024-06-12: could not be evaluated within its time limit"
    assert results["dxy_1m.prices_valid"].passed
    assert results["dxy_1h.reconciliation"].evaluated


def test_a_check_without_permission_is_not_a_pass(conn: psycopg.Connection) -> None:
    live_hours(conn)
    conn.execute("REVOKE SELECT ON public.derived_data_bars FROM dxy_reader")
    conn.execute("SET ROLE dxy_reader")
    results = {r.key: r for r in run_checks(conn, NOW, only=["orphans_in_derived", "drift"])}
    assert not results["dxy_1m.orphans_in_derived"].evaluated
    assert "permission denied" in results["dxy_1m.orphans_in_derived"].description
    assert results["dxy_1m.drift"].passed


def test_a_policy_that_hides_rows_is_an_error_not_a_pass(conn: psycopg.Connection) -> None:
    live_hours(conn)
    conn.execute("ALTER TABLE public.data_bars ENABLE ROW LEVEL SECURITY")
    conn.execute("DROP POLICY IF EXISTS dxy_reader_select ON public.data_bars")
    conn.execute("CREATE POLICY little ON public.data_bars FOR SELECT TO dxy_reader USING (canonical_symbol = 'DXY')")
    conn.execute("SET ROLE dxy_reader")
    (drift,) = run_checks(conn, NOW, only=["drift"])
    assert (drift.passed, drift.evaluated) == (False, False)
    assert "row-level security" in drift.description


def test_a_shut_market_is_said_and_not_failed(conn: psycopg.Connection) -> None:
    sunday = datetime(2024, 6, 16, 12, tzinfo=UTC)
    for config in CHECKS:
        if config.timed:
            result = one(conn, config.name, config.asset, sunday)
            assert result.passed
            assert not result.market_open
            assert result.description == "2024-06-16: the FX market is shut; next open 2024-06-16 21:00 UTC"


def test_freshness_counts_open_minutes_over_the_week_end(conn: psycopg.Connection) -> None:
    friday = datetime(2024, 6, 14, 21, tzinfo=UTC)
    live_hours(conn, now=friday)
    reopened = datetime(2024, 6, 16, 21, tzinfo=UTC)
    assert one(conn, "freshness", "dxy_1m", reopened + 5 * MINUTE).passed
    late = one(conn, "freshness", "dxy_1m", reopened + 6 * MINUTE)
    assert (late.passed, late.severity, late.rows[0]["open_minutes_since"]) == (False, Severity.WARN, 6)
    assert one(conn, "freshness", "dxy_1m", reopened + 16 * MINUTE).severity is Severity.ERROR


def test_every_open_minute_is_classed(conn: psycopg.Connection) -> None:
    live_hours(conn, hours=30, now=NOW)
    conn.execute(
        "DELETE FROM public.data_bars WHERE canonical_symbol = 'EURUSD' AND ts_utc >= %s AND ts_utc < %s",
        (NOW - 29 * HOUR, NOW - 29 * HOUR + 20 * MINUTE),
    )
    conn.execute(
        "DELETE FROM public.data_bars WHERE ts_utc >= %s AND ts_utc < %s",
        (NOW - 5 * HOUR, NOW - 5 * HOUR + 30 * MINUTE),
    )
    conn.execute("DELETE FROM public.data_bars WHERE ts_utc >= %s", (NOW - 4 * MINUTE,))
    conn.execute(
        "DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc >= %s AND ts_utc < %s",
        (NOW - 3 * HOUR, NOW - 3 * HOUR + 10 * MINUTE),
    )
    fx, dxy = one(conn, "gaps"), one(conn, "gaps", "dxy_1m")
    classed = {k.removeprefix("minutes "): v for k, v in fx.metadata.items() if k.startswith("minutes ")}
    assert classed == {
        "shut": 0, "pending": 6 * 4, "component missing": 20, "feed down": 6 * 30, "not derived": 0,
        "confirmed missing": 20,
    }  # fmt: skip
    assert dxy.metadata["minutes not derived"] == 10
    assert {(r["class"], r["minutes"], r["confirmed"]) for r in fx.rows} == {
        ("feed down", 30, False), ("component missing", 20, True),
    }  # fmt: skip


def test_shut_minutes_are_counted_as_shut(conn: psycopg.Connection) -> None:
    monday = datetime(2024, 6, 17, 12, tzinfo=UTC)
    live_hours(conn, hours=15, now=monday)
    shown = one(conn, "gaps", now=monday).metadata
    shut = 48 * 60 - fx_week.open_minutes(monday - 48 * HOUR, monday)
    assert (shown["minutes shut"], shut) == (shut, 33 * 60)


def test_a_thin_hour_of_the_week_stays_quiet(conn: psycopg.Connection) -> None:
    """USDCHF is used to pauses of 12 minutes at this hour on Wednesdays: 20 are nothing to tell, 30 are."""
    for week in range(5):
        now = NOW - timedelta(weeks=week)
        put_six(conn, now - 2 * HOUR, 120, step=0.000001)
        if week:
            conn.execute(
                "DELETE FROM public.data_bars WHERE canonical_symbol IN ('USDCHF') AND ts_utc >= %s AND ts_utc < %s",
                (now - 12 * MINUTE, now),
            )
            put_six(conn, now, 30)
    for silent, told in ((20, False), (30, True)):
        conn.execute(
            "DELETE FROM public.data_bars WHERE canonical_symbol IN ('USDCHF', 'EURUSD') AND ts_utc >= %s",
            (NOW - silent * MINUTE,),
        )
        found = {row["canonical_symbol"] for row in one(conn, "staleness").rows}
        assert ("USDCHF" in found, "EURUSD" in found) == (told, True)


def test_an_outlier_of_the_index_names_the_pair(conn: psycopg.Connection) -> None:
    put_six(conn, NOW - 6 * HOUR, 360, step=0.000003)
    moved = NOW - 2 * HOUR
    put(conn, [("USDJPY", moved + n * MINUTE, RATES["USDJPY"] * 1.03) for n in range(30)])
    bar_store.derive(conn, NOW - 6 * HOUR, NOW)
    rows = one(conn, "outliers", "dxy_1m").rows
    assert {row["component"] for row in rows} == {"USDJPY"}
    assert moved in {row["ts_utc"] for row in rows}


def test_a_migrated_minute_without_inputs_counts_neither_way(conn: psycopg.Connection) -> None:
    live_hours(conn)
    conn.execute(
        "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count,"
        " is_partial, source, raw) VALUES ('DXY', '1m', %s, 104, 104, 104, 104, 0, 0, false, 'synthetic',"
        """ '{"kind": "dxy", "migrated_from": "derived_data_bars"}')""",
        (NOW - 10 * HOUR,),
    )
    conn.execute("SELECT dxy.note_unverifiable(%s)", ([NOW - 10 * HOUR],))
    found = failed(run_checks(conn, NOW, only=["count_match", "drift", "source_synthetic"]))
    assert found == {}


def test_a_change_a_moment_ago_is_under_way_and_later_is_not(conn: psycopg.Connection) -> None:
    live_hours(conn)
    put(conn, [("EURUSD", NOW - HOUR, RATES["EURUSD"] * 1.001)])
    conn.execute("UPDATE dxy.touched_range SET touched_at = %s", (NOW - MINUTE,))
    assert failed(run_checks(conn, NOW, only=["drift", "late_data"])) == {}
    assert set(failed(run_checks(conn, NOW + 6 * MINUTE, only=["drift", "late_data"]))) == {"dxy_1m.drift"}
    assert set(failed(run_checks(conn, NOW + 12 * MINUTE, only=["drift", "late_data"]))) == {
        "dxy_1m.drift",
        "dxy_1m.late_data",
    }


def test_the_sample_is_limited_and_the_count_is_not(conn: psycopg.Connection) -> None:
    live_hours(conn)
    conn.execute("UPDATE public.data_bars SET source = 'ingest' WHERE canonical_symbol = 'DXY'")
    (result,) = run_checks(conn, NOW, only=["source_synthetic"], sample=7)
    assert (result.violations, len(result.rows)) == (180, 7)
    assert result.description.startswith("ERROR: 2024-06-12: 180 violations, first: ts_utc 2024-06-12 09:00")


@pytest.mark.parametrize("rows", [0, 11_999, 12_000])
def test_completeness_waits_for_a_loaded_history(conn: psycopg.Connection, rows: int) -> None:
    conn.execute(
        "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " SELECT 'EURUSD', '1m', '2024-01-02'::timestamptz + n * interval '1 minute', 1, 1, 1, 1, 'ingest'"
        " FROM generate_series(1, %s) AS n",
        (rows,),
    )
    (result,) = run_checks(conn, NOW, only=["completeness"], rhythm="daily")
    assert result.passed is (rows < 12_000)


def with_changes(conn: psycopg.Connection, name: str, asset: str, **thresholds: object) -> CheckResult:
    changed = with_thresholds(CHECKS, {f"{asset}.{name}": thresholds})
    return next(r for r in run_checks(conn, NOW, only=[name], configs=changed, sample=50) if r.asset_key == asset)


@pytest.mark.parametrize(
    ("age", "target", "severity"),
    [
        (6, 5, Severity.WARN),
        (14, 5, Severity.WARN),
        (15, 5, Severity.ERROR),
        (25, 20, Severity.WARN),
        (60, 20, Severity.ERROR),
    ],
)
def test_an_error_follows_from_the_target(conn: psycopg.Connection, age: int, target: int, severity: Severity) -> None:
    live_hours(conn, now=NOW - age * MINUTE)
    result = with_changes(conn, "freshness", "dxy_1m", target_minutes=target)
    assert (result.passed, result.severity) == (False, severity)


@pytest.mark.parametrize(("age", "severity"), [(16, Severity.WARN), (44, Severity.WARN), (45, Severity.ERROR)])
def test_a_thin_pair_warns_before_it_is_an_error(conn: psycopg.Connection, age: int, severity: Severity) -> None:
    live_hours(conn)
    conn.execute(
        "DELETE FROM public.data_bars WHERE canonical_symbol = 'USDSEK' AND ts_utc >= %s", (NOW - age * MINUTE,)
    )
    result = one(conn, "freshness")
    assert ([row["canonical_symbol"] for row in result.rows], result.severity) == (["USDSEK"], severity)


@pytest.mark.parametrize(
    ("last", "least", "missing", "severity"),
    [(5, 3, 2, None), (5, 3, 4, Severity.WARN), (5, 3, 5, Severity.ERROR), (3, 3, 3, Severity.ERROR),
     (20, 18, 9, Severity.WARN), (20, 18, 20, Severity.ERROR)],
)  # fmt: skip
def test_no_recent_bar_at_all_is_an_error(
    conn: psycopg.Connection, last: int, least: int, missing: int, severity: Severity | None
) -> None:
    live_hours(conn)
    conn.execute(
        "DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc >= %s", (NOW - missing * MINUTE,)
    )
    result = with_changes(conn, "recent_bars", "dxy_1m", last_minutes=last, least_bars=least)
    assert (result.passed, result.severity) == (severity is None, severity or Severity.WARN)


def test_a_grace_and_the_ages_of_gaps_are_thresholds(conn: psycopg.Connection) -> None:
    live_hours(conn)
    put(conn, [("EURUSD", NOW - HOUR, RATES["EURUSD"] * 1.001)])
    conn.execute("UPDATE dxy.touched_range SET touched_at = %s", (NOW - MINUTE,))
    assert with_changes(conn, "drift", "dxy_1m").passed
    assert not with_changes(conn, "drift", "dxy_1m", grace_minutes=0).passed
    conn.execute(
        "DELETE FROM public.data_bars WHERE canonical_symbol = 'USDJPY' AND ts_utc >= %s", (NOW - 60 * MINUTE,)
    )
    assert with_changes(conn, "gaps", "fx_1m").metadata["minutes pending"] == 10
    changed = with_changes(conn, "gaps", "fx_1m", pending_minutes=30, confirm_hours=0).metadata
    assert (changed["minutes pending"], changed["minutes confirmed missing"]) == (30, 60)


def test_a_band_is_set_by_era_and_shown(db: str, conn: psycopg.Connection, monkeypatch) -> None:
    live_hours(conn)
    result = one(conn, "price_band", "dxy_1m")
    assert result.passed
    assert result.metadata["threshold eras"] == "1970-01-01=70-170,1990-01-01=68-125,2015-01-01=80-120"
    assert one(conn, "gaps").metadata["threshold thin"] == "USDSEK"
    monkeypatch.setenv("DATABASE_URL", db)
    band = "2015-01-01=80-120,2024-06-12=10-20"
    done = CliRunner().invoke(app, ["checks", "set", "dxy_1m.price_band", "eras", band])
    assert done.exit_code == 0, done.output
    result = one(conn, "price_band", "dxy_1m")
    assert (result.passed, result.metadata["threshold eras"]) == (False, band)


def test_one_violation_is_not_several(db: str, conn: psycopg.Connection, monkeypatch) -> None:
    conn.execute(
        "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close)"
        " VALUES ('DXY', '1m', %s, 1, 1, 1, 1)",
        (NOW,),
    )
    monkeypatch.setenv("DATABASE_URL", db)
    done = CliRunner().invoke(app, ["checks", "run", "--only", "orphans_in_derived"])
    assert done.exit_code == 1
    assert "1 violation" in done.output
    assert "1 violations" not in done.output
    assert [engine.counted(n) for n in (1, 2, 1200)] == ["1 violation", "2 violations", "1,200 violations"]


class TestExternalWriter:
    """What another worker stores is held to the contract, and never taken for the latest bar."""

    def test_clean_bars_pass(self, conn: psycopg.Connection) -> None:
        live_hours(conn)
        assert one(conn, "well_formed").passed
        assert bar_reads.malformed_bars(conn, NOW - HOUR, NOW, NOW) == {}

    def test_each_fault_is_named(self, any_conn: psycopg.Connection) -> None:
        live_hours(any_conn)
        add = (
            "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
            " VALUES (%s, '1m', %s, 1, 1, 1, %s, 'ingest')"
        )
        off, ahead = NOW - timedelta(seconds=30), NOW + 2 * MINUTE
        for row in (("EURUSD", off, 1), ("USDJPY", ahead, 1), ("eurusd", NOW - MINUTE, 1), ("EURNOK", NOW - MINUTE, 1)):
            any_conn.execute(add, row)
        put(any_conn, [("GBPUSD", NOW - 5 * MINUTE, None)])
        result = one(any_conn, "well_formed")
        assert {(r["canonical_symbol"], r["ts_utc"], r["fault"]) for r in result.rows} == {
            ("EURUSD", off, "off the minute"), ("USDJPY", ahead, "in the future"),
            ("eurusd", NOW - MINUTE, "misspelled symbol"),
        }  # fmt: skip
        assert result.severity is Severity.ERROR
        assert bar_reads.malformed_bars(any_conn, NOW - HOUR, NOW + HOUR, NOW) == {
            "off the minute": 1, "in the future": 1, "misspelled symbol": 1, "broken price": 1,
        }  # fmt: skip

    def test_a_bar_off_the_minute_is_not_the_latest(self, conn: psycopg.Connection) -> None:
        live_hours(conn, now=NOW - 20 * MINUTE)
        conn.execute(
            "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
            " SELECT s, '1m', %s, 1, 1, 1, 1, 'ingest' FROM unnest(%s::text[]) AS s",
            (NOW - timedelta(seconds=30), list(SYMBOLS)),
        )
        result = one(conn, "freshness")
        assert len(result.rows) == 6
        assert {row["latest"] for row in result.rows} == {NOW - 21 * MINUTE}
        assert not one(conn, "staleness").passed


def test_dxy_of_1985_is_counted_and_checked(conn: psycopg.Connection) -> None:
    day = datetime(1985, 2, 25, 14, tzinfo=UTC)
    put_six(conn, day, 30)
    bar_store.derive(conn, day, day + HOUR)
    figures = {f.asset: f for f in engine.figures(conn, NOW)}
    assert (figures["fx_1m"].bars, figures["dxy_1m"].bars) == (180, 30)
    only = ["price_band", "count_match", "drift"]
    assert failed(run_checks(conn, NOW, only=only, rhythm="daily")) == {}
    conn.execute("UPDATE public.data_bars SET close = 180 WHERE canonical_symbol = 'DXY' AND ts_utc = %s", (day,))
    conn.execute("DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = %s", (day + MINUTE,))
    conn.execute("DELETE FROM dxy.touched_range")
    assert set(failed(run_checks(conn, NOW, only=only, rhythm="daily"))) == {
        "dxy_1m.price_band", "dxy_1m.count_match", "dxy_1m.drift",
    }  # fmt: skip


def test_a_change_before_the_first_partition_is_told_and_backfilled(
    db: str, conn: psycopg.Connection, monkeypatch
) -> None:
    put_six(conn, datetime(1985, 2, 25, 14, tzinfo=UTC), 30)
    conn.execute("UPDATE dxy.touched_range SET touched_at = %s", (NOW - HOUR,))
    assert not one(conn, "late_data", "dxy_1m").passed
    monkeypatch.setenv("DATABASE_URL", db)
    done = CliRunner().invoke(app, ["backfill", "--from", "1985-02-25", "--to", "1985-02-26"])
    assert done.exit_code == 0, done.output
    assert one(conn, "late_data", "dxy_1m").passed
    assert {f.asset: f.bars for f in engine.figures(conn, NOW)}["dxy_1m"] == 30


def test_a_migrated_bar_is_compared_in_every_price(conn: psycopg.Connection) -> None:
    live_hours(conn)
    at = NOW - HOUR
    migrated = """UPDATE public.data_bars SET raw = raw || '{"migrated_from": "derived_data_bars"}', open = open + %s"""
    conn.execute(migrated + " WHERE canonical_symbol = 'DXY' AND ts_utc = %s", (0.00000001, at))
    conn.execute("DELETE FROM dxy.touched_range")
    assert one(conn, "drift", "dxy_1m").passed
    conn.execute(migrated + " WHERE canonical_symbol = 'DXY' AND ts_utc = %s", (0.01, at))
    conn.execute("DELETE FROM dxy.touched_range")
    assert [row["ts_utc"] for row in one(conn, "drift", "dxy_1m").rows] == [at]


class TestThresholds:
    def test_stored_ones_take_effect_at_once(self, db: str, conn: psycopg.Connection, monkeypatch) -> None:
        live_hours(conn, now=NOW - 8 * MINUTE)
        assert not one(conn, "freshness", "dxy_1m").passed
        monkeypatch.setenv("DATABASE_URL", db)
        done = CliRunner().invoke(app, ["checks", "set", "dxy_1m.freshness", "target_minutes", "10"])
        assert done.exit_code == 0, done.output
        result = one(conn, "freshness", "dxy_1m")
        assert (result.passed, result.metadata["threshold target_minutes"]) == (True, 10)
        CliRunner().invoke(app, ["checks", "set", "dxy_1m.freshness", "target_minutes", "default"])
        assert not one(conn, "freshness", "dxy_1m").passed

    @pytest.mark.parametrize(
        ("check", "threshold", "text", "message"),
        [
            ("fx_1m.gap", "minutes", "3", "no check is called"),
            ("fx_1m.gaps", "hours", "3", "has no threshold"),
            ("fx_1m.gaps", "minutes", "-3", "is not a value"),
            ("fx_1m.gaps", "minutes", "many", "is not a value"),
            ("fx_1m.gaps", "thin", "EURNOK", "is not a value"),
            ("fx_1m.outliers", "deviations", "nan", "is not a value"),
            ("dxy_1m.price_band", "era_low", "3", "has no threshold"),
            ("dxy_1m.price_band", "eras", "3", "is not a value"),
            ("dxy_1m.price_band", "eras", "1990-01-01=125-68", "is not a value"),
            ("dxy_1m.price_band", "eras", "2015-01-01=80-120,1990-01-01=68-125", "is not a value"),
            ("dxy_1m.price_band", "eras", "2015-01-01=80-inf", "is not a value"),
        ],
    )
    def test_mistakes_are_refused(self, check: str, threshold: str, text: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            parsed_threshold(check, threshold, text)

    def test_good_ones_keep_their_type(self) -> None:
        assert parsed_threshold("fx_1m.gaps", "minutes", "20") == 20
        assert parsed_threshold("fx_1m.outliers", "deviations", "12.5") == 12.5
        assert parsed_threshold("dxy_5m.price_band", "eras", "1990-01-01=68-125, 2015-01-01=80.5-120") == [
            ["1990-01-01", 68.0, 125.0],
            ["2015-01-01", 80.5, 120.0],
        ]
        assert parsed_threshold("fx_1m.gaps", "thin", "usdsek, USDCHF") == ["USDSEK", "USDCHF"]


class TestCommands:
    def test_status_and_alerts_as_json(self, db: str, conn: psycopg.Connection, monkeypatch) -> None:
        monkeypatch.setenv("DATABASE_URL", db)
        logging.disable(logging.NOTSET)
        done = CliRunner().invoke(app, ["status", "--json"])
        assert done.exit_code == 1  # nothing is in it
        report = json.loads(done.output)
        assert report["healthy"] is False
        assert {a["asset"] for a in report["assets"]} == {"fx_1m", "dxy_1m", "dxy_5m", "dxy_1h"}
        assert report["incidents"] == []
        assert report["final until"].keys() == {"dxy_1m", "dxy_5m", "dxy_1h"}
        assert CliRunner().invoke(app, ["alerts", "list"]).exit_code == 0

    def test_one_check_on_demand(self, db: str, conn: psycopg.Connection, monkeypatch) -> None:
        monkeypatch.setenv("DATABASE_URL", db)
        done = CliRunner().invoke(app, ["checks", "run", "--only", "schema_contract", "--json"])
        assert done.exit_code == 0, done.output
        assert [row["name"] for row in json.loads(done.output)] == ["schema_contract"]

    def test_a_test_message_needs_a_url(self, monkeypatch) -> None:
        monkeypatch.setenv("DXY_ALERT_URLS", "")
        done = CliRunner().invoke(app, ["alerts", "test"])
        assert done.exit_code == 2

    def test_the_watchdog_once(self, db: str, conn: psycopg.Connection, monkeypatch) -> None:
        monkeypatch.setenv("DATABASE_URL", db)
        done = CliRunner().invoke(app, ["watchdog", "--once"])
        assert done.exit_code == 1
        assert "the monitoring is silent and never was alive" in done.output


def test_configuration_is_consistent() -> None:
    names = [(c.asset, c.name) for c in CHECKS]
    assert len(set(names)) == len(names)
    for config in CHECKS:
        assert config.description.endswith(".")
        assert set(config.symbols) <= {*SYMBOLS, "DXY"}
        assert replace(config).timeframe in {"1m", "5m", "1h"}
    assert Settings.from_env({"DXY_DATA_DIR": "/nowhere"}).alert_urls == ()

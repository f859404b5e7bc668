"""Where the seed plan's SQL fails or is unsafe as printed: a regression test for each of its nineteen lines, by number.

The wider tests of each subject are in its own file; here stands the one that would have caught the printed plan.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import dagster as dg
import psycopg
import pytest

from dxy_pipeline.checks import engine
from dxy_pipeline.core.index import SYMBOLS, index_price
from dxy_pipeline.db import schema
from dxy_pipeline.db.shape import inspect
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
)
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.migration.support import Stage
from dxy_pipeline_tests.pg_server import Cluster
from dxy_pipeline_tests.shapes import build_shape_p, build_shape_s

HOUR = 60 * MINUTE
LEGACY_ALIVE = (
    "SELECT count(*) FROM derived_data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND deleted_at IS NULL"
)
MIGRATED = "SELECT count(*) FROM data_bars WHERE raw ? 'migrated_from'"


@pytest.fixture(scope="module")
def stages(clusters: Callable[[int], Cluster]) -> Iterator[Stage]:
    stage = Stage(clusters(18), lambda: clusters(18).url())
    yield stage
    shutil.rmtree(stage.files, ignore_errors=True)


def test_01_one_statement_derives_writes_and_counts(any_conn: psycopg.Connection) -> None:
    """As printed every call answered `relation "base_timestamps" does not exist` and wrote nothing."""
    put_six(any_conn, T0, 5)
    remove(any_conn, "USDSEK", T0)
    envelope = derive(any_conn, T0, T0 + HOUR)
    assert (envelope["success"], envelope["inserted"], envelope["skipped_incomplete"]) == (True, 4, 1)
    assert len(dxy_minutes(any_conn)) == 4


RAISED = ["40001", "40P01", "53100", "53200", "55P03", "55006", "57014", "57P01", "58030", "XX000"]
ENVELOPED = ["P0001", "22003", "22012", "23514", "42501"]


@pytest.mark.parametrize("code", [*RAISED, *ENVELOPED])
def test_02_what_a_caller_can_retry_is_raised_and_bad_data_is_enveloped(conn: psycopg.Connection, code: str) -> None:
    conn.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'made to fail' USING"
        f" ERRCODE = '{code}'; END $$;"
        "CREATE TRIGGER fail BEFORE INSERT ON data_bars FOR EACH ROW WHEN (new.canonical_symbol = 'DXY')"
        " EXECUTE FUNCTION fail()"
    )
    put_six(conn, T0, 5)
    if code in RAISED:
        with pytest.raises(psycopg.Error) as error:
            derive(conn, T0, T0 + HOUR)
        assert error.value.sqlstate == code
    else:
        envelope = derive(conn, T0, T0 + HOUR)
        assert (envelope["success"], envelope["error"], envelope["inserted"]) == (False, "made to fail", 0)
    assert dxy_minutes(conn) == {}


def test_03_a_callers_temporary_table_does_not_capture_the_write(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0, 5)
    any_conn.execute("CREATE TEMPORARY TABLE data_bars (LIKE public.data_bars INCLUDING ALL)")
    assert derive(any_conn, T0, T0 + HOUR)["inserted"] == 5
    assert scalar(any_conn, "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = 'DXY'") == 5
    assert scalar(any_conn, "SELECT count(*) FROM pg_temp.data_bars") == 0
    config = scalar(any_conn, "SELECT proconfig FROM pg_proc WHERE proname = 'calc_dxy_range_1m'")
    assert "search_path=pg_catalog, pg_temp" in config


def test_04_float8_arithmetic_rounded_once(conn: psycopg.Connection) -> None:
    """The same to 8 decimals as the seed's exp and ln on NUMERIC, and the function's types say float8."""
    assert scalar(
        conn, "SELECT pg_get_function_result(oid) FROM pg_proc WHERE proname = 'index_price'"
    ) == "double precision"  # fmt: skip
    put_six(conn, T0, 60, step=3.7e-5)
    derive(conn, T0, T0 + HOUR)
    different = scalar(
        conn,
        """SELECT count(*) FROM (
            SELECT ts_utc, (50.14348112
                * exp(-0.576 * ln(max(close) FILTER (WHERE canonical_symbol = 'EURUSD')))
                * exp( 0.136 * ln(max(close) FILTER (WHERE canonical_symbol = 'USDJPY')))
                * exp(-0.119 * ln(max(close) FILTER (WHERE canonical_symbol = 'GBPUSD')))
                * exp( 0.091 * ln(max(close) FILTER (WHERE canonical_symbol = 'USDCAD')))
                * exp( 0.042 * ln(max(close) FILTER (WHERE canonical_symbol = 'USDSEK')))
                * exp( 0.036 * ln(max(close) FILTER (WHERE canonical_symbol = 'USDCHF'))))::numeric(20, 8) AS price
            FROM data_bars WHERE canonical_symbol <> 'DXY' GROUP BY ts_utc) AS seed
        JOIN data_bars AS d ON d.canonical_symbol = 'DXY' AND d.ts_utc = seed.ts_utc
        WHERE abs(d.close - seed.price) > 0.00000001""",
    )
    assert (different, len(dxy_minutes(conn))) == (0, 60)


def test_05_a_re_run_writes_only_rows_that_differ(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0, 60)
    derive(any_conn, T0, T0 + HOUR)
    before = row_versions(any_conn)
    envelope = derive(any_conn, T0, T0 + HOUR)
    assert (envelope["inserted"], envelope["updated"]) == (0, 0)
    assert row_versions(any_conn) == before


def test_06_verification_is_by_key_and_content_not_by_count(stages: Stage) -> None:
    """A bar of the new function's own is no mismatch; one row less and another more is, though the counts agree."""
    with stages.at("P", "backfilled") as db:
        own = (
            "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
            " VALUES ('DXY', '1m', %s, 1, 1, 1, 1, 0, 'synthetic')"
        )
        first = "SELECT min(ts_utc) FROM data_bars WHERE raw ? 'migrated_from'"
        one = f"DELETE FROM data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = ({first}) RETURNING ts_utc"
        assert scalar(db.conn, MIGRATED) < scalar(
            db.conn, "SELECT count(*) FROM data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
        )
        assert db.migration.verify()["ok"] is True
        count = "SELECT count(*) FROM data_bars WHERE canonical_symbol = 'DXY'"
        before = scalar(db.conn, count)
        db.conn.execute("ALTER TABLE data_bars DISABLE TRIGGER ALL")  # past the mirror
        at = scalar(db.conn, one)
        db.conn.execute(own, (at + timedelta(seconds=30),))
        db.conn.execute("ALTER TABLE data_bars ENABLE TRIGGER ALL")
        assert scalar(db.conn, count) == before
        assert db.migration.compare().ok is False


def test_07_legacy_rows_stay_active_until_the_later_gated_step(stages: Stage) -> None:
    alive = {}
    for state in ("legacy", "backfilled", "cut_over", "retired"):
        with stages.at("P", state) as db:
            alive[state] = scalar(db.conn, LEGACY_ALIVE)
    assert alive["legacy"] == alive["backfilled"] == alive["cut_over"] > 100
    assert alive["retired"] == 0


def test_08_a_new_bar_lands_in_both_tables_whoever_writes_it(stages: Stage) -> None:
    with stages.at("P", "dual_write") as db:
        new, legacy = datetime(2024, 7, 1, 8, 0, tzinfo=UTC), datetime(2024, 7, 1, 8, 1, tzinfo=UTC)
        db.conn.execute(
            "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source, raw)"
            " VALUES ('DXY', '1m', %s, 104, 104, 104, 104, 0, 'synthetic', '{\"kind\": \"dxy\"}')",
            (new,),
        )
        db.conn.execute(
            "INSERT INTO derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
            " VALUES ('DXY', '1m', %s, 105, 105, 105, 105, 0, 'dxy')",
            (legacy,),
        )
        for table in ("data_bars", "derived_data_bars"):
            rows = db.conn.execute(
                f"SELECT close::float8 FROM {table} WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
                " AND ts_utc IN (%s, %s) ORDER BY ts_utc",
                (new, legacy),
            ).fetchall()
            assert rows == [(104.0,), (105.0,)], table


def test_09_rollback_undeletes_exactly_what_the_migration_deleted(stages: Stage) -> None:
    dead = (
        "SELECT array_agg(ts_utc || ' ' || close ORDER BY ts_utc, close) FROM derived_data_bars"
        " WHERE timeframe = '1m' AND deleted_at IS NOT NULL"
    )
    with stages.at("P", "legacy") as db:
        before, alive = scalar(db.conn, dead), scalar(db.conn, LEGACY_ALIVE)
    with stages.at("P", "retired") as db:
        assert len(scalar(db.conn, dead)) > len(before) > 5
        db.migration.rollback(reason="test")
        assert (scalar(db.conn, dead), scalar(db.conn, LEGACY_ALIVE)) == (before, alive)


def test_10_after_a_rollback_the_source_check_stays_wide_and_says_so(stages: Stage) -> None:
    with stages.at("S", "retired") as db:
        undone = db.migration.rollback(reason="test")
        assert "the wider CHECK" in undone["not restored"]
        (check,) = inspect(db.conn).tables["data_bars"].checks
        assert ("'synthetic'" in check.expression, check.validated) == (True, True)


@pytest.mark.parametrize("builder", [build_shape_s, build_shape_p])
def test_11_constraints_and_unique_indexes_are_read_from_the_catalog(
    any_empty_db: str, builder: Callable[..., object]
) -> None:
    """S has a unique index that no constraint view lists, P a constraint; both carry the key, whatever their names."""
    with psycopg.connect(any_empty_db, autocommit=True) as conn:
        builder(conn, hours=1)
        bars = inspect(conn).tables["data_bars"]
        index = bars.key_index()
        assert index is not None
        listed = scalar(conn, "SELECT count(*) FROM information_schema.table_constraints WHERE constraint_name = %s"
                        " AND table_name = 'data_bars'", index.name)  # fmt: skip
        assert listed == (0 if builder is build_shape_s else 1)
        assert any("massive_api" in check.expression for check in bars.checks)


def test_12_an_index_of_the_right_name_must_be_the_right_index(any_empty_db: str) -> None:
    with psycopg.connect(any_empty_db, autocommit=True) as conn:
        build_shape_s(conn, hours=1)
        conn.execute("DROP INDEX data_bars_unique_idx")
        conn.execute(
            "CREATE INDEX data_bars_unique_idx ON data_bars (canonical_symbol, timeframe, ts_utc)"
        )  # not unique
        conn.execute(
            "CREATE UNIQUE INDEX IF NOT EXISTS data_bars_unique_idx ON data_bars (canonical_symbol, timeframe, ts_utc)"
        )  # as printed: a NOTICE
        assert any("is not what its name says" in reason for reason in schema.plan(conn).refused)


def test_13_now_is_compared_as_an_instant(conn: psycopg.Connection) -> None:
    """In each session time zone the running bucket is partial and the one before is not."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    conn.execute("DELETE FROM dxy.fx_session")  # the test runs on any day: one session around it
    conn.execute("INSERT INTO dxy.fx_session VALUES (%s, %s)", (hour - 9 * HOUR, hour + 9 * HOUR))
    put_six(conn, hour - 2 * HOUR, 180)
    derive(conn, hour - 2 * HOUR, hour + HOUR)
    for zone in ("Pacific/Kiritimati", "UTC", "Pacific/Honolulu"):
        conn.execute("DELETE FROM derived_data_bars")
        conn.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
        done = scalar(conn, "SELECT calc_dxy_rollup_range('1h', %s, %s)", hour - 2 * HOUR, hour + HOUR)
        assert done["inserted"] == 3, done
        partial = {ts.astimezone(UTC): bar["is_partial"] for ts, bar in buckets(conn, "1h").items()}
        assert (partial[hour - 2 * HOUR], partial[hour]) == (False, True), zone
    texts = [p.read_text(encoding="utf-8") for p in sql_files()]
    assert len(texts) > 60
    assert not [text for text in texts if re.search(r"now\(\)\s+AT\s+TIME\s+ZONE", text, re.IGNORECASE)]


def sql_files() -> list[Any]:
    root = files("dxy_pipeline.sql")
    return [
        path for folder in root.iterdir() if folder.is_dir() for path in folder.iterdir() if path.name.endswith(".sql")
    ]


def test_14_freshness_is_measured_in_open_minutes(conn: psycopg.Connection) -> None:
    """Bars until Friday 17:00 New York are fresh all weekend, and stale eleven minutes after the Sunday open."""
    friday = datetime(2024, 6, 14, 21, 0, tzinfo=UTC)
    put_six(conn, friday - HOUR, 60)
    derive(conn, friday - HOUR, friday)
    sunday = friday + timedelta(days=2)

    def fresh(now: datetime) -> bool:
        (result,) = (r for r in engine.run_checks(conn, now, only=["freshness"]) if r.asset_key == "dxy_1m")
        return result.passed

    assert fresh(friday + 20 * HOUR)
    assert fresh(sunday - MINUTE)
    assert not fresh(sunday + 11 * MINUTE)


def test_15_the_snapshot_counts_by_the_values_present(stages: Stage) -> None:
    """The printed one counted source = 'massive', which is written massive_api here, and found none."""
    with stages.at("P", "prepared") as db:
        rows = dict(
            db.conn.execute(
                "SELECT canonical_symbol, by_source FROM dxy.migration_snapshot WHERE table_name = 'data_bars'"
            ).fetchall()
        )
        real = scalar(db.conn, "SELECT count(*) FROM data_bars WHERE canonical_symbol = 'EURUSD'")
    assert rows["EURUSD"] == {"massive_api": real}
    assert real > 100


def test_16_the_price_band_is_of_its_era(conn: psycopg.Connection) -> None:
    """71.35 is right in 2008 and wrong in 2024; deriving 2008 does not fail on the live band."""
    low = dict(zip(SYMBOLS, (1.57, 97.10, 2.02, 0.99, 5.99, 0.99), strict=True))
    then = datetime(2008, 4, 16, 8, 0, tzinfo=UTC)
    put_six(conn, then, 5, rates=low)
    assert derive(conn, then, then + HOUR)["inserted"] == 5

    def out_of_band() -> list[datetime]:
        (result,) = (
            r for r in engine.run_checks(conn, NOW, only=["price_band"], rhythm="daily") if r.asset_key == "dxy_1m"
        )
        return [row["ts_utc"] for row in result.rows]

    assert out_of_band() == []
    put_six(conn, T0, 1, rates=low)
    derive(conn, T0, T0 + HOUR)
    assert out_of_band() == [T0]


def test_17_the_old_raw_is_kept_under_legacy(stages: Stage) -> None:
    with stages.at("P", "backfilled") as db:
        wrong = scalar(
            db.conn,
            "SELECT count(*) FROM data_bars AS d"
            " JOIN derived_data_bars AS l USING (canonical_symbol, timeframe, ts_utc)"
            " WHERE l.deleted_at IS NULL AND d.raw ? 'migrated_from' AND d.raw -> 'legacy' IS DISTINCT FROM l.raw",
        )
        assert (wrong, scalar(db.conn, MIGRATED) > 100) == (0, True)


def test_18_high_and_low_are_the_close(conn: psycopg.Connection) -> None:
    """Combining component highs would give an index high below the index low: 104.127 against 104.167."""
    highs = dict(zip(SYMBOLS, (1.0855, 151.30, 1.2655, 1.3605, 10.555, 0.9045), strict=True))
    lows = dict(zip(SYMBOLS, (1.0845, 151.20, 1.2645, 1.3595, 10.545, 0.9035), strict=True))
    assert index_price(highs) < index_price(lows)
    put_six(conn, T0)
    for symbol in SYMBOLS:
        conn.execute("UPDATE data_bars SET high = %s, low = %s WHERE canonical_symbol = %s",
                         (highs[symbol], lows[symbol], symbol))  # fmt: skip
    derive(conn, T0, T0 + MINUTE)
    row = conn.execute("SELECT open, high, low, close FROM data_bars WHERE canonical_symbol = 'DXY'").fetchone()
    assert row is not None
    assert len(set(row)) == 1
    text = files("dxy_pipeline.sql").joinpath("functions/calc_dxy_range_1m.sql").read_text(encoding="utf-8")
    assert "open = high = low = close" in text


def test_19_the_rollups_are_assets_of_this_project(conn: psycopg.Connection) -> None:
    from dxy_pipeline.definitions import defs

    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert {"fx_1m", "dxy_1m", "dxy_5m", "dxy_1h"} <= keys
    assert dg.AssetKey("dxy_1m") in defs.resolve_asset_graph().get(dg.AssetKey("dxy_5m")).parent_keys
    put_six(conn, T0, 60)
    derive(conn, T0, T0 + HOUR)
    for timeframe, rows in (("5m", 12), ("1h", 1)):
        assert roll_up(conn, timeframe, T0, T0 + HOUR, NOW)["inserted"] == rows


def test_the_worked_example_of_the_design_note(conn: psycopg.Connection) -> None:
    """It says 103.45; the formula gives 101.07235338."""
    rates = dict(zip(SYMBOLS, (1.05, 108.50, 1.25, 1.30, 10.15, 0.92), strict=True))
    put(conn, [(symbol, T0, rate) for symbol, rate in rates.items()])
    derive(conn, T0, T0 + MINUTE)
    assert dxy_minutes(conn) == {T0: 101.07235338}
    assert rates != RATES

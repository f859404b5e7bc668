"""The seed's own tests, 5.1 and 5.2, by name, against real servers.

Its mock of the aggregator's query is replaced by what the server says it executed.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from dxy_pipeline.client import derive_dxy_for_window, fetch_1m_bars, get_source_bars_1m
from dxy_pipeline_tests.bars import MINUTE, put_six, scalar

FROM = datetime(2025, 1, 13, 0, 0, 0, tzinfo=UTC)
TO = datetime(2025, 1, 13, 1, 0, 0, tzinfo=UTC)


@pytest.fixture
def fed(any_conn: psycopg.Connection) -> psycopg.Connection:
    """The hour of the seed's tests, with all six pairs in each minute."""
    put_six(any_conn, FROM, 60, step=1e-5)
    return any_conn


def test_calc_dxy_range_1m_writes_to_data_bars(fed: psycopg.Connection) -> None:
    result = derive_dxy_for_window(FROM, TO, conn=fed)
    assert result["success"] is True
    assert result["inserted"] > 0 or result["updated"] > 0
    assert result["derivation_version"] == 1
    count = scalar(
        fed,
        "SELECT COUNT(*) FROM data_bars WHERE canonical_symbol='DXY' AND timeframe='1m'"
        " AND ts_utc >= %s AND ts_utc < %s",
        FROM,
        TO,
    )
    assert count == 60
    assert scalar(fed, "SELECT count(*) FROM derived_data_bars") == 0


def test_aggregator_1m_source(fed: psycopg.Connection) -> None:
    derive_dxy_for_window(FROM, TO, conn=fed)
    naive = datetime(2025, 1, 13, 0, 0), datetime(2025, 1, 13, 1, 0)  # noqa: DTZ001 - as the seed's test calls it
    bars = get_source_bars_1m("DXY", *naive, conn=fed)
    assert len(bars) == 60
    assert all(bar["ts_utc"] is not None for bar in bars)
    assert all(bar["close"] > 0 for bar in bars)
    assert list(bars[0]) == ["ts_utc", "open", "high", "low", "close", "vol", "vwap", "trade_count"]
    prices = [bar["close"] for bar in bars]
    assert min(prices) > 80
    assert max(prices) < 120


@pytest.fixture
def watched(any_db: str, any_conn: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A session whose last statement the server tells back, through pg_stat_activity."""
    with psycopg.connect(any_db, autocommit=True) as session:
        yield session


def executed(watcher: psycopg.Connection, session: psycopg.Connection) -> str:
    """The statement that the server says this session executed last."""
    return scalar(watcher, "SELECT query FROM pg_stat_activity WHERE pid = %s", session.info.backend_pid)


def test_aggregator_no_union_all(fed: psycopg.Connection, watched: psycopg.Connection) -> None:
    """Proved on the SQL that the server executed, and on the plan it chose: one table is read, and only that one."""
    now = datetime.now(UTC)
    for call in (
        lambda: get_source_bars_1m("EURUSD", now, now + timedelta(hours=1), conn=watched),
        lambda: get_source_bars_1m("DXY", FROM, TO, conn=watched),
        lambda: fetch_1m_bars(["EURUSD", "DXY"], FROM, TO, conn=watched),
    ):
        call()
        query_executed = executed(fed, watched)
        assert "data_bars" in query_executed
        assert "UNION ALL" not in query_executed.upper()
        assert "derived_data_bars" not in query_executed


def test_the_aggregators_plan_reads_one_table(fed: psycopg.Connection, watched: psycopg.Connection) -> None:
    """Whatever hides behind a view: the statistics count scans of the legacy table, and there are none."""
    reads = "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::int FROM pg_stat_user_tables WHERE relname = %s"
    derive_dxy_for_window(FROM, TO, conn=fed)
    fed.execute("SELECT pg_stat_force_next_flush()")
    legacy, bars = scalar(fed, reads, "derived_data_bars"), scalar(fed, reads, "data_bars")
    assert len(get_source_bars_1m("DXY", FROM, TO, conn=watched)) == 60
    watched.execute("SELECT pg_stat_force_next_flush()")
    watched.execute("SELECT 1")
    assert scalar(fed, reads, "data_bars") > bars
    assert scalar(fed, reads, "derived_data_bars") == legacy


def test_integration_full_pipeline(any_conn: psycopg.Connection) -> None:
    """5.2 step by step, its statements as printed but for the clock: now() AT TIME ZONE is correction 13."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    with any_conn.transaction(force_rollback=True):
        put_six(any_conn, minute - 60 * MINUTE, 60)
        fx_check = any_conn.execute(
            "SELECT canonical_symbol, COUNT(*) AS bars, MAX(ts_utc) AS latest FROM data_bars"
            " WHERE canonical_symbol IN ('EURUSD', 'USDJPY', 'GBPUSD', 'USDCAD', 'USDSEK', 'USDCHF')"
            " AND timeframe = '1m' AND ts_utc >= NOW() - INTERVAL '1 hour' GROUP BY canonical_symbol"
        ).fetchall()
        assert len(fx_check) == 6
        assert {latest for _, _, latest in fx_check} == {minute - MINUTE}
        derivation_result = scalar(any_conn, "SELECT calc_dxy_range_1m(NOW() - INTERVAL '1 hour', NOW(), 1)")
        assert derivation_result["success"] is True
        new_dxy_bars = scalar(
            any_conn,
            "SELECT COUNT(*) FROM data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
            " AND ts_utc >= NOW() - INTERVAL '1 hour'",
        )
        assert new_dxy_bars == derivation_result["inserted"] >= 59
        newest = any_conn.execute(
            "SELECT ts_utc, open, high, low, close, vol FROM data_bars WHERE canonical_symbol = 'DXY'"
            " AND timeframe = '1m' AND ts_utc >= NOW() - INTERVAL '1 hour' ORDER BY ts_utc DESC LIMIT 5"
        ).fetchall()
        assert [row[0] for row in newest] == [minute - i * MINUTE for i in range(1, 6)]
        rolled = scalar(any_conn, "SELECT calc_dxy_rollup_range('5m', NOW() - INTERVAL '1 hour', NOW())")
        assert rolled["success"] is True
    assert scalar(any_conn, "SELECT count(*) FROM data_bars") == 0  # nothing of it is kept


def test_the_registry_row_of_2_3(conn: psycopg.Connection) -> None:
    row = conn.execute(
        "SELECT asset_class, description, active, test_active, metadata FROM core_asset_registry_all"
        " WHERE canonical_symbol = 'DXY'"
    ).fetchone()
    assert row is not None
    assert row[:4] == (
        "currency_index",
        "US Dollar Index - derived from 6 FX pairs (EURUSD, USDJPY, GBPUSD, USDCAD, USDSEK, USDCHF)",
        True,
        True,
    )
    metadata = dict(row[4])
    assert datetime.fromisoformat(metadata.pop("migration_date")).date() <= datetime.now(UTC).date()
    assert metadata == {
        "is_synthetic": True,
        "data_location": "data_bars",
        "base_timeframe": "1m",
        "derivation_method": "calc_dxy_range_1m",
        "derivation_formula": "logarithmic_weighted_geometric_mean",
        "components": ["EURUSD", "USDJPY", "GBPUSD", "USDCAD", "USDSEK", "USDCHF"],
        "component_weights": {
            "EURUSD": -0.576,
            "USDJPY": 0.136,
            "GBPUSD": -0.119,
            "USDCAD": 0.091,
            "USDSEK": 0.042,
            "USDCHF": 0.036,
        },
        "derived_timeframes": ["5m", "1h"],
        "migration_version": 1,
    }


def test_the_signature_of_2_2(any_conn: psycopg.Connection) -> None:
    arguments = (
        "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid), prosecdef FROM pg_proc WHERE proname = %s"
    )
    assert any_conn.execute(arguments, ("calc_dxy_range_1m",)).fetchone() == (
        "p_from_utc timestamp with time zone, p_to_utc timestamp with time zone,"
        " p_derivation_version integer DEFAULT 1",
        "jsonb",
        True,
    )
    assert any_conn.execute(arguments, ("calc_dxy_range_derived",)).fetchone() == (
        "p_from_utc timestamp with time zone, p_to_utc timestamp with time zone, p_tf text DEFAULT '1m'::text,"
        " p_derivation_version integer DEFAULT 1",
        "jsonb",
        True,
    )


def test_the_legacy_function_of_an_empty_database(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, FROM, 5)
    call = sql.SQL("SELECT calc_dxy_range_derived(%s, %s, {})")
    assert scalar(any_conn, call.format("1m").as_string(), FROM, TO)["written"] == 5
    row = any_conn.execute(
        "SELECT source, source_timeframe, source_candles, expected_candles, quality_score, raw FROM derived_data_bars"
        " WHERE timeframe = '1m' LIMIT 1"
    ).fetchone()
    assert row == ("dxy", "1m", 6, 6, 2, {"kind": "dxy", "formula": "standard"})
    derive_dxy_for_window(FROM, TO, conn=any_conn)
    equal = (
        "SELECT count(*) FROM data_bars AS d JOIN derived_data_bars AS l USING (canonical_symbol, timeframe, ts_utc)"
        " WHERE d.close = l.close"
    )
    assert scalar(any_conn, equal) == 5
    with pytest.raises(psycopg.errors.RaiseException, match="derives 1m only, not 5m"):
        any_conn.execute(call.format("5m"), (FROM, TO))

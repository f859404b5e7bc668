"""bar_store and client: what is written, kept, counted and read, and what the database is asked."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from dxy_pipeline import bar_reads, bar_store, client
from dxy_pipeline.core.bars import Bar, Rejected, RejectReason
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.db import schema
from dxy_pipeline.errors import UserError
from dxy_pipeline.sources.files import FolderSource
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline.sources.reading import FileOptions
from dxy_pipeline_tests.bars import MINUTE, PRICE, RATES, T0, dxy_minutes, put, put_six, row_versions, scalar
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.shapes import START, build_shape_p, build_shape_s
from dxy_pipeline_tests.ui.dagster_ui import wait_for

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def six(at: datetime = T0, minutes: int = 1, factor: float = 1.0) -> list[Bar]:
    return [
        Bar(s, at + i * MINUTE, *(RATES[s] * factor,) * 4, volume=5.0, vwap=RATES[s], trade_count=3)
        for i in range(minutes)
        for s in SYMBOLS
    ]


def write(conn: psycopg.Connection, feed: str, rows: list[Bar], rejected: list[Rejected] | None = None) -> object:
    name = "massive_api" if feed == "massive" else "ingest"
    return bar_store.write_fx(conn, name, feed, Batch(rows, rejected or []))


# --- FX -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_written_once(any_conn: psycopg.Connection) -> None:
    assert write(any_conn, "file", six(minutes=3)) == bar_store.WriteResult(inserted=18)
    before = row_versions(any_conn)
    assert write(any_conn, "file", six(minutes=3)) == bar_store.WriteResult(unchanged=18)
    assert row_versions(any_conn) == before
    row = any_conn.execute(
        "SELECT timeframe, close::float8, vol, vwap::float8, trade_count, is_partial, source, raw FROM data_bars"
        " WHERE canonical_symbol = 'EURUSD' AND ts_utc = %s", (T0,)
    ).fetchone()  # fmt: skip
    assert row == ("1m", 1.08543, 5, 1.08543, 3, False, "ingest", {"feed": "file"})


RANKED = ["simulated", "ecb", "file", "massive"]


@pytest.mark.parametrize("better", RANKED)
@pytest.mark.parametrize("worse", RANKED)
def test_who_wins_a_key(conn: psycopg.Connection, better: str, worse: str) -> None:
    if RANKED.index(better) <= RANKED.index(worse):
        return
    bar_store.mark_created_by(conn, "demo")
    write(conn, worse, six(factor=1.01))
    assert write(conn, better, six()) == bar_store.WriteResult(updated=6)
    assert write(conn, worse, six(factor=1.02)) == bar_store.WriteResult(outranked=6)
    close, raw = (
        conn.execute("SELECT close::float8, raw FROM data_bars WHERE canonical_symbol = 'EURUSD'").fetchone() or ()
    )
    assert (close, raw["feed"]) == (1.08543, better)


def test_a_desks_own_row_counts_as_a_file(conn: psycopg.Connection) -> None:
    put_six(conn, T0)
    assert write(conn, "ecb", six(factor=1.01)) == bar_store.WriteResult(outranked=6)
    assert write(conn, "file", six(factor=1.01)) == bar_store.WriteResult(updated=6)


def test_refused_rows_are_kept_and_good_ones_stored(conn: psycopg.Connection) -> None:
    bad = Rejected("f.csv:7", "EURUSD", "2024-06-12T08:00Z", {"close": "-1"}, RejectReason.NEGATIVE)
    assert write(conn, "file", six(), [bad]) == bar_store.WriteResult(inserted=6, rejected=1)
    kept = conn.execute(
        "SELECT source_name, location, canonical_symbol, ts_text, reason, payload FROM dxy.rejected_bar"
    ).fetchall()
    assert kept == [("ingest", "f.csv:7", "EURUSD", "2024-06-12T08:00Z", "price is negative", {"close": "-1"})]


def test_a_refused_row_is_kept_once_however_often_it_is_read(conn: psycopg.Connection) -> None:
    """Each live tick covers the last quarter of an hour again: one bad bar must not be a row a minute for ever."""
    bad = Rejected("f.csv:7", "EURUSD", "2024-06-12T08:00Z", {"close": "-1"}, RejectReason.NEGATIVE)
    for _ in range(3):
        assert write(conn, "file", [], [bad, bad]).rejected == 2
    others = [bad._replace(location="f.csv:8"), bad._replace(payload={"close": "-2"}), bad._replace(symbol="USDJPY")]
    write(conn, "file", [], others)
    assert scalar(conn, "SELECT count(*) FROM dxy.rejected_bar") == 4
    for place in range(3):  # the answer's window moves on
        write(conn, "massive", [], [bad._replace(location=f"C:EURUSD page 1 item {place}")])
    assert scalar(conn, "SELECT count(*) FROM dxy.rejected_bar") == 5


def test_a_folder_read_each_minute_adds_its_bad_rows_once(conn: psycopg.Connection, tmp_path: Path) -> None:
    rows = "".join(f"{T0 + i * MINUTE:%Y-%m-%dT%H:%M:%SZ},1.08,1.08,1.08,{1.08 if i % 5 else -1}\n" for i in range(60))
    (tmp_path / "EURUSD.csv").write_text(f"time,open,high,low,close\n{rows}nonsense,1,1,1,1\n")
    source = FolderSource(tmp_path, "*.csv", "csv", FileOptions(check_level=False), FixedClock(NOW))
    for minute in range(3):
        now = T0 + (30 + minute) * MINUTE
        for batch in source.bars(("EURUSD",), now - 15 * MINUTE, now):
            bar_store.write_fx(conn, source.name, source.feed, batch)
    reasons = (
        "SELECT jsonb_object_agg(reason, n) FROM (SELECT reason, count(*) AS n FROM dxy.rejected_bar GROUP BY 1) AS r"
    )
    assert scalar(conn, reasons) == {"price is negative": 4, "not parseable": 1}


def test_a_batch_is_all_or_nothing(conn: psycopg.Connection) -> None:
    conn.execute("ALTER TABLE data_bars ADD CONSTRAINT odd CHECK (canonical_symbol <> 'USDCHF')")
    bad = Rejected("f.csv:7", "EURUSD", "x", {}, RejectReason.NEGATIVE)
    with pytest.raises(psycopg.errors.CheckViolation):
        write(conn, "file", six(), [bad])
    assert scalar(conn, "SELECT count(*) FROM data_bars") == 0
    assert scalar(conn, "SELECT count(*) FROM dxy.rejected_bar") == 0


@pytest.mark.parametrize("creator", [None, "somebody", "test"])
def test_simulated_bars_only_where_we_made_the_database(conn: psycopg.Connection, creator: str | None) -> None:
    if creator:
        bar_store.mark_created_by(conn, creator)
    with pytest.raises(UserError, match="only written to a database that the demo created itself"):
        write(conn, "simulated", six())
    assert scalar(conn, "SELECT count(*) FROM data_bars") == 0


@pytest.mark.parametrize("builder", [build_shape_s, build_shape_p])
def test_fx_into_the_desks_shapes(any_empty_db: str, builder: Callable[..., object]) -> None:
    """Massive rows of P need a ticker, its raw is NOT NULL, its symbols are a foreign key; S got raw from us."""
    with psycopg.connect(any_empty_db, autocommit=True) as conn:
        builder(conn, hours=1, natives=False)
        conn.execute("UPDATE derived_data_bars SET deleted_at = now() WHERE timeframe = '1m' AND deleted_at IS NULL")
        schema.upgrade(conn)
        at = START + timedelta(hours=12)
        for feed in ("file", "massive"):
            write(conn, feed, six(at, 5))
        assert write(conn, "massive", six(at, 5)) == bar_store.WriteResult(unchanged=30)
        assert bar_store.derive(conn, at, at + HOUR).inserted == 5
        assert bar_store.roll_up(conn, "5m", at, at + HOUR, at + DAY).inserted == 1
        assert set(dxy_minutes(conn).values()) >= {PRICE}


def test_two_loads_of_the_same_rows_at_once(db: str) -> None:
    def load(_: int) -> object:
        with psycopg.connect(db, autocommit=True) as conn:
            return write(conn, "file", six(minutes=120))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(load, range(4)))
    with psycopg.connect(db, autocommit=True) as conn:
        assert scalar(conn, "SELECT count(*) FROM data_bars") == 720
        assert write(conn, "file", six(minutes=120)) == bar_store.WriteResult(unchanged=720)


# --- derivations --------------------------------------------------------------------------------------------------


def test_a_deadlock_with_a_desks_own_writer_is_run_again(db: str, conn: psycopg.Connection) -> None:
    """It locks the same bars in another order; we are the victim, and the second try writes all six."""
    write(conn, "file", six())
    with psycopg.connect(db) as desk, ThreadPoolExecutor(1) as pool:
        desk.execute("SET deadlock_timeout = '1min'")
        put(desk, [("USDCHF", T0, 0.9)])
        ours = pool.submit(write, conn, "file", six(factor=1.01))
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        wait_for("our write waits", lambda: scalar(desk, blocked, conn.info.backend_pid), every=0.02)
        put(desk, [("EURUSD", T0, 1.1)])
        desk.commit()
        assert ours.result(60) == bar_store.WriteResult(updated=6)
    assert scalar(conn, "SELECT close::float8 FROM data_bars WHERE canonical_symbol = 'EURUSD'") == 1.0962843


def test_derive_over_the_turn_of_the_year(any_conn: psycopg.Connection) -> None:
    turn = datetime(2025, 1, 1, tzinfo=UTC)
    put_six(any_conn, turn - 3 * MINUTE, 6)
    put_six(any_conn, turn + timedelta(days=366), 2)
    result = bar_store.derive(any_conn, turn - DAY, turn + timedelta(days=400))
    assert result == bar_store.DeriveResult(inserted=8)
    assert len(dxy_minutes(any_conn)) == 8


def test_a_violation_is_raised_and_nothing_is_kept(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 3)
    put(conn, [("EURUSD", T0, 0.01)])
    waiting = bar_store.touched_days(conn, datetime(2100, 1, 1, tzinfo=UTC))
    with pytest.raises(bar_store.ContractViolation, match="hard limits"):
        bar_store.derive(conn, T0, T0 + HOUR)
    assert dxy_minutes(conn) == {}
    assert bar_store.touched_days(conn, datetime(2100, 1, 1, tzinfo=UTC)) == waiting


@pytest.mark.parametrize(("start", "end"), [(T0, T0), (T0 + DAY, T0), (T0 + 700 * DAY, T0)])
def test_an_empty_or_reversed_range_is_refused(conn: psycopg.Connection, start: datetime, end: datetime) -> None:
    with pytest.raises(bar_store.ContractViolation, match="Invalid timestamp range"):
        bar_store.derive(conn, start, end)
    with pytest.raises(bar_store.ContractViolation, match="Invalid timestamp range"):
        bar_store.roll_up(conn, "5m", start, end, NOW)


def test_an_unknown_timeframe(conn: psycopg.Connection) -> None:
    with pytest.raises(UserError, match="DXY is not rolled up to '4h'"):
        bar_store.roll_up(conn, "4h", T0, T0 + HOUR, NOW)


def test_a_lost_race_is_run_again(any_db: str, any_conn: psycopg.Connection) -> None:
    """A foreign writer puts the same DXY minute first: the function says 40001, the store tries again."""
    put_six(any_conn, T0, 3)
    with psycopg.connect(any_db) as foreign, ThreadPoolExecutor(1) as threads:
        foreign.execute(
            "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, close, source)"
            " VALUES ('DXY', '1m', %s, 1, 'ingest')",
            (T0,),
        )
        running = threads.submit(bar_store.derive, any_conn, T0, T0 + HOUR)
        with psycopg.connect(any_db, autocommit=True) as watch:
            locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            while not scalar(watch, locked) and not running.done():
                pass
        foreign.commit()
        assert running.result(30) == bar_store.DeriveResult(inserted=2, updated=1)
    assert set(dxy_minutes(any_conn).values()) == {PRICE}


def test_a_day_that_another_run_holds_is_waited_for(db: str, conn: psycopg.Connection) -> None:
    put_six(conn, T0, 3)
    conn.execute("SET lock_timeout = '100ms'")
    with psycopg.connect(db) as other, ThreadPoolExecutor(1) as threads:
        other.execute("SELECT dxy.lock_days(%s, %s)", (T0, T0 + HOUR))
        running = threads.submit(bar_store.derive, conn, T0, T0 + HOUR)
        with pytest.raises(TimeoutError):
            running.result(0.5)  # more than one lock_timeout: it is at least the second attempt
        other.rollback()
        assert running.result(30).inserted == 3


def test_day_figures(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 5, step=1e-3)
    put_six(conn, T0 + DAY, 2)
    bar_store.derive(conn, T0, T0 + 2 * DAY)
    bar_store.roll_up(conn, "5m", T0, T0 + DAY, NOW)
    closes = list(dxy_minutes(conn).values())[:5]
    first, second = bar_reads.day_figures(conn, "dxy_1m", T0, T0 + 2 * DAY)
    assert first == bar_reads.DayFigures(T0.date(), 5, min(closes), max(closes), closes[-1], T0 + 4 * MINUTE, 1)
    assert (second.day, second.rows) == ((T0 + DAY).date(), 2)
    (fx,) = bar_reads.day_figures(conn, "fx_1m", T0, T0 + DAY)
    assert (fx.rows, fx.symbols) == (30, 6)
    (five,) = bar_reads.day_figures(conn, "dxy_5m", T0, T0 + DAY)
    assert (five.rows, five.high, five.last) == (1, max(closes), closes[-1])


# --- the client ---------------------------------------------------------------------------------------------------


@pytest.fixture
def abroad(conn: psycopg.Connection) -> psycopg.Connection:
    """A caller's connection in another time zone, with bars around the hour that New York lives twice."""
    put_six(conn, datetime(2024, 11, 3, 5, tzinfo=UTC), 120, step=1e-5)
    conn.execute("SET TimeZone = 'America/New_York'")
    return conn


def test_bars_come_in_utc_whatever_the_session_says(abroad: psycopg.Connection) -> None:
    start = datetime(2024, 11, 3, 5, tzinfo=UTC)
    expected = [start + i * MINUTE for i in range(120)]
    for bars in (
        client.get_source_bars_1m("EURUSD", start, start + 2 * HOUR, conn=abroad),
        client.fetch_1m_bars(["EURUSD"], start, start + 2 * HOUR, conn=abroad),
    ):
        assert [bar["ts_utc"] for bar in bars] == expected
        assert {bar["ts_utc"].tzinfo for bar in bars} == {UTC}
    frame = client.fetch_1m_frame(["EURUSD"], start, start + 2 * HOUR, conn=abroad)
    assert list(frame.index.get_level_values("ts_utc").to_pydatetime()) == expected


def test_a_naive_time_is_utc(abroad: psycopg.Connection) -> None:
    naive = datetime(2024, 11, 3, 5, 30)  # noqa: DTZ001 - what a desk's code passes
    bars = client.get_source_bars_1m("EURUSD", naive, naive + MINUTE, conn=abroad)
    assert [bar["ts_utc"] for bar in bars] == [naive.replace(tzinfo=UTC)]
    envelope = client.derive_dxy_for_window(naive, naive + 5 * MINUTE, conn=abroad)
    assert (envelope["inserted"], min(dxy_minutes(abroad))) == (5, naive.replace(tzinfo=UTC))


def test_ingested_and_synthetic_symbols_alike(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 3)
    put(conn, [("XAUUSD", T0, 2300.0)])
    client.derive_dxy_for_window(T0, T0 + HOUR, conn=conn)
    rows = client.fetch_1m_bars(["XAUUSD", "DXY", "NONE"], T0, T0 + 2 * MINUTE, conn=conn)
    assert [(r["canonical_symbol"], r["ts_utc"], r["source"]) for r in rows] == [
        ("DXY", T0, "synthetic"),
        ("DXY", T0 + MINUTE, "synthetic"),
        ("XAUUSD", T0, "ingest"),
    ]
    assert list(rows[0]) == ["canonical_symbol", "ts_utc", "open", "high", "low", "close", "vol", "source"]
    assert rows[0]["close"] == Decimal(str(PRICE))
    frame = client.fetch_1m_frame(["XAUUSD", "DXY"], T0, T0 + 2 * MINUTE, conn=conn)
    assert frame.loc[("DXY", T0), "close"] == PRICE
    assert dict(frame.dtypes.astype(str))["close"] == "float64"


def test_an_empty_frame_has_its_columns(conn: psycopg.Connection) -> None:
    put(conn, [("EURUSD", T0, None)])
    assert client.fetch_1m_frame(["DXY"], T0, T0 + HOUR, conn=conn).empty
    assert client.fetch_1m_frame(["EURUSD"], T0, T0 + HOUR, conn=conn)["close"].isna().all()


def test_the_client_opens_its_own_session(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", db)
    with psycopg.connect(db, autocommit=True) as conn:
        put_six(conn, T0, 2)
    assert client.derive_dxy_for_window(T0, T0 + HOUR)["inserted"] == 2
    assert len(client.get_source_bars_1m("DXY", T0, T0 + HOUR)) == 2


def test_a_failed_derivation_raises_its_error(conn: psycopg.Connection) -> None:
    with pytest.raises(client.DerivationFailed, match=r"DXY derivation failed: Invalid timestamp range"):
        client.derive_dxy_for_window(T0, T0, conn=conn)

"""The pipeline's work through a transaction pooler: the same rows, and nothing left in the server's sessions."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from dxy_pipeline import bar_reads, bar_store
from dxy_pipeline.core.bars import Bar, Rejected, RejectReason
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.db.session import connect, pool
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline_tests.pooler import Pooler

DAY = datetime(2024, 6, 11, tzinfo=UTC)
RATES = dict(zip(SYMBOLS, (1.08, 157.0, 1.27, 1.37, 10.4, 0.90), strict=True))


@pytest.fixture
def pooler(any_db: str) -> Iterator[Pooler]:
    made = Pooler(any_db)
    yield made
    made.close()


def bars(minutes: int) -> Batch:
    """`minutes` complete minutes from DAY, prices moving, and one refused row."""
    rows = [
        Bar(symbol, DAY + timedelta(minutes=m), price, price, price, price, 10.0, price, 3)
        for m in range(minutes)
        for symbol, rate in RATES.items()
        for price in [round(rate * (1 + m / 10000), 5)]
    ]
    refused = Rejected("line 7", "EURUSD", "yesterday", {"open": "x"}, next(iter(RejectReason)))
    return Batch(rows=rows, rejected=[refused])


def through(pooler: Pooler, **options: Any) -> psycopg.Connection:
    settings: dict[str, Any] = {"application_name": "test", "autocommit": True, "pooler": True, **options}
    return connect(pooler.url, **settings)


def left_behind(pooler: Pooler) -> list[tuple]:
    """What clients have left in each server session: settings, locks, prepared statements, temporary tables."""
    question = """
        select pg_backend_pid(),
          (select array_agg(name order by name) from pg_settings where source = 'session'),
          (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
          (select count(*) from pg_prepared_statements),
          (select count(*) from pg_class where relpersistence = 't' and relnamespace = pg_my_temp_schema())
    """
    with psycopg.connect(pooler.url, autocommit=True, prepare_threshold=None) as conn:
        found = [conn.execute(question).fetchone() for _ in range(2)]
    return sorted(row for row in found if row is not None)


def test_the_pooler_is_strict(pooler: Pooler) -> None:
    """The instrument first: it must break what a pooler breaks."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        connect(pooler.url, application_name="test", pooler=False)
    with psycopg.connect(pooler.url, autocommit=True) as conn:
        conn.execute("set statement_timeout = '7s'")
        assert conn.execute("show statement_timeout").fetchone() == ("0",)  # another session
        assert conn.execute("show statement_timeout").fetchone() == ("7s",)  # the leak
        conn.execute("prepare mine as select 1")
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            conn.execute("execute mine")


def test_write_derive_roll_up(pooler: Pooler, any_db: str) -> None:
    end = DAY + timedelta(minutes=180)
    with through(pooler) as conn:
        written = bar_store.write_fx(conn, "ingest", "file", bars(180))
        assert (written.inserted, written.rejected) == (180 * 6, 1)
        assert bar_store.derive(conn, DAY, end).inserted == 180
        assert bar_store.roll_up(conn, "5m", DAY, end, end).inserted == 36
        assert bar_store.roll_up(conn, "1h", DAY, end, end).inserted == 3
        assert bar_store.derive(conn, DAY, end) == bar_store.DeriveResult()  # again: nothing to do
        assert [f.rows for f in bar_reads.day_figures(conn, "dxy_1m", DAY, end)] == [180]
    with psycopg.connect(any_db) as direct:
        row = direct.execute("select count(*) from data_bars where canonical_symbol = 'DXY'").fetchone()
    assert row == (180,)
    assert pooler.transactions == 6
    sessions = left_behind(pooler)
    assert len({pid for pid, *_ in sessions}) == 2
    for _, settings, locks, prepared, temporary in sessions:
        assert set(settings or []) <= {"application_name"}
        assert (locks, prepared, temporary) == (0, 0, 0)


def test_a_budget_holds_in_each_kind_of_statement(pooler: Pooler) -> None:
    def timeout(conn: psycopg.Connection) -> tuple | None:
        return conn.execute("select current_setting('statement_timeout'), current_setting('TimeZone')").fetchone()

    with through(pooler, statement_timeout=3) as conn, conn.transaction():
        assert timeout(conn) == ("3s", "UTC")
    with through(pooler, autocommit=False, statement_timeout=4) as conn:  # opened by its first statement
        assert timeout(conn) == ("4s", "UTC")
        conn.rollback()
        assert timeout(conn) == ("4s", "UTC")
    with through(pooler, read_only=True, statement_timeout=4) as conn:
        assert timeout(conn) == ("4s", "UTC")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("create table t ()")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), conn.cursor() as cursor:
            cursor.execute("create table t ()")
    for _, settings, *_ in left_behind(pooler):
        assert set(settings or []) <= {"application_name"}


def test_ddl_that_allows_no_transaction(pooler: Pooler) -> None:
    with through(pooler) as conn:
        conn.execute("create index concurrently on public.data_bars (ts_utc)")


def test_a_client_that_vanishes_in_mid_transaction(pooler: Pooler) -> None:
    victim = through(pooler, autocommit=False)
    victim.execute("create table half_done ()")
    victim.pgconn.finish()
    with through(pooler) as conn:
        for _ in range(3):
            assert conn.execute("select to_regclass('half_done')").fetchone() == (None,)


def test_a_pool_through_the_pooler(pooler: Pooler) -> None:
    """More clients than server sessions: each waits its turn between transactions."""
    with pool(pooler.url, application_name="test", pooler=True, autocommit=True, max_size=4) as connections:
        held = [connections.getconn() for _ in range(4)]
        for conn in held:
            with conn.transaction():
                assert conn.execute("show timezone").fetchone() == ("UTC",)
            connections.putconn(conn)

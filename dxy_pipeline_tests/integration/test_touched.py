"""The log of touched minutes: complete whoever writes, and never emptied of a change that a run did not see."""

import itertools
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from dxy_pipeline import bar_store, client, live_state
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline_tests.bars import MINUTE, RATES, T0, derive, dxy_minutes, put, put_six, remove, scalar, table_hash
from dxy_pipeline_tests.conftest import NOW

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def logged(conn: psycopg.Connection) -> list[tuple[str, datetime, datetime, int]]:
    rows = conn.execute("DELETE FROM dxy.touched_range RETURNING target, first_ts, last_ts, minutes").fetchall()
    return sorted((target, first.astimezone(UTC), last.astimezone(UTC), n) for target, first, last, n in rows)


def run_day(conn: psycopg.Connection, at: datetime = T0) -> None:
    start = at.replace(hour=0, minute=0)
    bar_store.derive(conn, start, start + DAY)
    for timeframe in ("5m", "1h"):
        bar_store.roll_up(conn, timeframe, start, start + DAY, NOW)


# --- what is logged -----------------------------------------------------------------------------------------------


def test_one_row_a_statement_day_and_target(any_conn: psycopg.Connection) -> None:
    midnight = T0.replace(hour=0) + DAY
    put_six(any_conn, midnight - 2 * MINUTE, 5)
    assert logged(any_conn) == [
        ("1m", midnight - 2 * MINUTE, midnight - MINUTE, 2),
        ("1m", midnight, midnight + 2 * MINUTE, 3),
    ]
    derive(any_conn, midnight - HOUR, midnight + HOUR)
    assert [(target, n) for target, _, _, n in logged(any_conn)] == [("1h", 2), ("1h", 3), ("5m", 2), ("5m", 3)]


def test_corrections_deletions_and_moves_are_logged(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0, 5)
    logged(any_conn)
    put(any_conn, [("EURUSD", T0 + MINUTE, 1.09)])
    assert logged(any_conn) == [("1m", T0 + MINUTE, T0 + MINUTE, 1)]
    remove(any_conn, "EURUSD", T0 + 2 * MINUTE)
    assert logged(any_conn) == [("1m", T0 + 2 * MINUTE, T0 + 2 * MINUTE, 1)]
    any_conn.execute("UPDATE data_bars SET ts_utc = ts_utc + interval '1 hour' WHERE canonical_symbol = 'USDJPY' AND"
                     " ts_utc = %s", (T0,))  # fmt: skip
    assert logged(any_conn) == [("1m", T0, T0 + HOUR, 2)]


def test_what_changes_nothing_logs_nothing(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 5)
    derive(conn, T0, T0 + HOUR)
    logged(conn)
    put_six(conn, T0, 5)  # the same values again
    conn.execute("UPDATE data_bars SET ingested_at = now()")
    put(conn, [("XAUUSD", T0, 2300.0)])
    conn.execute(
        "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, source) VALUES ('EURUSD', '5m', now(), 'ingest')"
    )
    assert logged(conn) == []


@pytest.mark.parametrize("column", ["vwap", "trade_count", "vol"])
def test_a_dxy_minute_touches_its_rollups_by_any_column_they_use(conn: psycopg.Connection, column: str) -> None:
    put_six(conn, T0, 5)
    run_day(conn)
    logged(conn)
    conn.execute(f"UPDATE data_bars SET {column} = 7 WHERE canonical_symbol = 'DXY' AND ts_utc = %s", (T0,))
    assert {target for target, *_ in logged(conn)} == {"5m", "1h"}


@pytest.mark.parametrize("ts", ["infinity", "-infinity", "1969-12-31T23:59Z", "2100-01-01T00:00Z", "0044-03-15Z BC"])
def test_a_time_of_no_calendar_is_stored_and_not_logged(conn: psycopg.Connection, ts: str) -> None:
    """A desk's write must never fail through our trigger, and its log must stay readable."""
    conn.execute("INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, close, source)"
                     " VALUES ('EURUSD', '1m', %s, 1, 'ingest')", (ts,))  # fmt: skip
    conn.execute("UPDATE data_bars SET close = 2")
    conn.execute("TRUNCATE data_bars")
    assert bar_store.touched_days(conn, LATER) == []


def test_truncate_is_seen(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0, 5)
    put_six(any_conn, T0 + DAY, 5)
    for at in (T0, T0 + DAY):
        run_day(any_conn, at)
    assert logged(any_conn) == []
    any_conn.execute("TRUNCATE data_bars")
    assert {d.day: d.targets for d in bar_store.touched_days(any_conn, LATER)} == {
        at.date(): ["1h", "1m", "5m"] for at in (T0, T0 + DAY)
    }
    for at in (T0, T0 + DAY):
        run_day(any_conn, at)
    assert scalar(any_conn, "SELECT count(*) FROM derived_data_bars WHERE deleted_at IS NULL") == 0


def test_a_session_in_replica_role_is_seen(any_conn: psycopg.Connection) -> None:
    any_conn.execute("SET session_replication_role = replica")
    put_six(any_conn, T0)
    any_conn.execute("SET session_replication_role = origin")
    assert [target for target, *_ in logged(any_conn)] == ["1m"]


def test_copy_and_merge_and_cte_writers_are_seen(any_conn: psycopg.Connection) -> None:
    line = "EURUSD\t1m\t2024-06-12 08:00+00\t1.08\tingest\n"
    with any_conn.cursor().copy(
        "COPY data_bars (canonical_symbol, timeframe, ts_utc, close, source) FROM STDIN"
    ) as copy:
        copy.write(line)
    assert len(logged(any_conn)) == 1
    any_conn.execute(
        "MERGE INTO data_bars AS d USING (VALUES (1)) AS v (one) ON d.canonical_symbol = 'EURUSD'"
        " WHEN MATCHED THEN UPDATE SET close = 1.09"
    )
    assert len(logged(any_conn)) == 1
    any_conn.execute("WITH gone AS (DELETE FROM data_bars RETURNING *) INSERT INTO data_bars SELECT g.canonical_symbol,"
                     " g.timeframe, g.ts_utc + interval '1 minute' FROM gone AS g WHERE false")  # fmt: skip
    assert len(logged(any_conn)) == 1


def test_a_year_in_one_statement_logs_a_row_a_day(conn: psycopg.Connection) -> None:
    conn.execute(
        "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, close, source)"
        " SELECT 'EURUSD', '1m', t, 1.1, 'ingest' FROM generate_series('2023-01-01Z'::timestamptz, '2023-12-31 23:00Z',"
        " interval '1 hour') AS t"
    )
    assert scalar(conn, "SELECT count(*) FROM dxy.touched_range") == 365


def test_newest_day_first_after_the_settle_delay(conn: psycopg.Connection) -> None:
    for days in (0, 2, 1):
        put_six(conn, T0 + days * DAY)
    now = scalar(conn, "SELECT now()")
    assert bar_store.touched_days(conn, now) == []
    found = bar_store.touched_days(conn, now + timedelta(minutes=2))
    assert [d.day for d in found] == [(T0 + days * DAY).date() for days in (2, 1, 0)]
    assert [d.day for d in bar_store.touched_days(conn, now + timedelta(minutes=2), limit=1)] == [found[0].day]
    run_day(conn, T0 + DAY)
    again = bar_store.touched_days(conn, now + timedelta(minutes=2))
    assert [d.day for d in again] == [(T0 + days * DAY).date() for days in (2, 0)]


def test_final_until(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 5)
    run_day(conn)
    assert client.final_until(now=NOW, conn=conn) == NOW - 2 * MINUTE  # the settle delay, cut to the minute
    put(conn, [("EURUSD", T0 + 3 * MINUTE, 1.09)])
    assert client.final_until(now=NOW, conn=conn) == T0 + 3 * MINUTE
    assert client.final_until("1h", now=NOW, conn=conn) == T0
    run_day(conn)
    assert client.final_until(now=NOW, conn=conn) == NOW - 2 * MINUTE


def test_no_unfinished_bar_lies_before_the_watermark(conn: psycopg.Connection) -> None:
    now = NOW + 58 * MINUTE
    assert client.final_until("5m", now=now, conn=conn) == NOW + 55 * MINUTE
    assert client.final_until("1h", now=now, conn=conn) == NOW
    assert client.final_until("1h", now=NOW + 61 * MINUTE, conn=conn) == NOW, "the last minute has not settled"
    with pytest.raises(ValueError, match="4h"):
        client.final_until("4h", conn=conn)


def test_what_was_not_fetched_is_not_final(conn: psycopg.Connection) -> None:
    """A source that has been down since 11:02:30: the minutes since then, and the late ones before it, are to come."""
    down = NOW - 58 * MINUTE + timedelta(seconds=30)
    live_state.note(conn, "massive", down, "unavailable", "no answer")
    assert client.final_until(now=NOW, conn=conn) == down - live_state.OVERLAP - timedelta(seconds=30)
    assert client.final_until("1h", now=NOW, conn=conn) == NOW - timedelta(hours=2)
    live_state.note(conn, "massive", NOW)
    assert client.final_until(now=NOW, conn=conn) == NOW - live_state.OVERLAP


def test_where_another_worker_fetches_progress_says_nothing(conn: psycopg.Connection) -> None:
    live_state.note(conn, "external", NOW)
    assert client.final_until(now=NOW, conn=conn) == NOW - 2 * MINUTE


# --- races --------------------------------------------------------------------------------------------------------


def test_a_change_that_commits_after_the_run_stays_in_the_log(any_db: str, any_conn: psycopg.Connection) -> None:
    """The older statement commits last: a run in between must not forget it."""
    put_six(any_conn, T0, 5)
    with psycopg.connect(any_db) as late:
        put(late, [("EURUSD", T0 + MINUTE, 1.09)])
        put(any_conn, [("EURUSD", T0 + 2 * MINUTE, 1.10)])
        run_day(any_conn)
        assert bar_store.touched_days(any_conn, LATER) == []
        late.commit()
    assert [d.first_ts for d in bar_store.touched_days(any_conn, LATER)] == [T0 + MINUTE]
    run_day(any_conn)
    ended = table_hash(any_conn)
    any_conn.execute("DELETE FROM derived_data_bars; DELETE FROM data_bars WHERE canonical_symbol = 'DXY'")
    run_day(any_conn)
    assert table_hash(any_conn) == ended
    assert len(set(dxy_minutes(any_conn).values())) == 3


def test_a_change_that_commits_between_the_runs_two_statements(db: str, conn: psycopg.Connection) -> None:
    """Seen by the derivation, not by the forgetting: one run too many, never one too few."""
    put_six(conn, T0, 5)
    with psycopg.connect(db) as run, run.transaction():
        values = {"target": "1m", "start": T0, "end": T0 + HOUR}
        run.execute("SELECT dxy.lock_days(%(start)s, %(end)s)", values)
        run.execute(bar_store.load("queries/consume_touched"), values)
        put(conn, [("EURUSD", T0, 1.09)])
        assert derive(run, T0, T0 + HOUR)["inserted"] == 5
    assert [d.targets for d in bar_store.touched_days(conn, LATER)] == [["1h", "1m", "5m"]]


@pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel))
def test_a_change_in_mid_run_is_not_lost_at_any_isolation(
    db: str, conn: psycopg.Connection, isolation: psycopg.IsolationLevel
) -> None:
    put_six(conn, T0, 5)
    with psycopg.connect(db) as run:
        run.isolation_level = isolation
        run.execute("SELECT count(*) FROM data_bars")  # the snapshot of the stricter levels is taken here
        put(conn, [("EURUSD", T0, 1.09)])
        bar_store.derive(run, T0, T0 + HOUR)
        run.commit()
    derive_until_dry(conn)
    assert dxy_minutes(conn)[T0] == pytest.approx(103.87, abs=0.1)
    assert dxy_minutes(conn)[T0] != dxy_minutes(conn)[T0 + MINUTE]


def derive_until_dry(conn: psycopg.Connection) -> None:
    for _ in range(3):
        for found in bar_store.touched_days(conn, LATER):
            run_day(conn, datetime.combine(found.day, T0.timetz()))
    assert bar_store.touched_days(conn, LATER) == []


def test_a_run_that_dies_half_way_leaves_the_log(db: str, conn: psycopg.Connection) -> None:
    put_six(conn, T0, 5)
    before = bar_store.touched_days(conn, LATER)
    dying = psycopg.connect(db)
    with pytest.raises(psycopg.OperationalError), dying.transaction():  # noqa: PT012 - it dies at the commit
        dying.execute("SELECT dxy.lock_days(%s, %s)", (T0, T0 + HOUR))
        dying.execute(bar_store.load("queries/consume_touched"), {"target": "1m", "start": T0, "end": T0 + HOUR})
        assert derive(dying, T0, T0 + HOUR)["inserted"] == 5
        conn.execute("SELECT pg_terminate_backend(%s)", (dying.info.backend_pid,))
    assert dxy_minutes(conn) == {}
    assert bar_store.touched_days(conn, LATER) == before
    derive_until_dry(conn)
    assert len(dxy_minutes(conn)) == 5


def test_writers_out_of_order_and_dying_runs_end_in_the_right_table(any_db: str, any_conn: psycopg.Connection) -> None:
    """Four writers correct and delete over two days; they commit late or abort, and runs are killed meanwhile."""
    days = (T0, T0 + DAY)
    for at in days:
        put_six(any_conn, at, 60)
    stop = threading.Event()
    faults: list[BaseException] = []

    def write(seed: int) -> None:
        with psycopg.connect(any_db) as conn:
            for i in range(40):
                at = days[(seed + i) % 2] + ((i * 7 + seed) % 60) * MINUTE
                symbol = SYMBOLS[seed]  # a pair each: no row is locked by two of them
                if i % 5 == 4:
                    remove(conn, symbol, at)
                else:
                    put(conn, [(symbol, at, RATES[symbol] * (1 + i * seed * 1e-4))])
                if i % 3 == 0:
                    conn.execute("SELECT pg_sleep(0.005)")
                conn.rollback() if i % 7 == 6 else conn.commit()

    def run(seed: int) -> None:
        for i in itertools.count(seed):
            if stop.is_set():
                return
            with psycopg.connect(any_db, autocommit=True) as conn:
                try:
                    run_day(conn, days[i % 2])
                except (psycopg.OperationalError, psycopg.InterfaceError):
                    continue  # killed: the next run takes over

    def kill() -> None:
        with psycopg.connect(any_db, autocommit=True) as conn:
            while not stop.wait(0.02):
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND query LIKE '%calc_dxy%' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
                )

    def guarded(work: object, *args: object) -> threading.Thread:
        def body() -> None:
            try:
                work(*args)  # type: ignore[operator]
            except BaseException as error:
                faults.append(error)
                stop.set()

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    writers = [guarded(write, seed) for seed in range(4)]
    others = [guarded(run, 0), guarded(run, 1), guarded(kill)]
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in others:
        thread.join(60)
    assert faults == []
    derive_until_dry(any_conn)
    ended = table_hash(any_conn)
    any_conn.execute("DELETE FROM derived_data_bars; DELETE FROM data_bars WHERE canonical_symbol = 'DXY'")
    for at in days:
        run_day(any_conn, at)
    assert table_hash(any_conn) == ended

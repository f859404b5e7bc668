"""`dxy db plan`, `dxy db upgrade` and `dxy backfill` as a user types them: output, exit codes, one-line errors."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg
import pytest
from psycopg import conninfo, sql
from typer.main import get_command

from dxy_pipeline import backfill
from dxy_pipeline.cli import app
from dxy_pipeline.db import schema
from dxy_pipeline_tests.bars import MINUTE, T0, buckets, dxy_minutes, put, put_six, row_versions, scalar
from dxy_pipeline_tests.shapes import build_shape_p, build_shape_s

TODAY = datetime.now(UTC).date()


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def dxy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A function that runs `dxy` in this process with DATABASE_URL set."""

    def run(url: str, *args: str, **env: str) -> Ran:
        monkeypatch.setenv("DATABASE_URL", url)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            get_command(app).main(args=list(args), prog_name="dxy")
        return Ran(int(exit_.value.code or 0), *capfd.readouterr())

    return run


def one_line(ran: Ran, words: str) -> None:
    """A user's mistake: exit code 2, one `error:` line with the words, a hint, no trace."""
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert ran.code == 2, ran
    assert len(errors) == 1, ran.err
    assert words in errors[0]
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err


# --- plan and upgrade ---------------------------------------------------------------------------------------------


def test_plan_upgrade_plan(any_empty_db: str, dxy: Callable[..., Ran]) -> None:
    before = dxy(any_empty_db, "db", "plan", "--json")
    found = json.loads(before.out)
    assert (before.code, found["shape"], found["revision"], found["refused"]) == (0, "E", None, [])
    assert len(found["steps"]) > 5
    with psycopg.connect(any_empty_db) as conn:
        assert scalar(conn, "SELECT to_regnamespace('dxy')") is None
    done = dxy(any_empty_db, "db", "upgrade")
    assert done.code == 0, done.err
    assert "function file calc_dxy_range_1m" in done.err
    after = dxy(any_empty_db, "db", "plan")
    assert (after.code, "nothing to do" in after.out) == (0, True)
    again = json.loads(dxy(any_empty_db, "db", "upgrade", "--json").out)
    assert again["steps done"] == 0


@pytest.mark.parametrize("builder", [build_shape_s, build_shape_p])
def test_plan_of_a_desk_says_what_waits(empty_db: str, dxy: Callable[..., Ran], builder: Callable[..., object]) -> None:
    with psycopg.connect(empty_db, autocommit=True) as conn:
        builder(conn, hours=1)
    shown = dxy(empty_db, "db", "plan")
    assert shown.code == 0
    assert "waits for dxy migrate" in shown.out
    assert ("S (the seed's shape)" if builder is build_shape_s else "P (production-like)") in shown.out
    done = dxy(empty_db, "db", "upgrade")
    assert 'until "dxy migrate prepare"' in done.err
    refused = dxy(empty_db, "backfill", "--from", "2024-06-10", "--to", "2024-06-11")
    one_line(refused, 'DXY 1m still belongs to derived_data_bars; next: "dxy migrate prepare"')


def test_plan_of_a_refused_database_exits_1(empty_db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(empty_db, autocommit=True) as conn:
        build_shape_s(conn, hours=1)
        conn.execute("ALTER TABLE data_bars ALTER close TYPE real")
    ran = dxy(empty_db, "db", "plan")
    assert (ran.code, "refused: public.data_bars.close is real" in ran.out) == (1, True)
    one_line(dxy(empty_db, "db", "upgrade"), "public.data_bars.close is real")


def test_plan_works_for_a_role_that_may_only_read(db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(db, autocommit=True) as conn:
        name = f"looker_{conn.info.dbname}"
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE dxy_reader").format(sql.Identifier(name)))
        try:
            ran = dxy(conninfo.make_conninfo(db, user=name), "db", "plan")
            assert (ran.code, "is not a member of dxy_owner" in ran.out) == (1, True)
        finally:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_upgrade_wants_a_direct_connection(db: str, dxy: Callable[..., Ran]) -> None:
    one_line(dxy(db, "db", "upgrade", DXY_POOLER="1"), "DDL cannot go through a transaction pooler")
    assert dxy(db, "db", "upgrade", DXY_POOLER="1", DIRECT_URL=f"{db}&application_name=direct").code == 0


# --- bad input ----------------------------------------------------------------------------------------------------


def test_an_unreachable_database(dxy: Callable[..., Ran]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        url = f"postgresql://x:secret-pw@127.0.0.1:{taken.getsockname()[1]}/d"
        for args in (("db", "plan"), ("db", "upgrade"), ("backfill", "--from", "2024-06-10", "--to", "2024-06-11")):
            ran = dxy(url, *args)
            one_line(ran, "no server answers there")
            assert "secret-pw" not in ran.err + ran.out


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/db", "only PostgreSQL is supported"),
        ("nonsense", "DATABASE_URL is not a PostgreSQL URL"),
        ("postgresql://a:b@[::1/x", "DATABASE_URL cannot be read"),
    ],
)
def test_a_wrong_url(dxy: Callable[..., Ran], url: str, words: str) -> None:
    one_line(dxy(url, "db", "plan"), words)


def test_a_database_that_is_not_there(db: str, dxy: Callable[..., Ran]) -> None:
    one_line(dxy(conninfo.make_conninfo(db, dbname="nowhere"), "db", "plan"), "no such database")


def test_no_schema_yet(empty_db: str, dxy: Callable[..., Ran]) -> None:
    ran = dxy(empty_db, "backfill", "--from", "2024-06-10", "--to", "2024-06-11")
    one_line(ran, "has no schema of this project")
    assert 'hint: run "dxy db upgrade" first' in ran.err


def test_a_missing_table(db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(db, autocommit=True) as conn:
        conn.execute("DROP TABLE data_bars")
    one_line(dxy(db, "backfill", "--from", "2024-06-10", "--to", "2024-06-11"), "a table is missing: public.data_bars")
    one_line(dxy(db, "db", "upgrade"), "table public.data_bars is missing while others of the three exist")


def test_no_permission(db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(db, autocommit=True) as conn:
        name = f"nobody_{conn.info.dbname}"
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        try:
            for args in (("db", "plan"), ("backfill", "--from", "2024-06-10", "--to", "2024-06-11")):
                one_line(dxy(conninfo.make_conninfo(db, user=name), *args), "no permission: permission denied")
        finally:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_newer_database(db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(db, autocommit=True) as conn:
        conn.execute("UPDATE dxy.dxy_alembic_version SET version_num = '9999'")
    one_line(dxy(db, "db", "upgrade"), "the database is at schema version 9999, newer than this code")
    one_line(dxy(db, "backfill", "--from", "2024-06-10", "--to", "2024-06-11"), "newer than this code")


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2024-06-11", "2024-06-10", "--from 2024-06-11 is not before --to 2024-06-10"),
        ("2024-06-11", "2024-06-11", "is not before"),
        (f"{TODAY + timedelta(days=2)}", f"{TODAY + timedelta(days=3)}", "is in the future"),
        ("2024-06-11", f"{TODAY + timedelta(days=2)}", "is in the future"),
        ("1969-12-31", "2024-06-10", "is before 1970"),
        ("yesterday", "2024-06-10", "'yesterday' is not a day or an instant"),
        ("0001-01-01T00:00+14:00", "2024-06-10", "is outside the years 1 to 9999 in UTC"),
        ("2024-06-11", "9999-12-31T23:59-14:00", "is outside the years 1 to 9999 in UTC"),
    ],
)
def test_a_wrong_range(db: str, dxy: Callable[..., Ran], start: str, end: str, words: str) -> None:
    ran = dxy(db, "backfill", "--from", start, "--to", end)
    one_line(ran, words)
    assert ran.err.startswith("error: ")


def test_an_unknown_asset_and_pair(db: str, dxy: Callable[..., Ran]) -> None:
    args = ("backfill", "--from", "2024-06-10", "--to", "2024-06-11", "--assets")
    one_line(dxy(db, *args, "dxy_4h"), "unknown asset 'dxy_4h'")
    one_line(dxy(db, "load", "ecb", "--pair", "EURXXX"), "EURXXX")


# --- backfill -----------------------------------------------------------------------------------------------------


def test_backfill_derives_rolls_up_and_repeats_without_a_write(any_db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(any_db, autocommit=True) as conn:
        put_six(conn, T0, 60)
        put_six(conn, T0 - timedelta(days=30), 60)
        first = dxy(any_db, "backfill", "--from", "2024-05-01", "--to", "2024-06-13", "--json")
        assert first.code == 0, first.err
        changed = json.loads(first.out)["changed"]
        assert {name: counts["inserted"] for name, counts in changed.items()} == {
            "dxy_1m": 120,
            "dxy_5m": 24,
            "dxy_1h": 2,
        }
        assert len(dxy_minutes(conn)) == 120
        assert sorted(buckets(conn, "1h")) == [T0 - timedelta(days=30), T0]
        before = row_versions(conn)
        second = dxy(any_db, "backfill", "--from", "2024-05-01", "--to", "2024-06-13")
        assert second.code == 0
        assert row_versions(conn) == before


def test_backfill_of_one_asset(db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(db, autocommit=True) as conn:
        put_six(conn, T0, 60)
        assert dxy(db, "backfill", "--from", "2024-06-12", "--to", "2024-06-13", "--assets", "dxy_1m").code == 0
        assert (len(dxy_minutes(conn)), buckets(conn, "5m")) == (60, {})
        assert dxy(db, "backfill", "--from", "2024-06-12", "--to", "2024-06-13", "--assets", "dxy_1h,dxy_5m").code == 0
        assert len(buckets(conn, "5m")) == 12


def test_backfill_stops_at_the_month_that_breaks_the_contract(db: str, dxy: Callable[..., Ran]) -> None:
    with psycopg.connect(db, autocommit=True) as conn:
        put_six(conn, T0, 5)
        july = T0 + timedelta(days=30)
        put_six(conn, july, 5)
        put(conn, [("EURUSD", july, 0.01)])
        ran = dxy(db, "backfill", "--from", "2024-06-01", "--to", "2024-08-01")
        assert ran.code == 1
        assert "error: DXY outside the hard limits 50 to 200" in ran.err
        assert "done until 2024-07-01; go on with --from 2024-07-01" in ran.err
        assert "Traceback" not in ran.err
        assert list(dxy_minutes(conn)) == [T0 + i * MINUTE for i in range(5)]


def test_ctrl_c_leaves_whole_months_and_says_how_to_go_on(db: str) -> None:
    """The third month waits for a lock of ours; Ctrl-C there ends the statement, not only the program."""
    with psycopg.connect(db, autocommit=True) as conn, psycopg.connect(db) as blocker:
        for days in (0, 30, 60):
            put_six(conn, T0 + timedelta(days=days), 10)
        blocked = T0 + timedelta(days=60)
        blocker.execute("SELECT dxy.lock_days(%s, %s)", (blocked, blocked + MINUTE))
        command = [sys.executable, "-c", "from dxy_pipeline.cli import main; main()"]
        process = subprocess.Popen(
            [*command, "backfill", "--from", "2024-06-01", "--to", "2024-09-01"],
            env={**os.environ, "DATABASE_URL": db, "DXY_LOCK_TIMEOUT_S": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dxy_pipeline:backfill'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
        while not scalar(conn, waiting):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "done until 2024-08-01; go on with --from 2024-08-01" in err
        assert "Traceback" not in err
        blocker.rollback()
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        alive = waiting.replace(" AND wait_event_type = 'Lock'", "")
        while scalar(conn, alive):
            assert datetime.now(UTC) < deadline
        assert len(dxy_minutes(conn)) == 20
        assert (len(buckets(conn, "5m")), len(buckets(conn, "1h"))) == (4, 0)


def test_months_cover_the_range_once() -> None:
    start, end = datetime(2023, 11, 5, 7, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
    found = backfill.months(start, end)
    assert found[0] == (start, datetime(2023, 12, 1, tzinfo=UTC))
    assert [a for a, _ in found[1:]] == [b for _, b in found[:-1]]
    assert found[-1] == (datetime(2024, 1, 1, tzinfo=UTC), end)
    assert backfill.months(start, start + MINUTE) == [(start, start + MINUTE)]


def test_the_plan_of_the_newest_version_is_what_require_head_wants(conn: psycopg.Connection) -> None:
    schema.require_head(conn)
    assert schema.plan(conn).head == scalar(conn, "SELECT version_num FROM dxy.dxy_alembic_version")

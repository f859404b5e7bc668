"""What every session has, what a pooler changes, and what a database's refusals mean in words."""

import contextlib
import socket
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.db.session import PoolerConnection, connect, pool, read_url, user_errors
from dxy_pipeline.errors import UserError
from dxy_pipeline_tests.ordinary_user import as_ordinary_user
from dxy_pipeline_tests.pg_server import Cluster


def show(conn: psycopg.Connection, *names: str) -> tuple[str, ...]:
    return tuple(str(value(conn, f"show {name}")) for name in names)


def value(conn: psycopg.Connection, question: str) -> Any:
    row = conn.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


# --- direct connections


def test_every_session_has_a_name_utc_and_a_budget(any_empty_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGAPPNAME", "someone")
    with connect(any_empty_db, application_name="loader") as conn:
        assert show(conn, "application_name", "timezone") == ("dxy_pipeline:loader", "UTC")
        assert show(conn, "statement_timeout", "lock_timeout") == ("1min", "5s")
        assert show(conn, "idle_in_transaction_session_timeout") == ("1min",)
        instant = value(conn, "select timestamptz '2024-07-01 12:00:00+02'")
        assert instant.isoformat() == "2024-07-01T10:00:00+00:00"


def test_timeouts_come_from_the_call_then_the_settings(empty_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DXY_STATEMENT_TIMEOUT_S", "7")
    monkeypatch.setenv("DXY_LOCK_TIMEOUT_S", "0")
    with connect(empty_db, application_name="t", idle_in_transaction_timeout=0.25) as conn:
        assert show(conn, "statement_timeout", "lock_timeout") == ("7s", "0")
        assert show(conn, "idle_in_transaction_session_timeout") == ("250ms",)
    with connect(empty_db, application_name="t", statement_timeout=0) as conn:
        assert show(conn, "statement_timeout") == ("0",)


def test_the_urls_own_options_stay(empty_db: str) -> None:
    url = f"{empty_db}&options=-c%20work_mem%3D8MB%20-c%20TimeZone%3DAsia/Tokyo&application_name=x"
    with connect(url, application_name="t") as conn:
        assert show(conn, "work_mem", "timezone", "application_name") == ("8MB", "UTC", "dxy_pipeline:t")


def test_a_driver_in_the_url_does_not_matter(empty_db: str) -> None:
    for scheme in ("postgresql+psycopg2", "postgresql+psycopg", "postgres"):
        with connect(empty_db.replace("postgresql", scheme, 1), application_name="t") as conn:
            assert show(conn, "timezone") == ("UTC",)


@pytest.mark.parametrize("autocommit", [True, False])
def test_read_only(empty_db: str, autocommit: bool) -> None:
    with (
        connect(empty_db, application_name="t", read_only=True, autocommit=autocommit) as conn,
        pytest.raises(UserError, match="read-only"),
        user_errors(),
    ):
        conn.execute("create table t ()")


def test_pool(empty_db: str) -> None:
    with pool(empty_db, application_name="checks", max_size=2, read_only=True, statement_timeout=10) as connections:
        with connections.connection() as one, connections.connection() as two:
            assert one.info.backend_pid != two.info.backend_pid
            for conn in (one, two):
                assert show(conn, "application_name", "timezone") == ("dxy_pipeline:checks", "UTC")
                assert show(conn, "statement_timeout", "transaction_read_only") == ("10s", "on")
            victim = one.info.backend_pid
        with connect(empty_db, application_name="t", autocommit=True) as other:
            other.execute("select pg_terminate_backend(%s, 5000)", (victim,))
        for _ in range(3):  # a dead connection is replaced, not handed out
            with connections.connection() as conn:
                assert conn.execute("select 1").fetchone() == (1,)


def test_pool_that_runs_dry_says_so(empty_db: str) -> None:
    with (
        pool(empty_db, application_name="t", max_size=1, wait=0.2) as connections,
        connections.connection(),
        pytest.raises(UserError, match="no connection to the database"),
        user_errors(),
        connections.connection(),
    ):
        pass


# --- behind a transaction pooler


def test_pooler_settings_hold_in_the_transaction_and_leak_nothing(any_empty_db: str) -> None:
    with connect(
        any_empty_db, application_name="live", autocommit=True, pooler=True, statement_timeout=3, lock_timeout=2
    ) as conn:
        assert isinstance(conn, PoolerConnection)
        assert conn.prepare_threshold is None
        assert show(conn, "application_name") == ("dxy_pipeline:live",)
        before = show(conn, "statement_timeout", "lock_timeout")
        conn.execute("set timezone = 'Asia/Tokyo'")  # what another client may have left behind
        for _ in range(2):
            with conn.transaction():
                assert show(conn, "timezone", "statement_timeout", "lock_timeout") == ("UTC", "3s", "2s")
                with conn.transaction():  # a savepoint
                    assert show(conn, "statement_timeout") == ("3s",)
            assert show(conn, "timezone") == ("Asia/Tokyo",)
            assert show(conn, "statement_timeout", "lock_timeout") == before == ("0", "0")


def test_pooler_gets_nothing_in_the_start_packet_but_a_name(empty_db: str) -> None:
    """PgBouncer refuses a start packet with `options`."""
    direct = connect(empty_db, application_name="t", pooler=False)
    through = connect(empty_db, application_name="t", pooler=True)
    with direct, through:
        assert "TimeZone=UTC" in direct.info.get_parameters()["options"]
        assert "options" not in through.info.get_parameters()


def test_pooler_timeout_is_enforced(empty_db: str) -> None:
    with (
        connect(empty_db, application_name="t", autocommit=True, pooler=True, statement_timeout=0.2) as conn,
        pytest.raises(psycopg.errors.QueryCanceled),
        conn.transaction(),
    ):
        conn.execute("select pg_sleep(30)")


def test_pool_through_a_pooler(empty_db: str) -> None:
    with (
        pool(empty_db, application_name="t", pooler=True, autocommit=True, statement_timeout=4) as connections,
        connections.connection() as conn,
        conn.transaction(),
    ):
        assert show(conn, "statement_timeout", "timezone") == ("4s", "UTC")


def test_pooler_by_setting_for_database_url(empty_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_db)
    monkeypatch.setenv("DXY_POOLER", "1")
    with connect(empty_db, application_name="t") as conn:
        assert isinstance(conn, PoolerConnection)


# --- refusals: one line, a hint, no password


@contextlib.contextmanager
def refused(pattern: str, *, hint: str = "") -> Generator[None]:
    with pytest.raises(UserError, match=pattern) as caught, user_errors():
        yield
    text = str(caught.value) + caught.value.hint
    assert "\n" not in text
    assert "sesame" not in text
    assert hint in caught.value.hint
    assert caught.value.hint


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_nothing_listens() -> None:
    with refused("no server answers there: .*refused", hint="DATABASE_URL"):
        connect(f"postgresql://u:sesame@127.0.0.1:{free_port()}/db", application_name="t")


def test_unknown_host() -> None:
    with refused("host name is unknown"):
        connect("postgresql://u:sesame@no-such-host.invalid/db", application_name="t")


def test_no_socket(place: Path) -> None:
    with refused("no server runs there", hint="dxy db start"):
        connect(f"postgresql://u:sesame@/db?host={place}", application_name="t")


def test_a_server_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port, begun = silent.getsockname()[1], time.monotonic()
        with refused("the server does not answer"):
            connect(f"postgresql://u:sesame@127.0.0.1:{port}/db?connect_timeout=2", application_name="t")
        assert time.monotonic() - begun < 8


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:sesame@h:port/db",
        "postgresql://u:sesame@[::1/db",
        "postgresql://u:sesame@h/db?colour=red",
        "postgresql://u:ses%zzame-sesame@h/db",
        "host=h password='sesame",
        "sesame",
        "mysql://u:sesame@h/db",
    ],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    with refused("database URL|no server|host name"):
        connect(url, application_name="t")


def test_an_empty_url() -> None:
    with refused("URL is empty"):
        read_url("")


def test_no_such_database(server: Cluster) -> None:
    with refused('no such database: .*"nowhere"', hint="DATABASE_URL"):
        connect(server.url("nowhere"), application_name="t")


def test_no_such_user(empty_db: str) -> None:
    with refused('no such user: .*"stranger"'):
        connect(empty_db.replace("postgres@", "stranger@"), application_name="t")


def test_another_users_socket(empty_db: str) -> None:
    def intrude() -> None:
        with user_errors():
            connect(empty_db, application_name="t").close()
            raise UserError("the server belongs to another user: but we are that user", hint="an ordinary run")

    with refused("the server belongs to another user"):
        as_ordinary_user(intrude)


def test_missing_table_function_schema_column(empty_db: str) -> None:
    with connect(empty_db, application_name="t", autocommit=True) as conn:
        for statement, meaning in {
            "select * from data_bars": "a table is missing",
            "select calc_dxy_range_1m(1)": "a function is missing",
            "create table dxy.t ()": "a schema is missing",
            "select relcolour from pg_class": "a column is missing",
        }.items():
            with refused(meaning, hint="dxy db upgrade"):
                conn.execute(statement.encode())


def test_no_permission(db: str) -> None:
    with connect(db, application_name="t", autocommit=True) as conn:
        conn.execute("create role onlooker")
        try:
            conn.execute("set role onlooker")
            with refused("no permission: permission denied for table data_bars", hint="dxy_reader"):
                conn.execute("select * from public.data_bars")
        finally:
            conn.execute("reset role")
            conn.execute("drop role onlooker")


def test_timeouts_in_words(empty_db: str) -> None:
    with connect(empty_db, application_name="t", autocommit=True) as holder:
        holder.execute("create table t ()")
        with holder.transaction():
            holder.execute("lock table t")
            with connect(empty_db, application_name="t", autocommit=True, lock_timeout=0.1) as waiter:
                with refused("another session holds a lock", hint="DXY_LOCK_TIMEOUT_S"):
                    waiter.execute("select * from t")
                waiter.execute("set statement_timeout = 100")
                with refused("the statement was cancelled", hint="DXY_STATEMENT_TIMEOUT_S"):
                    waiter.execute("select pg_sleep(30)")


def test_a_connection_that_the_server_ends(empty_db: str) -> None:
    with (
        connect(empty_db, application_name="t", autocommit=True) as victim,
        connect(empty_db, application_name="t", autocommit=True) as other,
    ):
        other.execute("select pg_terminate_backend(%s, 5000)", (victim.info.backend_pid,))
        with refused("the server ended the connection"):
            victim.execute("select 1")
        with refused("cannot be used: the connection is closed"):
            victim.execute("select 1")


def test_a_bug_of_ours_is_not_dressed_up(empty_db: str) -> None:
    with connect(empty_db, application_name="t") as conn, pytest.raises(psycopg.errors.SyntaxError), user_errors():
        conn.execute("selekt 1")


@pytest.fixture
def guarded(place: Path) -> Iterator[Callable[[str], str]]:
    """A server that asks for passwords: a function from a password to the URL that uses it. The right one is `open`."""
    (place / "hba").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    (place / "hba").chmod(0o644)
    settings = {"fsync": "off", "shared_buffers": "16MB", "hba_file": str(place / "hba")}
    server = EmbeddedServer(place / "var", settings=settings)
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("create role trader login password 'open'")
    yield lambda password: server.url().replace("postgres@", f"trader{password and ':'}{password}@", 1)
    server.stop()


def test_passwords(guarded: Callable[[str], str]) -> None:
    with connect(guarded("open"), application_name="t") as conn:
        assert conn.info.user == "trader"
    with refused("wrong user or password", hint="DATABASE_URL"):
        connect(guarded("sesame"), application_name="t")
    with refused("the server asks for a password", hint="DATABASE_URL"):
        connect(guarded(""), application_name="t")

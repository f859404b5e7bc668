"""Connections to the market database: the only place that opens one.

Belongs here: what every session must have (a name, UTC, a load budget) and the words for a database's refusals.
Does not belong here: SQL on our tables, schema, starting a server.

A component names the role whose rights it needs (`dxy_reader`, `dxy_writer`), and its session works as that role
wherever the login is a member of it: the embedded server's superuser, a desk's application user. Where the role is not
there, or the schema not yet, the login's own rights are what there is.

Directly connected, the settings travel in the start packet (`options`), so they hold from the first statement.
Behind a transaction pooler a session-wide SET would leak into other clients' work, and a named prepared statement may
meet another server process. There only application_name travels in the start packet, statements are not prepared, and
each transaction sets time zone and budget for itself alone.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Literal, Self, cast

import psycopg
from psycopg import Connection, Cursor, conninfo
from psycopg_pool import ConnectionPool

from dxy_pipeline.db.refusals import explain
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings, redact
from dxy_pipeline.sql import load

APPLICATION = "dxy_pipeline"
CONNECT_TIMEOUT_S = 10
Role = Literal["dxy_reader", "dxy_writer"]


class _PoolerCursor(Cursor[Any]):
    """A cursor whose bare statements get the settings too, where that changes nothing else about them.

    Without autocommit the statement opens a transaction anyway. A read-only connection's statement is wrapped in one.
    A bare statement on any other autocommit connection stays bare: some DDL may not run in a transaction.
    """

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        """As psycopg's."""
        conn = cast("PoolerConnection", self.connection)
        if conn.idle and conn.autocommit and conn.read_only:
            with conn.transaction():
                return super().execute(query, params, prepare=prepare, binary=binary)
        if conn.idle and not conn.autocommit:
            conn.apply_settings()
        return super().execute(query, params, prepare=prepare, binary=binary)


class PoolerConnection(Connection[Any]):
    """A connection through a transaction pooler: session settings are made anew, locally, in each transaction."""

    local_settings: dict[str, str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.local_settings = {}
        self.cursor_factory = _PoolerCursor

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def apply_settings(self) -> None:
        """Set time zone and timeouts for the transaction that is open, or that this opens."""
        if self.local_settings:
            calls = ", ".join(["set_config(%s, %s, true)"] * len(self.local_settings))
            values = [part for setting in self.local_settings.items() for part in setting]
            Cursor(self).execute(f"select {calls}".encode(), values)

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Generator[psycopg.Transaction]:
        """As psycopg's, and the outermost one starts by setting time zone and timeouts for itself only."""
        outermost = self.idle
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost:
                self.apply_settings()
            yield transaction


def connect(
    url: str,
    *,
    application_name: str,
    autocommit: bool = False,
    read_only: bool = False,
    statement_timeout: float | None = None,
    lock_timeout: float | None = None,
    idle_in_transaction_timeout: float | None = None,
    pooler: bool | None = None,
    role: Role | None = None,
) -> Connection[Any]:
    """Open one connection, time zone UTC, named `dxy_pipeline:<application_name>`, with the rights of `role`.

    Timeouts are seconds (0 is none); what is not given comes from the settings. `pooler` None: judged by the settings.
    Raises UserError for a URL that cannot be read, psycopg.OperationalError when the server cannot be reached
    (`user_errors()` puts that into words).
    """
    parameters, local = _parameters(
        url, application_name, read_only, (statement_timeout, lock_timeout, idle_in_transaction_timeout), pooler
    )
    if local is None:
        conn: Connection[Any] = Connection.connect(**parameters, autocommit=autocommit)
    else:
        conn = PoolerConnection.connect(**parameters, autocommit=autocommit)
    _prepare(read_only, local)(conn)
    if role is not None:
        _work_as(conn, role)
    return conn


def pool(
    url: str,
    *,
    application_name: str,
    min_size: int = 1,
    max_size: int = 4,
    autocommit: bool = False,
    read_only: bool = False,
    statement_timeout: float | None = None,
    lock_timeout: float | None = None,
    idle_in_transaction_timeout: float | None = None,
    pooler: bool | None = None,
    wait: float = 30.0,
) -> ConnectionPool[Connection[Any]]:
    """A small pool of such connections, not yet open: use it as `with pool(…) as p, p.connection() as conn:`.

    `wait` is how many seconds `p.connection()` waits for a connection before it raises psycopg_pool.PoolTimeout.
    """
    parameters, local = _parameters(
        url, application_name, read_only, (statement_timeout, lock_timeout, idle_in_transaction_timeout), pooler
    )
    return ConnectionPool(
        kwargs={**parameters, "autocommit": autocommit},
        connection_class=Connection if local is None else PoolerConnection,
        configure=_prepare(read_only, local),
        check=ConnectionPool.check_connection,
        min_size=min_size,
        max_size=max_size,
        open=False,
        timeout=wait,
        name=f"{APPLICATION}:{application_name}",
    )


@contextmanager
def user_errors() -> Generator[None]:
    """Turn the database errors that a user can mend into UserError with one line and a hint; let the others pass."""
    try:
        yield
    except psycopg.Error as error:
        explained = explain(error)
        if explained is None:
            raise
        raise explained from error


def read_url(url: str) -> dict[str, Any]:
    """Return the parts of a PostgreSQL URL or keyword string; `postgresql+driver://` is read as `postgresql://`.

    Raises UserError, which never quotes the text: a URL that cannot be read may hold a password anywhere.
    """
    scheme, separator, rest = url.partition("://")
    plain = f"{scheme.partition('+')[0]}{separator}{rest}"
    try:
        parts = conninfo.conninfo_to_dict(plain)
    except (psycopg.ProgrammingError, UnicodeError):
        raise UserError(
            "the database URL cannot be read",
            hint="it looks like postgresql://user:password@host:5432/dbname; write special characters as %XX",
        ) from None  # not even in the chain of a trace: its text quotes what it could not read
    if not parts:
        raise UserError("the database URL is empty", hint="set DATABASE_URL, or leave it out for the embedded server")
    return parts


def _parameters(
    url: str, component: str, read_only: bool, timeouts: tuple[float | None, ...], pooler: bool | None
) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Return the connection parameters and, behind a pooler, the settings for each transaction (else None)."""
    settings = Settings.from_env()
    defaults = (settings.statement_timeout_s, settings.lock_timeout_s, settings.idle_in_transaction_timeout_s)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    budget = {
        name: str(round((default if given is None else given) * 1000))
        for name, given, default in zip(names, timeouts, defaults, strict=True)
    }
    parts = read_url(url)
    parts["application_name"] = component if component.startswith(APPLICATION) else f"{APPLICATION}:{component}"
    # A dead peer is noticed in a minute, not in the two hours of the operating system.
    for key, value in {"connect_timeout": CONNECT_TIMEOUT_S, "keepalives_idle": 30, "keepalives_interval": 10}.items():
        parts.setdefault(key, value)
    if settings.behind_pooler(url) if pooler is None else pooler:
        return {**parts, "prepare_threshold": None}, {"TimeZone": "UTC", **budget}
    wanted = {**budget, "TimeZone": "UTC"} | ({"default_transaction_read_only": "on"} if read_only else {})
    ours = " ".join(f"-c {name}={value}" for name, value in wanted.items())
    parts["options"] = f"{parts.get('options', '')} {ours}".strip()
    return parts, None


def _prepare(read_only: bool, local: dict[str, str] | None) -> Callable[[Connection[Any]], None]:
    def prepare(conn: Connection[Any]) -> None:
        if read_only:
            conn.read_only = True
        if isinstance(conn, PoolerConnection):
            conn.local_settings = local or {}
        elif conn.info.parameter_status("TimeZone") != "UTC":  # libpq sends the caller's PGTZ after our options
            conn.execute("set session time zone 'UTC'")
            if not conn.autocommit:
                conn.commit()

    return prepare


def _work_as(conn: Connection[Any], role: Role) -> None:
    """Give up every right but those of `role`, where the login may and the schema was granted to it."""
    with conn.transaction(force_rollback=True):
        may = conn.execute(load("queries/may_work_as"), {"role": role}).fetchone()
    if may != (True,):
        return
    if isinstance(conn, PoolerConnection):
        conn.local_settings = {**conn.local_settings, "role": role}
        return
    with suppress(psycopg.errors.InsufficientPrivilege), conn.transaction():  # a membership without SET
        conn.execute("SELECT set_config('role', %s, false)", (role,))


__all__ = ["APPLICATION", "Role", "connect", "pool", "read_url", "redact", "user_errors"]

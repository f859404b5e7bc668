"""A durable server of the benchmark's own, with minutes of six pairs on it, and the stop-watch.

Belongs here: server, data, putting DXY back to nothing, seconds and WAL of one call. Does not belong here: what is
compared with what.

The server is the embedded one as users get it, fsync on. Autovacuum is switched off for the two tables of bars, and
VACUUM and CHECKPOINT are run between measurements instead, so that nothing else works while one is taken.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg import sql

from dxy_pipeline import bar_store
from dxy_pipeline.db import schema, session
from dxy_pipeline.db.embedded import EmbeddedServer

SQL: Final = Path(__file__).parent / "sql"
END: Final = datetime(2024, 1, 1, tzinfo=UTC)
TABLES: Final = ("data_bars", "derived_data_bars")
KEY_INDEX: Final = "data_bars_unique_idx"


@dataclass(frozen=True)
class Sizes:
    """What is measured: `year` is the span that stands for a year (a month in the quick profile)."""

    year: timedelta
    runs: int
    quick: bool

    @property
    def start(self) -> datetime:
        """The first instant of that span; it ends at `END`."""
        return END - self.year

    @property
    def four_years_start(self) -> datetime:
        """The first instant of four times the span."""
        return END - 4 * self.year


FULL: Final = Sizes(timedelta(days=365), runs=3, quick=False)
QUICK: Final = Sizes(timedelta(days=28), runs=3, quick=True)


@dataclass
class Market:
    """One database with FX minutes of [start, END) and an autocommit connection to it."""

    url: str
    conn: psycopg.Connection[Any]
    start: datetime

    def clear(self) -> None:
        """Remove every DXY bar and what is known of it, and leave tables and log as after a quiet hour."""
        self.conn.execute("SET session_replication_role = replica")
        self.conn.execute("DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY'")
        self.conn.execute("TRUNCATE public.derived_data_bars, dxy.touched_range, dxy.bar_revision")
        self.conn.execute("RESET session_replication_role")
        self.settle()

    def settle(self) -> None:
        """Do what autovacuum and the checkpointer would have done by now."""
        settle(self.conn)

    def wal(self) -> int:
        """Return the position of the server's log, in bytes."""
        row = self.conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0]) if row else 0


def keep_autovacuum_out(conn: psycopg.Connection[Any]) -> None:
    """Switch autovacuum off for the two tables of bars: it writes log, too, and works when it likes."""
    for table in TABLES:
        conn.execute(sql.SQL("ALTER TABLE public.{} SET (autovacuum_enabled = off)").format(sql.Identifier(table)))


def settle(conn: psycopg.Connection[Any]) -> None:
    """Do what autovacuum and the checkpointer would have done by now."""
    conn.execute("VACUUM (ANALYZE) public.data_bars, public.derived_data_bars")
    conn.execute("CHECKPOINT")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and bytes of log of one call."""

    seconds: float
    wal: int


def cost(market: Market, call: Callable[[], object]) -> Cost:
    """Measure one call."""
    before, began = market.wal(), time.perf_counter()
    call()
    return Cost(time.perf_counter() - began, market.wal() - before)


def best(costs: Iterable[Cost]) -> Cost:
    """Return the least of several: other people's work on the machine can only add to a cost."""
    found = list(costs)
    return Cost(min(c.seconds for c in found), min(c.wal for c in found))


def statement(name: str) -> LiteralString:
    """Return the text of a SQL file beside this module."""
    return cast("LiteralString", (SQL / f"{name}.sql").read_text(encoding="utf-8"))


@contextmanager
def server() -> Iterator[EmbeddedServer]:
    """Start a server in a directory of its own; stop it and remove the directory."""
    root = Path(tempfile.mkdtemp(prefix="dxy-bench-"))
    root.chmod(0o755)  # as root the server runs as nobody
    running = EmbeddedServer(root)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def market(running: EmbeddedServer, name: str, start: datetime) -> Iterator[Market]:
    """Create the database `name` and fill it with FX minutes of [start, END)."""
    running.ensure_database(name)
    with session.connect(running.url(name), application_name="bench", autocommit=True, statement_timeout=0) as conn:
        schema.upgrade(conn)
        bar_store.mark_created_by(conn, "demo")
        _fill(conn, start)
        keep_autovacuum_out(conn)
        found = Market(running.url(name), conn, start)
        found.settle()
        yield found


def _fill(conn: psycopg.Connection[Any], start: datetime) -> None:
    """Write the FX minutes. The key's index is made after them: a third of the time, and the same index."""
    definition = conn.execute("SELECT pg_get_indexdef(%s::regclass)", (f"public.{KEY_INDEX}",)).fetchone()
    assert definition is not None
    conn.execute(sql.SQL("DROP INDEX public.{}").format(sql.Identifier(KEY_INDEX)))
    conn.execute("SET session_replication_role = replica")
    conn.execute(statement("year"), {"start": start, "end": END})
    conn.execute("RESET session_replication_role")
    conn.execute(definition[0])

"""A live database as the pipeline leaves it, built once; each test gets a copy to break."""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import conninfo, sql

from dxy_pipeline import alerts, bar_store, live_state
from dxy_pipeline.checks.history import DAILY_CHECKS
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.simulated import SimulatedSource
from dxy_pipeline_tests.faults import matrix
from dxy_pipeline_tests.pg_server import Cluster

NOW = datetime(2025, 3, 12, 14, 2, 30, tzinfo=UTC)  # a Wednesday, three days after New York's change of clocks
DAYS = timedelta(days=14)


def fill(conn: psycopg.Connection, start: datetime, end: datetime) -> None:
    """Load the simulated feed of [start, end), derive and roll up: what a running pipeline has at `end`."""
    bar_store.mark_created_by(conn, "demo")
    source = SimulatedSource(FixedClock(end))
    for batch in source.bars(SYMBOLS, start, end):
        bar_store.write_fx(conn, source.name, source.feed, batch)
    derive(conn, start, end)
    alive(conn, end)


def derive(conn: psycopg.Connection, start: datetime, end: datetime) -> None:
    """Derive and roll up as the pipeline does at `end`."""
    bar_store.derive(conn, start, end)
    for timeframe in bar_store.ROLLUP_TIMEFRAMES:
        bar_store.roll_up(conn, timeframe, start, end, end)


def alive(conn: psycopg.Connection, at: datetime) -> None:
    """The signs of life of `at`: fetched until then, monitoring awake, the whole history looked at."""
    live_state.note(conn, "simulated", at)
    alerts.beat(conn, "monitoring", at)
    alerts.beat(conn, DAILY_CHECKS, at)


def conceal(conn: psycopg.Connection, after: datetime) -> None:
    """Put the FX bars from `after` on aside, for `reveal`: a bar of the future is a fault of its own."""
    future = "FROM public.data_bars WHERE canonical_symbol <> 'DXY' AND ts_utc >= %s"
    conn.execute(f"CREATE TABLE public.later AS SELECT * {future}", (after,))
    conn.execute(f"DELETE {future}", (after,))
    conn.execute("DELETE FROM dxy.touched_range")  # what follows from them is derived already


def reveal(conn: psycopg.Connection, until: datetime) -> None:
    """Bring the concealed bars of the minutes before `until`."""
    conn.execute(
        "WITH due AS (DELETE FROM public.later WHERE ts_utc < %s RETURNING *)"
        " INSERT INTO public.data_bars SELECT * FROM due",
        (until,),
    )
    conn.execute("DELETE FROM dxy.touched_range")


def copy_of(server: Cluster, url: str) -> str:
    """Make a copy of a database nobody is connected to; return its URL."""
    name = f"t_{secrets.token_hex(6)}"
    template = str(conninfo.conninfo_to_dict(url)["dbname"])
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return server.url(name)


@pytest.fixture(scope="session")
def live_template(server: Cluster) -> str:
    """URL of the database to copy: a fortnight of minutes up to NOW, everything derived."""
    url = server.create(head=True)
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as conn:
        fill(conn, NOW - DAYS, NOW)
        conn.execute("VACUUM ANALYZE")
    return url


@pytest.fixture
def live(server: Cluster, live_template: str) -> Iterator[psycopg.Connection]:
    """A connection to a fresh copy of the live database."""
    url = copy_of(server, live_template)
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as conn:
        yield conn
    server.drop(url)


@pytest.fixture
def note_fault(record_property: Callable[[str, object], None]) -> Callable[[str, set[str], list[str]], None]:
    """A function that notes for the matrix which checks a fault failed and which causes fired."""
    return lambda name, failed, fired: record_property(matrix.PROPERTY, [name, sorted(failed), fired])

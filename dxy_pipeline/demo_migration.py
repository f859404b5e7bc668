"""`make demo-migration`: the whole migration in under a minute, on legacy rows made for it, with an injected clock.

A desk that has derived DXY into derived_data_bars for three weeks is set up in a database of its own on the embedded
server (made anew each time); then every phase forward, a day of watching in seconds, the success metrics, a rollback
that is shown to be exact, and forward again. Nothing here is needed in production.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from dxy_pipeline import bar_store
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.fx_week import is_open, open_minutes
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.db import schema
from dxy_pipeline.db.embedded import EmbeddedServer, server_for
from dxy_pipeline.db.session import connect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources import ecb
from dxy_pipeline.sources.simulated import SimulatedSource

DATABASE = "dxy_migration_demo"
HISTORY = timedelta(days=14)
WATCHED_MINUTES = 1440
LOOK_EVERY = timedelta(minutes=15)  # the runbook says five; a hole of more than fifteen would begin the window anew
_TABLES = ("data_bars", "derived_data_bars")


@dataclass
class SteppedClock:
    """A clock that stands where it was put."""

    instant: datetime

    def now(self) -> datetime:
        """Return that instant."""
        return self.instant


@dataclass
class Outcome:
    """What the demo showed."""

    phases: list[dict[str, Any]] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    exact: bool = False

    @property
    def healthy(self) -> bool:
        """Whether the rollback was exact and no machine-judged metric failed."""
        return self.exact and all(row["holds"] != "no" for row in self.metrics)


def run(settings: Settings, tell: Callable[[str], None]) -> Outcome:
    """Run the demo; `tell` receives a line per step. Raises UserError when DATABASE_URL points at a real database."""
    if settings.database_url:
        raise UserError("the demo makes its own database", hint="unset DATABASE_URL, then run it again")
    server = server_for(settings, progress=tell)
    server.start()
    url = _fresh(server)
    end = ecb.history_end() + timedelta(minutes=2)
    clock = SteppedClock(_start_of_watch(end))
    outcome = Outcome()
    with connect(url, application_name="demo", autocommit=True, statement_timeout=0) as conn:
        tell("a desk with legacy rows: FX minutes, DXY 1m in derived_data_bars")
        _desk(conn, clock.instant, end)
        before = _content(conn)
        migration = Migration(
            url, clock=clock, actor="demo", scratch_url=server.url, files=settings.data_dir / "migration_demo"
        )
        outcome.plan = migration.plan()
        _phase(outcome, tell, "prepare", lambda: migration.prepare(accept_native=True, reason="demo"))
        _phase(outcome, tell, "dual-write", lambda: migration.dual_write(readers_moved=True, reason="demo"))
        _phase(outcome, tell, "backfill", lambda: migration.backfill(reason="demo"))
        _phase(outcome, tell, "verify", lambda: migration.verify(reason="demo"))
        _phase(outcome, tell, "cutover", lambda: migration.cutover(reason="demo"))
        _phase(outcome, tell, "health window", lambda: _live(conn, migration, clock, end))
        _phase(outcome, tell, "retire", lambda: migration.retire(reason="demo"))
        outcome.metrics = migration.metrics()
        written = _direct(conn)
        _phase(outcome, tell, "rollback", lambda: migration.rollback(reason="demo: show that it is exact"))
        outcome.exact = _content(conn, before=clock_start(end)) == before and written > 0
        _phase(outcome, tell, "forward again", lambda: _again(migration))
    return outcome


def clock_start(end: datetime) -> datetime:
    """The instant at which the demo's cutover happens; rows from then on are written during the migration."""
    return _start_of_watch(end)


def _phase(outcome: Outcome, tell: Callable[[str], None], name: str, work: Callable[[], Any]) -> None:
    tell(name)
    began = time.monotonic()
    result = work()
    shown = {k: v for k, v in result.items() if k not in {"failures", "not restored"}}
    outcome.phases.append({"phase": name, "seconds": round(time.monotonic() - began, 2), "result": shown})


def _fresh(server: EmbeddedServer) -> str:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
    server.ensure_database(DATABASE)
    return server.url(DATABASE)


def _start_of_watch(end: datetime) -> datetime:
    start = end - timedelta(hours=24)
    while open_minutes(start, end) < WATCHED_MINUTES + 10 or not is_open(start):
        start -= timedelta(minutes=5)
    return start


def _desk(conn: psycopg.Connection[Any], now: datetime, end: datetime) -> None:
    """FX minutes up to `end` (those after `now` are the future of the demo's clock), legacy rows up to `now`."""
    schema.upgrade(conn)
    bar_store.mark_created_by(conn, "demo")
    source = SimulatedSource(FixedClock(end))
    for batch in source.bars(SYMBOLS, now - HISTORY, end):
        bar_store.write_fx(conn, source.name, source.feed, batch)
    conn.execute("SELECT public.calc_dxy_range_derived(%s, %s)", (now - HISTORY, now))
    conn.execute(
        "UPDATE public.derived_data_bars SET ingested_at = ts_utc + interval '63 seconds', created_at = ts_utc +"
        " interval '63 seconds', updated_at = ts_utc + interval '63 seconds'"
    )
    conn.execute("ANALYZE")


def _live(conn: psycopg.Connection[Any], migration: Migration, clock: SteppedClock, end: datetime) -> dict[str, Any]:
    """A market day after the cutover: bars arrive, and somebody looks again and again."""
    start, looks = clock.instant, 0
    # In a migration the history is ours from the cutover on; here the day comes in one go, stamped as if by the minute.
    bar_store.derive(conn, start, end)
    conn.execute(
        "UPDATE public.data_bars SET ingested_at = ts_utc + interval '63 seconds'"
        " WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc >= %s",
        (start,),
    )
    bar_store.roll_up(conn, "5m", start - timedelta(hours=1), end, end)
    while clock.instant + LOOK_EVERY <= end:
        clock.instant += LOOK_EVERY
        migration.watch()
        looks += 1
    return {"looks": looks, **migration.status()["health window"]}


def _direct(conn: psycopg.Connection[Any]) -> int:
    """How many minutes were written to data_bars during the migration: a rollback has to keep them."""
    row = conn.execute("SELECT count(*) FROM dxy.migration_direct").fetchone()
    return int(row[0]) if row else 0


def _again(migration: Migration) -> dict[str, Any]:
    migration.prepare(accept_native=True, options={"health_minutes": 0}, reason="demo: again")
    migration.dual_write(readers_moved=True)
    migration.backfill()
    found = migration.verify()
    migration.cutover()
    return {"ok": found["ok"], **migration.retire()}


def _content(conn: psycopg.Connection[Any], *, before: datetime | None = None) -> dict[str, Any]:
    """Hash of every column of both tables; `before`: without the DXY rows from then on."""
    found = {}
    for table in _TABLES:
        row = conn.execute(
            sql.SQL(
                "SELECT count(*), sum(hashtextextended((to_jsonb(t) - 'dxy_retired_by' - 'dxy_retired_updated_at')::text, 0))"
                " FROM {} AS t WHERE %s::timestamptz IS NULL OR t.canonical_symbol <> 'DXY' OR t.ts_utc < %s"
                " AND t.timeframe = '1m'"
            ).format(sql.Identifier("public", table)),
            (before, before),
        ).fetchone()
        found[table] = row
    return found

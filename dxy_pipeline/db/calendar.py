"""The FX calendar in the database, as `core.fx_week` has it."""

from datetime import UTC, datetime

import psycopg

from dxy_pipeline.core import fx_week
from dxy_pipeline.db.functions import digest
from dxy_pipeline.db.shape import Database
from dxy_pipeline.sql import load

FROM, TO = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def todo(conn: psycopg.Connection, db: Database) -> list[tuple[str, str]]:
    """Return what `fill` would do. Reads only."""
    if db.has_digests:
        stored = conn.execute("SELECT d.sha256 FROM dxy.function_digest AS d WHERE d.name = 'fx_session'").fetchone()
        if stored and stored[0] == digest(repr(_sessions())):
            return []
    return [("FX calendar", "rows of our own")]


def fill(conn: psycopg.Connection) -> None:
    """Write the calendar anew."""
    rows = _sessions()
    with conn.transaction():
        conn.execute("DELETE FROM dxy.fx_session")
        with conn.cursor().copy("COPY dxy.fx_session (opens_at, closes_at) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        conn.execute(load("queries/record_function"), {"name": "fx_session", "sha256": digest(repr(rows))})


def _sessions() -> list[tuple[datetime, datetime]]:
    return [(s[0], s[1]) for s in fx_week.sessions(FROM, TO)]

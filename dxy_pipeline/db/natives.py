"""A desk's own DXY minutes in data_bars: how many a backfill would take over, and how many it would leave alone."""

import psycopg
from psycopg import sql

from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.db.shape import BARS, Database
from dxy_pipeline.sql import load


def notes(conn: psycopg.Connection, db: Database) -> list[str]:
    """Return one line about them; none where there are none. Reads only."""
    if BARS not in db.tables:
        return []
    raw = sql.SQL("d.raw" if "raw" in db.tables[BARS].columns else "NULL::jsonb")
    query = sql.SQL(load("queries/count_natives")).format(raw=raw)
    verifiable, unverifiable = conn.execute(query, {"symbols": list(SYMBOLS)}).fetchone() or (0, 0)
    if not verifiable + unverifiable:
        return []
    return [
        f"{verifiable + unverifiable:,} DXY minutes in data_bars are not of this project's making: a backfill of their"
        f" range replaces {verifiable:,} by the index of their six FX bars and leaves {unverifiable:,} that lack one"
    ]

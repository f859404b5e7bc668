"""Reads of stored bars, for metadata and pictures. Every connection is psycopg 3; times are aware UTC, ranges half-open."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from dxy_pipeline.core.index import DXY, SYMBOLS
from dxy_pipeline.sql import load


@dataclass(frozen=True)
class DayFigures:
    """One UTC day of one asset: bars, price range, last close, time of the latest bar, distinct symbols."""

    day: date
    rows: int
    low: float | None
    high: float | None
    last: float | None
    latest: datetime
    symbols: int


def has_bars(conn: psycopg.Connection) -> bool:
    """Return whether the database holds any bar, of whatever symbol."""
    row = conn.execute("SELECT EXISTS (SELECT FROM public.data_bars)").fetchone()
    return bool(row and row[0])


def day_figures(conn: psycopg.Connection, asset: str, start: datetime, end: datetime) -> list[DayFigures]:
    """Return per-day figures of an asset ('fx_1m', 'dxy_1m', 'dxy_5m', 'dxy_1h') over [start, end)."""
    timeframe = asset.rsplit("_", 1)[1]
    values = {
        "symbols": list(SYMBOLS) if asset.startswith("fx") else [DXY],
        "timeframe": timeframe,
        "start": start,
        "end": end,
    }
    query = "queries/day_figures_1m" if timeframe == "1m" else "queries/day_figures_rollup"
    with conn.cursor(row_factory=class_row(DayFigures)) as cur:
        return cur.execute(load(query), values).fetchall()


def malformed_bars(conn: psycopg.Connection, start: datetime, end: datetime, now: datetime) -> dict[str, int]:
    """Count the stored FX minutes of [start, end) that break the contract, by fault; empty when none does.

    What is refused at our own door never gets here: this is what another writer stored (see `checks/malformed.sql`).
    """
    values = {
        "symbols": list(SYMBOLS), "components": list(SYMBOLS), "start": start, "end": end, "until": end, "now": now,
        "ahead_minutes": 1,
    }  # fmt: skip
    statement = sql.SQL(
        "SELECT m.fault, count(*) FROM ({}) AS m GROUP BY m.fault"
        " UNION ALL SELECT 'broken price', count(*) FROM ({}) AS p HAVING count(*) > 0"
    ).format(
        sql.SQL(load("checks/malformed")),
        sql.SQL(load("checks/prices_valid")).format(bars=sql.SQL(load("checks/bars_1m"))),
    )
    return dict(conn.execute(statement, values).fetchall())


def closes(conn: psycopg.Connection, timeframe: str, start: datetime, end: datetime) -> list[float]:
    """Return the DXY closes of [start, end), oldest first."""
    values = {"symbol": DXY, "timeframe": timeframe, "start": start, "end": end}
    query = "queries/source_bars_1m" if timeframe == "1m" else "queries/rollups"
    return [float(row[4]) for row in conn.execute(load(query), values).fetchall()]


def rollup_rows(conn: psycopg.Connection, timeframe: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Return the active DXY bars of `timeframe` over [start, end), oldest first, with their completeness columns."""
    values = {"symbol": DXY, "timeframe": timeframe, "start": start, "end": end}
    with conn.cursor(row_factory=dict_row) as cur:
        return cur.execute(load("queries/rollups"), values).fetchall()

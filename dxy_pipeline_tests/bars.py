"""FX minutes as another writer would put them into data_bars, and what tests ask of the tables afterwards.

Plain SQL on purpose: the bar store is under test, and a desk's own worker knows nothing of it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from dxy_pipeline.core.index import SYMBOLS

MINUTE = timedelta(minutes=1)
T0 = datetime(2024, 6, 12, 8, 0, tzinfo=UTC)  # a Wednesday morning, the market open; four hours before conftest.NOW
RATES: Mapping[str, float] = dict(zip(SYMBOLS, (1.08543, 151.237, 1.26517, 1.36048, 10.54871, 0.90388), strict=True))
PRICE = 104.12282857  # of RATES, by golden/dxy_golden.csv, to 8 decimals

_PUT = """
    INSERT INTO public.data_bars AS d (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap,
        trade_count, is_partial, source, ingested_at)
    SELECT u.symbol, '1m', u.ts, u.close, u.close, u.close, u.close, 1, NULL, 1, false, 'ingest', now()
    FROM unnest(%s::text[], %s::timestamptz[], %s::float8[]) AS u (symbol, ts, close)
    ON CONFLICT (canonical_symbol, timeframe, ts_utc) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close"""


def put(conn: psycopg.Connection, rows: Iterable[tuple[str, datetime, float | None]]) -> None:
    """Upsert (symbol, minute, close) rows in one statement."""
    found = list(rows)
    conn.execute(_PUT, ([r[0] for r in found], [r[1] for r in found], [r[2] for r in found]))


def put_six(
    conn: psycopg.Connection, start: datetime, minutes: int = 1, rates: Mapping[str, float] = RATES, step: float = 0.0
) -> None:
    """Upsert all six pairs for `minutes` minutes from `start`; `step` moves EURUSD a little each minute."""
    put(
        conn,
        (
            (symbol, start + i * MINUTE, rates[symbol] + (step * i if symbol == "EURUSD" else 0))
            for i in range(minutes)
            for symbol in SYMBOLS
        ),
    )


def remove(conn: psycopg.Connection, symbol: str, ts: datetime) -> None:
    """Delete one bar."""
    conn.execute(
        "DELETE FROM public.data_bars WHERE canonical_symbol = %s AND timeframe = '1m' AND ts_utc = %s", (symbol, ts)
    )


def derive(conn: psycopg.Connection, start: datetime, end: datetime, version: int = 1) -> dict[str, Any]:
    """Call calc_dxy_range_1m as the tick factory does: its envelope."""
    return scalar(conn, "SELECT public.calc_dxy_range_1m(%s, %s, %s)", start, end, version)


def roll_up(conn: psycopg.Connection, timeframe: str, start: datetime, end: datetime, now: datetime) -> dict[str, Any]:
    """Call calc_dxy_rollup_range: its envelope."""
    return scalar(conn, "SELECT public.calc_dxy_rollup_range(%s, %s, %s, 1, %s)", timeframe, start, end, now)


def scalar(conn: psycopg.Connection, query: str, *values: object) -> Any:
    """Return the first column of the first row; None when there is none."""
    row = conn.execute(query, values or None).fetchone()  # ty: ignore[no-matching-overload] - tests compose SQL freely
    return row[0] if row else None


def dxy_minutes(conn: psycopg.Connection) -> dict[datetime, float]:
    """Return the stored DXY 1m closes by minute."""
    rows = conn.execute(
        "SELECT ts_utc, close::float8 FROM public.data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
        " ORDER BY ts_utc"
    ).fetchall()
    return {ts.astimezone(UTC): close for ts, close in rows}


def buckets(conn: psycopg.Connection, timeframe: str) -> dict[datetime, dict[str, Any]]:
    """Return the active DXY roll-ups by bucket."""
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cur:
        rows = cur.execute(
            "SELECT ts_utc, open::float8, high::float8, low::float8, close::float8, vol::float8, vwap::float8,"
            " trade_count, is_partial, source_candles, expected_candles, quality_score, source"
            " FROM public.derived_data_bars WHERE canonical_symbol = 'DXY' AND timeframe = %s AND deleted_at IS NULL",
            (timeframe,),
        ).fetchall()
    return {row.pop("ts_utc"): row for row in rows}


_HASH = """
    SELECT md5(coalesce(string_agg(image, E'\\n' ORDER BY image COLLATE "C"), '')) FROM (
        SELECT (to_jsonb(d) - '{id,created_at,updated_at,ingested_at}'::text[])::text FROM public.data_bars AS d
        UNION ALL
        SELECT (to_jsonb(d) - '{id,created_at,updated_at,ingested_at}'::text[])::text
        FROM public.derived_data_bars AS d WHERE d.deleted_at IS NULL
    ) AS rows (image)"""


def table_hash(conn: psycopg.Connection) -> str:
    """Return a hash of both tables' content without ids and clock columns; soft-deleted rows do not count."""
    return scalar(conn, _HASH)


def row_versions(conn: psycopg.Connection) -> list[tuple[str, str]]:
    """Return where every row version lies (ctid, xmin): unchanged exactly when nothing was written."""
    return conn.execute(
        "SELECT d.ctid::text, d.xmin::text FROM public.data_bars AS d"
        " UNION ALL SELECT d.ctid::text, d.xmin::text FROM public.derived_data_bars AS d ORDER BY 1, 2"
    ).fetchall()

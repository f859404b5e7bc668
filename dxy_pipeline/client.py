"""What a desk's applications call: the seed's functions, against whichever database the settings name.

`derive_dxy_for_window` is the tick factory's call, `get_source_bars_1m` the aggregator's, `fetch_1m_bars` the signal
engine's; `final_until` and `bars_as_of` are for backtests and for whoever must not act on bars that may still change.
Each takes an open psycopg connection or opens its own for the call. A naive datetime is taken as UTC.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import dict_row

from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.core.clock import SystemClock
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.db.session import connect
from dxy_pipeline.errors import DxyError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources.protocol import OVERLAP
from dxy_pipeline.sql import load


class DerivationFailed(DxyError):
    """calc_dxy_range_1m answered success:false; the message is its error."""


def derive_dxy_for_window(
    from_ts: datetime, to_ts: datetime, *, derivation_version: int = 1, conn: psycopg.Connection | None = None
) -> dict[str, Any]:
    """Derive DXY 1m bars of [from_ts, to_ts) into data_bars and return the function's envelope.

    Raises DerivationFailed when the envelope says success:false, psycopg errors for what is worth a retry.
    """
    with _session(conn) as session:
        row = session.execute(
            "SELECT public.calc_dxy_range_1m(%s, %s, %s)", (_utc(from_ts), _utc(to_ts), derivation_version)
        ).fetchone()
    envelope = row[0] if row else {}
    if not envelope.get("success", False):
        raise DerivationFailed(f"DXY derivation failed: {envelope.get('error', 'unknown')}")
    return envelope


def get_source_bars_1m(
    symbol: str, from_ts: datetime, to_ts: datetime, *, conn: psycopg.Connection | None = None
) -> list[dict[str, Any]]:
    """Return the 1m bars of one symbol in [from_ts, to_ts) for aggregation, oldest first.

    Keys: ts_utc (aware UTC), open, high, low, close, vol, vwap, trade_count. Reads data_bars only, DXY included.
    """
    with _session(conn) as session, session.cursor(row_factory=dict_row) as cur:
        values = {"symbol": symbol, "start": _utc(from_ts), "end": _utc(to_ts)}
        return [_in_utc(row) for row in cur.execute(load("queries/source_bars_1m"), values)]


def fetch_1m_bars(
    symbols: Sequence[str], from_ts: datetime, to_ts: datetime, *, conn: psycopg.Connection | None = None
) -> list[dict[str, Any]]:
    """Return the 1m bars of several symbols in [from_ts, to_ts), by symbol and time, ingested and synthetic alike.

    Keys: canonical_symbol, ts_utc (aware UTC), open, high, low, close, vol, source.
    """
    with _session(conn) as session, session.cursor(row_factory=dict_row) as cur:
        values = {"symbols": list(symbols), "start": _utc(from_ts), "end": _utc(to_ts)}
        return [_in_utc(row) for row in cur.execute(load("queries/bars_1m"), values)]


def fetch_1m_frame(
    symbols: Sequence[str], from_ts: datetime, to_ts: datetime, *, conn: psycopg.Connection | None = None
) -> pd.DataFrame:
    """Return what `fetch_1m_bars` returns as a frame: index (canonical_symbol, ts_utc), float columns, source."""
    columns = ["canonical_symbol", "ts_utc", "open", "high", "low", "close", "vol", "source"]
    frame = pd.DataFrame(fetch_1m_bars(symbols, from_ts, to_ts, conn=conn), columns=columns)
    prices = ["open", "high", "low", "close", "vol"]
    frame[prices] = frame[prices].astype(float)
    frame["ts_utc"] = pd.to_datetime(frame["ts_utc"], utc=True)
    return frame.set_index(["canonical_symbol", "ts_utc"])


def final_until(
    timeframe: str = "1m", *, now: datetime | None = None, conn: psycopg.Connection | None = None
) -> datetime:
    """Return the watermark of DXY `timeframe` ('1m', '5m', '1h'), aware UTC, a bucket's start.

    Bars that start before it are finished and change only when an input changes again. `now` defaults to the clock.
    """
    values = {"timeframe": timeframe, "width": Timeframe(timeframe).delta, "overlap": OVERLAP}
    with _session(conn) as session:
        asked = {**values, "now": SystemClock().now() if now is None else _utc(now)}
        row = session.execute(load("queries/final_until"), asked).fetchone()
    assert row  # noqa: S101 - a SELECT without FROM has a row
    return row[0].astimezone(UTC)


def bars_as_of(
    timeframe: str, from_ts: datetime, to_ts: datetime, known_at: datetime, *, conn: psycopg.Connection | None = None
) -> list[dict[str, Any]]:
    """Return the DXY bars of [from_ts, to_ts) as they were known at `known_at`, oldest first.

    Keys: ts_utc (aware UTC), open, high, low, close. What was corrected later has its old values, what was retracted
    later is there, what was not derived yet is not.
    """
    values = {"timeframe": Timeframe(timeframe).value, "start": _utc(from_ts), "end": _utc(to_ts)}
    with _session(conn) as session, session.cursor(row_factory=dict_row) as cur:
        return [_in_utc(row) for row in cur.execute(load("queries/bars_as_of"), {**values, "known_at": _utc(known_at)})]


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    """A caller's session may show times in its own zone, where two minutes of a DST change share one face."""
    row["ts_utc"] = row["ts_utc"].astimezone(UTC)
    return row


def _utc(ts: datetime) -> datetime:
    return ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts.astimezone(UTC)


@contextmanager
def _session(conn: psycopg.Connection | None) -> Generator[psycopg.Connection]:
    if conn is not None:
        yield conn
        return
    with connect(market_url(Settings.from_env()), application_name="client") as own:
        yield own

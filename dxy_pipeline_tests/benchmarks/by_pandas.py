"""The same year by pandas: read, pivot, compute, COPY back, as a user would write it, against ours."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import sqlalchemy

from dxy_pipeline.core.index import BASE, COMPONENTS, SYMBOLS
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import END, Market, Sizes, best, cost

READ = """
    SELECT ts_utc, canonical_symbol, close::float8 AS close FROM public.data_bars
    WHERE canonical_symbol = ANY (%(symbols)s) AND timeframe = '1m' AND ts_utc >= %(start)s AND ts_utc < %(end)s
"""
COLUMNS = (
    "canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, is_partial, source,"
    " ingested_at, raw, created_at, updated_at"
)


def measure(market: Market, sizes: Sizes) -> Iterator[Figure]:
    """Yield the figure. Leaves the span derived."""
    span = (market.start, END)
    pandas, ours = [], []
    for _ in range(sizes.runs - 1):
        market.clear()
        pandas.append(cost(market, lambda: derive(market, *span)))
        market.clear()
        ours.append(cost(market, lambda: market.conn.execute("SELECT public.calc_dxy_range_1m(%s, %s)", span)))
    yield Figure("pandas: read, compute, COPY back ÷ ours", best(pandas).seconds / best(ours).seconds, 3.0, least=True)


def derive(market: Market, start: datetime, end: datetime) -> None:
    """Derive DXY 1m in this process; the prices are cast to float8 by the server, which is kind to pandas."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: market.conn, poolclass=sqlalchemy.pool.StaticPool
    )
    with engine.connect() as connection:
        values = {"symbols": list(SYMBOLS), "start": start, "end": end}
        closes = pd.read_sql_query(READ, connection, params=values)  # type: ignore[arg-type]
    wide = closes.pivot(index="ts_utc", columns="canonical_symbol", values="close").dropna()
    logs = sum(c.weight * np.log(wide[c.symbol]) for c in COMPONENTS)
    price = (BASE * np.exp(logs)).round(8)
    raw = {"kind": "dxy", "derivation_version": 1, "components": list(SYMBOLS), "formula_base": BASE}
    now = datetime.now(UTC)
    bars = pd.DataFrame(
        {"canonical_symbol": "DXY", "timeframe": "1m", "ts_utc": price.index, "open": price, "high": price, "low": price,
         "close": price, "vol": 0, "trade_count": 0, "is_partial": False, "source": "synthetic", "ingested_at": now,
         "raw": json.dumps(raw), "created_at": now, "updated_at": now}
    )  # fmt: skip
    text = io.StringIO()
    bars.to_csv(text, index=False, header=False)
    with market.conn.cursor().copy(f"COPY public.data_bars ({COLUMNS}) FROM STDIN (FORMAT csv)") as copy:
        copy.write(text.getvalue())

"""The registry rows of DXY and its six pairs, in whatever columns the desk's registry has."""

import psycopg
from psycopg import sql

from dxy_pipeline.core.index import DXY, SYMBOLS
from dxy_pipeline.db.constants import registry_metadata
from dxy_pipeline.db.shape import REGISTRY, Database

FILLED = frozenset(
    {
        *("canonical_symbol", "provider_ticker", "asset_class", "description", "source", "active", "test_active"),
        *("base_timeframe", "expected_update_seconds", "metadata", "created_at", "updated_at"),
    }
)
DESCRIPTION = f"US Dollar Index - derived from 6 FX pairs ({', '.join(SYMBOLS)})"


def upsert(conn: psycopg.Connection, db: Database, *, data_location: str) -> None:
    """Add the seven symbols where absent and set DXY's description and metadata; a second call writes nothing.

    `migration_date` keeps the day on which the metadata was first written.
    """
    columns = db.tables[REGISTRY].columns
    for symbol in (*SYMBOLS, DXY):
        values = {name: value for name, value in _row(symbol).items() if name in columns}
        if values.get("provider_ticker", "") is None and columns["provider_ticker"].not_null:
            values["provider_ticker"] = symbol
        clocks = [name for name in ("created_at", "updated_at") if name in columns]
        conn.execute(
            sql.SQL("INSERT INTO public.{} ({}) VALUES ({}) ON CONFLICT (canonical_symbol) DO NOTHING").format(
                sql.Identifier(REGISTRY),
                sql.SQL(", ").join(map(sql.Identifier, [*values, *clocks])),
                sql.SQL(", ").join([*map(sql.Placeholder, values), *(sql.SQL("now()") for _ in clocks)]),
            ),
            values,
        )
    touch = sql.SQL(", updated_at = now()") if "updated_at" in columns else sql.SQL("")
    conn.execute(
        sql.SQL(
            "UPDATE public.{} AS r SET description = %(text)s, metadata = coalesce(r.metadata, '{{}}') || w.metadata"
            " || jsonb_build_object('migration_date',"
            " coalesce(r.metadata -> 'migration_date', to_jsonb((now() AT TIME ZONE 'UTC')::date))){}"
            " FROM (SELECT %(metadata)s::jsonb AS metadata) AS w WHERE r.canonical_symbol = %(symbol)s"
            " AND (r.description IS DISTINCT FROM %(text)s OR (r.metadata @> w.metadata) IS NOT TRUE"
            " OR NOT r.metadata ? 'migration_date')"
        ).format(sql.Identifier(REGISTRY), touch),
        {"text": DESCRIPTION, "metadata": registry_metadata(data_location), "symbol": DXY},
    )


def _row(symbol: str) -> dict[str, object]:
    is_index = symbol == DXY
    return {
        "canonical_symbol": symbol,
        "provider_ticker": None if is_index else f"C:{symbol}",
        "asset_class": "currency_index" if is_index else "fx",
        "description": DESCRIPTION if is_index else f"{symbol[:3]}/{symbol[3:]} spot",
        "source": "synthetic" if is_index else "massive_api",
        "active": True,
        "test_active": True,
        "base_timeframe": "1m",
        "expected_update_seconds": 60,
        "metadata": "{}",
    }

"""The registry row of DXY, in whatever columns the desk's registry has; its six pairs where they have to be there.

A registry that we make ourselves holds all seven. In a desk's own, a pair is added only where a foreign key from
data_bars demands it, and not as active: what the desk ingests is its own decision.
"""

import json
from typing import Any

import psycopg
from psycopg import sql

from dxy_pipeline.core.index import DXY, SYMBOLS
from dxy_pipeline.db.constants import registry_metadata
from dxy_pipeline.db.shape import BARS, REGISTRY, Database
from dxy_pipeline.sql import load

FILLED = frozenset(
    {
        *("canonical_symbol", "provider_ticker", "asset_class", "description", "source", "active", "test_active"),
        *("base_timeframe", "expected_update_seconds", "metadata", "created_at", "updated_at"),
    }
)
DESCRIPTION = f"US Dollar Index - derived from 6 FX pairs ({', '.join(SYMBOLS)})"


def todo(conn: psycopg.Connection, db: Database, *, data_location: str) -> list[tuple[str, str]]:
    """Return what `upsert` would do: rows that it adds, and what it sets in DXY's. Reads only."""
    if not db.tables:
        return [(f"registry: add {', '.join((*SYMBOLS, DXY))}", "rows of a table of our own")]
    missing = _missing(conn, db)
    found = [(f"registry: add {', '.join(missing)}", f"{len(missing)} row(s) of {REGISTRY}")] if missing else []
    if DXY in missing:
        return found
    row = _rows(conn)[DXY]
    text, metadata, wanted = (
        row.get("description"),
        row.get("metadata") or {},
        json.loads(registry_metadata(data_location)),
    )
    sets = []
    if text != DESCRIPTION:
        sets.append("the description" + (f" (now {text!r})" if text else ""))
    if "migration_date" not in metadata or any(metadata.get(name) != value for name, value in wanted.items()):
        sets.append("our keys of the metadata")
    if sets:
        found.append((f"registry: set {' and '.join(sets)} of DXY", "one row; what else is in it stays"))
    return found


def upsert(conn: psycopg.Connection, db: Database, *, data_location: str) -> None:
    """Add the symbols that have to be there and set DXY's description and metadata; a second call writes nothing.

    `migration_date` keeps the day on which the metadata was first written.
    """
    columns = db.tables[REGISTRY].columns
    for symbol in _missing(conn, db):
        values = {name: value for name, value in _row(symbol, ours=db.made_by_us).items() if name in columns}
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


def _missing(conn: psycopg.Connection, db: Database) -> list[str]:
    """Return the symbols that have to be there and are not."""
    demanded = db.made_by_us or (BARS in db.tables and conn.execute(load("queries/registry_is_referenced")).fetchone())
    present = _rows(conn)
    return [symbol for symbol in ((*SYMBOLS, DXY) if demanded else (DXY,)) if symbol not in present]


def _rows(conn: psycopg.Connection) -> dict[str, dict[str, Any]]:
    rows = conn.execute(
        "SELECT r.canonical_symbol, to_jsonb(r) FROM public.core_asset_registry_all AS r WHERE r.canonical_symbol = ANY (%s)",
        ([*SYMBOLS, DXY],),
    )
    return dict(rows.fetchall())


def _row(symbol: str, *, ours: bool) -> dict[str, object]:
    is_index = symbol == DXY
    return {
        "canonical_symbol": symbol,
        "provider_ticker": None if is_index else f"C:{symbol}",
        "asset_class": "currency_index" if is_index else "fx",
        "description": DESCRIPTION if is_index else f"{symbol[:3]}/{symbol[3:]} spot",
        "source": "synthetic" if is_index else "massive_api",
        "active": ours or is_index,
        "test_active": ours or is_index,
        "base_timeframe": "1m",
        "expected_update_seconds": 60,
        "metadata": "{}",
    }

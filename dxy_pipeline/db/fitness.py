"""Can the desk's three tables hold our bars? What they have to have, and why one cannot be served.

Looks only. What is lacking and can be added online is added by `widen.py`.
"""

from collections.abc import Iterator

import psycopg
from psycopg import sql

from dxy_pipeline.db import registry
from dxy_pipeline.db.shape import BARS, DERIVED, KEY, REGISTRY, Check, Database, Table
from dxy_pipeline.sql import load, trusted

WANTED_COLUMNS: dict[str, dict[str, str]] = {
    BARS: {
        "raw": "jsonb DEFAULT '{}'",
        "created_at": "timestamptz DEFAULT now()",
        "updated_at": "timestamptz DEFAULT now()",
    },
    DERIVED: {
        "source": "text DEFAULT 'agg'",
        "source_timeframe": "text",
        "source_candles": "integer",
        "expected_candles": "integer",
        "quality_score": "integer",
        "derivation_version": "integer NOT NULL DEFAULT 1",
        "ingested_at": "timestamptz DEFAULT now()",
        "raw": "jsonb DEFAULT '{}'",
        "deleted_at": "timestamptz",
        "created_at": "timestamptz DEFAULT now()",
        "updated_at": "timestamptz DEFAULT now()",
    },
    REGISTRY: {"description": "text", "metadata": "jsonb NOT NULL DEFAULT '{}'"},
}
_PRICES = ("open", "high", "low", "close")
_TEXT = ("text", "character varying")
_WHOLE = ("integer", "bigint", "smallint")
_REAL = ("double precision", "numeric")
# What each column may be, by the beginning of its type's name; prices are looked at more closely.
_TYPES: dict[str, tuple[str, ...]] = {
    "canonical_symbol": _TEXT,
    "timeframe": _TEXT,
    "source": _TEXT,
    "source_timeframe": _TEXT,
    "description": _TEXT,
    "ts_utc": ("timestamp with time zone",),
    "ingested_at": ("timestamp with time zone",),
    "created_at": ("timestamp with time zone",),
    "updated_at": ("timestamp with time zone",),
    "deleted_at": ("timestamp with time zone",),
    "vol": (*_REAL, *_WHOLE),
    "vwap": _REAL,
    "trade_count": (*_WHOLE, *_REAL),
    "source_candles": (*_WHOLE, *_REAL),
    "expected_candles": (*_WHOLE, *_REAL),
    "quality_score": (*_WHOLE, *_REAL),
    "derivation_version": (*_WHOLE, *_REAL),
    "is_partial": ("boolean",),
    "raw": ("jsonb",),
    "metadata": ("jsonb",),
}
_BAR_COLUMNS = (*KEY, *_PRICES, "vol", "vwap", "trade_count", "is_partial", "source", "ingested_at")
_NEEDED: dict[str, tuple[str, ...]] = {
    BARS: _BAR_COLUMNS,
    DERIVED: (*KEY, *_PRICES, "vol", "vwap", "trade_count", "is_partial"),
    REGISTRY: ("canonical_symbol",),
}
# What our rows put into columns that a CHECK may read.
_SAMPLE: dict[str, dict[str, str]] = {
    BARS: {"canonical_symbol": "'DXY'", "timeframe": "'1m'", "source": "'synthetic'", "is_partial": "false"},
    DERIVED: {
        "canonical_symbol": "'DXY'",
        "timeframe": "'{timeframe}'",
        "source": "'agg'",
        "is_partial": "false",
        "source_timeframe": "'1m'",
        "source_candles": "5",
        "expected_candles": "5",
        "quality_score": "2",
        "derivation_version": "1",
    },
}
_SAMPLE_ANY = {
    "open": "100",
    "high": "100",
    "low": "100",
    "close": "100",
    "vol": "0",
    "trade_count": "0",
    "ts_utc": "now()",
    "ingested_at": "now()",
    "created_at": "now()",
    "updated_at": "now()",
    "raw": "'{}'",
}


def refusals(conn: psycopg.Connection, db: Database) -> list[str]:
    """Why this database cannot be served, each with the column or constraint by name; empty when it can."""
    found: list[str] = []
    for name, needed in _NEEDED.items():
        table = db.tables.get(name)
        if table is None:
            found.append(f"table public.{name} is missing while others of the three exist")
            continue
        found += [f"public.{name} is not an ordinary table (relkind {table.kind})"] if table.kind != "r" else []
        found += [f"public.{name} lacks the column {column}" for column in needed if column not in table.columns]
        found += _unfit_columns(table)
    found += _unfit_owners(conn, db)
    if not found:
        found += [f"public.{t.name}: {reason}" for t in db.tables.values() for reason in _unfit_checks(conn, t)]
        found += _unfit_keys(conn, db)
    return found


def _unfit_columns(table: Table) -> Iterator[str]:
    for name, column in table.columns.items():
        if name in _PRICES and not _holds_prices(column.type):
            yield (
                f"public.{table.name}.{name} is {column.type}; "
                "needed: double precision or numeric with 8 decimals and 4 digits before them"
            )
        elif name in _TYPES and not column.type.startswith(_TYPES[name]):
            yield f"public.{table.name}.{name} is {column.type}; needed: {' or '.join(_TYPES[name])}"
    filled = {*_BAR_COLUMNS, *WANTED_COLUMNS[table.name]} if table.name != REGISTRY else registry.FILLED
    for column in table.columns.values():
        if column.not_null and not column.has_default and column.name not in filled:
            yield f"public.{table.name}.{column.name} is NOT NULL without a default and nothing of ours fills it"


def _holds_prices(kind: str) -> bool:
    if kind in _REAL:
        return True
    digits, _, decimals = kind.removeprefix("numeric(").rstrip(")").partition(",")
    return (
        kind.startswith("numeric(") and decimals.isdigit() and int(decimals) >= 8 and int(digits) >= int(decimals) + 4
    )


def _unfit_owners(conn: psycopg.Connection, db: Database) -> Iterator[str]:
    """Our functions run as the owner of data_bars: the owner has to get at the other tables, past row security too."""
    bars = db.tables.get(BARS)
    for table in db.tables.values():
        if table.owner_is_held_up:
            yield f"public.{table.name} forces row level security on its owner {table.owner}, as whom our functions run"
        if bars is not None and table.owner != bars.owner:
            row = conn.execute("SELECT pg_has_role(%s, %s, 'USAGE') AS may", (bars.owner, table.owner)).fetchone()
            if not (row and row[0]):
                yield (
                    f"public.{table.name} belongs to {table.owner} and data_bars to {bars.owner}, "
                    f"who has none of its rights; give both one owner"
                )


def accepts(conn: psycopg.Connection, table: Table, check: Check) -> bool:
    """Would rows of ours pass this CHECK? Evaluated by the server on a sample row of each timeframe."""
    timeframes = ("5m", "1h") if table.name == DERIVED else ("1m",)
    return all(_accepts_row(conn, table, check, timeframe) for timeframe in timeframes)


def _accepts_row(conn: psycopg.Connection, table: Table, check: Check, timeframe: str) -> bool:
    sample = {name: value.format(timeframe=timeframe) for name, value in _SAMPLE[table.name].items()} | _SAMPLE_ANY
    fields = sql.SQL(", ").join(
        sql.SQL("{}::{} AS {}").format(
            trusted(sample.get(c.name, "NULL")),
            trusted(c.type),
            sql.Identifier(c.name),
        )
        for c in table.columns.values()
    )
    query = sql.SQL("SELECT ({}) IS NOT FALSE FROM (SELECT {}) AS sample").format(
        trusted(check.expression),
        fields,
    )
    row = conn.execute(query).fetchone()
    return bool(row and next(iter(row if isinstance(row, tuple) else row.values())))


def _unfit_checks(conn: psycopg.Connection, table: Table) -> Iterator[str]:
    if table.name not in _SAMPLE:
        return
    for check in table.checks:
        if table.name == BARS and check.columns == ("source",):
            continue
        if not accepts(conn, table, check):
            yield f"the CHECK {check.name} refuses our rows: {check.expression}"


def _unfit_keys(conn: psycopg.Connection, db: Database) -> Iterator[str]:
    bars = db.tables[BARS]
    if bars.key_index() is None:
        for index in bars.indexes:
            if index.name == "data_bars_unique_idx" and (index.valid or index.columns != KEY):
                yield f"the index data_bars_unique_idx is not what its name says: {index.definition}"
        elsewhere = conn.execute("SELECT to_regclass('public.data_bars_unique_idx') AS name").fetchone()
        if elsewhere and any(elsewhere) and all(index.name != "data_bars_unique_idx" for index in bars.indexes):
            yield "the name data_bars_unique_idx is taken by an object that is no index of data_bars"
        if conn.execute(load("queries/has_duplicate_keys")).fetchone():
            yield "public.data_bars holds two rows with one (canonical_symbol, timeframe, ts_utc)"
    if db.tables[DERIVED].key_index(active_only=True) is None:
        yield "public.derived_data_bars has no valid unique index on its key (whole, or where deleted_at IS NULL)"
    if not any(i.columns == ("canonical_symbol",) and i.unique and i.valid for i in db.tables[REGISTRY].indexes):
        yield "public.core_asset_registry_all has no valid unique index on canonical_symbol"

"""Do the rows of each table fit into the other, and what writes will not? Looks only, on the desk's tables as they are."""

from collections.abc import Iterator
from typing import Any, Final

import psycopg

from dxy_pipeline.db.shape import BARS, DERIVED, Database
from dxy_pipeline.migration import mapping
from dxy_pipeline.sql import trusted

_LIVE: Final = {
    BARS: "public.data_bars AS x WHERE x.canonical_symbol = 'DXY' AND x.timeframe = '1m'",
    DERIVED: "public.derived_data_bars AS x WHERE x.canonical_symbol = 'DXY' AND x.timeframe = '1m' AND x.deleted_at IS NULL",
}
# What the backfill puts into columns of data_bars that it does not take from legacy as they are.
_PUT: Final = {
    "canonical_symbol": "'DXY'",
    "timeframe": "'1m'",
    "ts_utc": "x.ts_utc",
    "is_partial": "coalesce(x.is_partial, false)",
    "source": "'synthetic'",
    "ingested_at": "now()",
    "created_at": "now()",
    "updated_at": "now()",
    "raw": '\'{"kind": "dxy"}\'',
    "trade_count": "x.trade_count",
}


def unfit(conn: psycopg.Connection[Any], db: Database) -> list[str]:
    """What stands in the way of holding each row in both tables, each in one line."""
    found = [*_unhashable(conn, db), *out_of_range(conn, db)]
    return found or [*_nulls(conn, db), *_checks(conn, db)]  # a value out of range cannot be cast, so not be checked


def clashes(db: Database) -> list[str]:
    """Writes of an application that one table takes and the other does not, and what the dual write does with them."""
    return [
        *(f"data_bars.{name} may be NULL, derived_data_bars.{name} may not: legacy gets a stand-in, and back it is NULL"
          for name in mapping.unmatched(db)),
        *(f"derived_data_bars.{name} may be NULL, data_bars.{name} may not: the dual write refuses a legacy row with NULL"
          for name in mapping.refused(db)),
        *(f"derived_data_bars.{name} is {db.tables[DERIVED].columns[name].type}, data_bars.{name}"
          f" {db.tables[BARS].columns[name].type}: a value of {limit} or more is refused in the dual write"
          for name, limit in _limits(db).items()),
    ]  # fmt: skip


def _limits(db: Database) -> dict[str, str]:
    """The measures that one table holds only up to a limit which the other has not."""
    found = {}
    for name in mapping.MEASURES:
        limits = {mapping.limit(db.tables[table].columns[name].type) for table in (BARS, DERIVED)}
        if len(limits) > 1:
            found[name] = min(filter(None, limits), key=float)
    return found


def _count(conn: psycopg.Connection[Any], table: str, condition: str) -> int:
    # names are the catalog's
    row = conn.execute(trusted(f"SELECT count(*) FROM {_LIVE[table]} AND ({condition})")).fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def out_of_range(conn: psycopg.Connection[Any], db: Database) -> Iterator[str]:
    """Rows with a value that the other table's type cannot hold at all."""
    for name, limit in _limits(db).items():
        value = f"x.{name}::double precision"
        for table in (DERIVED, BARS):
            if rows := _count(conn, table, f"abs({value}) >= {limit} AND {value} <> 'NaN'"):
                yield f"{rows} rows of {table} have a {name} of {limit} or more, which the other table cannot hold"


def _nulls(conn: psycopg.Connection[Any], db: Database) -> Iterator[str]:
    for name in mapping.refused(db):
        if rows := _count(conn, DERIVED, f"x.{name} IS NULL"):
            yield f"{rows} legacy rows have no {name}, and data_bars.{name} is NOT NULL"


def _checks(conn: psycopg.Connection[Any], db: Database) -> Iterator[str]:
    """CHECKs of data_bars that legacy's rows would break; the one on the source alone is widened by prepare."""
    forms = mapping.normal_forms(db)
    put = {**_PUT, **{name: f"x.{name}::{form}" for name, form in forms.items()}}
    for check in db.tables[BARS].checks:
        if check.columns == ("source",):
            continue
        columns = db.tables[BARS].columns.values()
        row = ", ".join(f'({put.get(c.name, "NULL")})::{c.type} AS "{c.name}"' for c in columns)
        query = f"SELECT count(*) FROM (SELECT {row} FROM {_LIVE[DERIVED]}) AS data_bars WHERE ({check.expression}) IS FALSE"  # noqa: S608
        found = conn.execute(trusted(query)).fetchone()
        if found and found[0]:
            yield f"{found[0]} legacy rows break data_bars' CHECK {check.name}: {check.expression}"


def _unhashable(conn: psycopg.Connection[Any], db: Database) -> Iterator[str]:
    """Columns of data_bars whose type PostgreSQL cannot hash: a row's content could not be compared."""
    for column in db.tables[BARS].columns.values():
        try:
            with conn.transaction():
                conn.execute(trusted(f"SELECT hash_record_extended(ROW(NULL::{column.type}), 0)"))
        except psycopg.errors.UndefinedFunction:
            yield f"data_bars.{column.name} is {column.type}, which has no hash: change its type (json: to jsonb)"

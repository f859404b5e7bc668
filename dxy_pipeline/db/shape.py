"""What a database is: its three tables, read from pg_catalog, never assumed.

`inspect` looks and changes nothing; it works on a read-only connection. What follows from the facts is in `schema.py`
(plan, upgrade) and `widen.py` (DDL on the desk's tables).
"""

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dxy_pipeline.sql import load

BARS, DERIVED, REGISTRY = "data_bars", "derived_data_bars", "core_asset_registry_all"
TABLES = (BARS, DERIVED, REGISTRY)
KEY = ("canonical_symbol", "timeframe", "ts_utc")


@dataclass(frozen=True)
class Column:
    """One column: its type as PostgreSQL spells it, whether NULL is refused, whether it fills itself."""

    name: str
    type: str
    not_null: bool
    has_default: bool


@dataclass(frozen=True)
class Check:
    """One CHECK constraint: its name, its expression, the columns it reads."""

    name: str
    expression: str
    columns: tuple[str, ...]
    validated: bool


@dataclass(frozen=True)
class Index:
    """One index: definition, and what makes it fit to carry the key."""

    name: str
    columns: tuple[str, ...]
    unique: bool
    valid: bool
    immediate: bool
    predicate: str | None
    definition: str


@dataclass(frozen=True)
class Table:
    """One table of the desk as it stands."""

    name: str
    kind: str
    owner: str
    can_alter: bool
    columns: dict[str, Column]
    checks: tuple[Check, ...]
    indexes: tuple[Index, ...]
    row_security: bool
    estimated_rows: int
    owner_is_held_up: bool = False
    policies: frozenset[str] = frozenset()

    def key_index(self, *, active_only: bool = False) -> Index | None:
        """The valid unique index on the key; with `active_only` also one that covers only rows not soft-deleted.

        In data_bars the columns stand in the key's order, which our reads go along; elsewhere any order will do.
        """
        for index in self.indexes:
            if (
                (index.columns == KEY or (active_only and sorted(index.columns) == sorted(KEY)))
                and index.unique
                and index.valid
                and index.immediate
                and (index.predicate is None or (active_only and index.predicate == "(deleted_at IS NULL)"))
            ):
                return index
        return None


@dataclass(frozen=True)
class Database:
    """The facts about one database that plan and upgrade follow from."""

    name: str
    server_version: int
    user: str
    tables: dict[str, Table]
    has_own_schema: bool
    made_by_us: bool
    revision: str | None
    migration_state: str | None
    legacy_active_rows: int
    functions: frozenset[str] = field(default_factory=frozenset)
    has_digests: bool = False
    can_create_schema: bool = True
    can_create_function: bool = True
    can_create_role: bool = False
    roles: frozenset[str] = field(default_factory=frozenset)

    @property
    def shape(self) -> str:
        """E (empty, or made by us), S (the seed's tables) or P (production-like, ids)."""
        if self.made_by_us or not self.tables:
            return "E"
        bars = self.tables.get(BARS)
        return "P" if bars is not None and "id" in bars.columns else "S"


def inspect(conn: psycopg.Connection) -> Database:
    """Read the facts. Needs no privilege beyond connecting; raises psycopg errors when the connection fails."""
    with conn.cursor(row_factory=dict_row) as cur:
        basics = cur.execute(load("queries/inspect_database")).fetchone() or {}
        tables = {name: table for name in TABLES if (table := _table(cur, name))}
        own = basics["has_own_schema"]
        revision = _scalar(cur, "queries/inspect_revision") if basics["has_revision"] else None
        made = _scalar(cur, "queries/inspect_origin") if basics["has_control"] else None
        state = _scalar(cur, "queries/inspect_state") if basics["has_control"] else None
        legacy = 0
        if DERIVED in tables and {"deleted_at", *KEY} <= tables[DERIVED].columns.keys():
            legacy = int(_scalar(cur, "queries/count_legacy_active") or 0)
    return Database(
        name=basics["name"],
        server_version=basics["server_version"],
        user=basics["user"],
        tables=tables,
        has_own_schema=own,
        made_by_us=bool(made),
        revision=revision,
        migration_state=state,
        legacy_active_rows=legacy,
        functions=frozenset(basics["functions"]),
        has_digests=basics["has_digests"],
        can_create_schema=basics["can_create_schema"],
        can_create_function=basics["can_create_function"],
        can_create_role=basics["can_create_role"],
        roles=frozenset(basics["roles"]),
    )


def _scalar(cur: psycopg.Cursor[dict[str, Any]], query: str) -> Any:
    row = cur.execute(load(query)).fetchone()
    return next(iter(row.values())) if row else None


def _table(cur: psycopg.Cursor[dict[str, Any]], name: str) -> Table | None:
    row = cur.execute(load("queries/inspect_table"), {"name": name}).fetchone()
    if row is None:
        return None
    oid = {"oid": row["oid"]}
    columns = cur.execute(load("queries/inspect_columns"), oid).fetchall()
    checks = cur.execute(load("queries/inspect_checks"), oid).fetchall()
    indexes = cur.execute(load("queries/inspect_indexes"), oid).fetchall()
    return Table(
        name=name,
        kind=row["kind"],
        owner=row["owner"],
        can_alter=row["can_alter"],
        columns={c["name"]: Column(**c) for c in columns},
        checks=tuple(Check(c["name"], c["expression"], tuple(c["columns"]), c["validated"]) for c in checks),
        indexes=tuple(_index(i) for i in indexes),
        row_security=row["row_security"],
        estimated_rows=row["estimated_rows"],
        owner_is_held_up=row["owner_is_held_up"],
        policies=frozenset(row["policies"]),
    )


def _index(row: dict[str, Any]) -> Index:
    flags = {name: bool(row[name]) for name in ("unique", "valid", "immediate")}
    return Index(row["name"], tuple(row["columns"]), **flags, predicate=row["predicate"], definition=row["definition"])

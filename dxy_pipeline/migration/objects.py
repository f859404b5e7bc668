"""What the migration puts into the database: mapping views, functions, triggers; and whether they are all there."""

import hashlib
import re
from typing import Any, Final

import psycopg

from dxy_pipeline.db import contract, roles
from dxy_pipeline.db.shape import BARS, DERIVED, Database, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration.ledger import constants
from dxy_pipeline.migration.ledger import rows as run
from dxy_pipeline.sql import render, trusted

MEASURES: Final = ("open", "high", "low", "close", "vol", "vwap")
FUNCTION_FILES: Final = ("functions", "batches")
DIRECTIONS: Final = {DERIVED: "to_bars", BARS: "to_legacy"}
_MIRROR: Final = ("aaa_dxy_lock_day", "dxy_mirror_insert", "dxy_mirror_update", "dxy_mirror_delete")
_NAMES: Final = (*_MIRROR, "dxy_mirror_truncate")
KEEP: Final = "zzz_dxy_keep_updated_at"
TRIGGERS: Final = frozenset({f"{t}.{n}" for t in DIRECTIONS for n in _NAMES} | {f"{DERIVED}.{KEEP}"})
RETIRED_CHECK: Final = "dxy_1m_moved_to_data_bars"
TAG_COLUMNS: Final = {"dxy_retired_by": "bigint", "dxy_retired_updated_at": "timestamptz"}


def common_types(db: Database) -> dict[str, str]:
    """For each price column the type in which both tables are compared: the coarser one of the two."""
    found = {}
    for name in MEASURES:
        legacy, target = (db.tables[t].columns[name].type for t in (DERIVED, BARS))
        found[name] = _coarser(legacy, target)
    return found


def _coarser(one: str, other: str) -> str:
    if one == other:
        return one
    scales = {t: int(t.rstrip(")").split(",")[1]) for t in (one, other) if t.startswith("numeric(") and "," in t}
    if scales:
        return min(scales, key=lambda t: scales[t])
    return "double precision"


def deploy(conn: psycopg.Connection[Any], db: Database) -> None:
    """Create or replace views and functions; a file whose text is the deployed one is left alone."""
    types = common_types(db)
    made: list[str] = []
    for name in ("images", *FUNCTION_FILES):
        text = render(f"migration/{name}", {**constants(), **types})
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = f"migration/{name}"
        row = conn.execute("SELECT d.sha256 FROM dxy.function_digest AS d WHERE d.name = %s", (key,)).fetchone()
        if row and row[0] == digest:
            continue
        with conn.transaction():
            conn.execute("SELECT set_config('lock_timeout', '2s', true)")
            if name == "images":  # a view's columns cannot change their type in place
                conn.execute(
                    "DROP VIEW IF EXISTS dxy.dxy_1m_active, dxy.legacy_image, dxy.legacy_source, dxy.bars_image"
                )
            conn.execute(trusted(text))
            made += re.findall(r"FUNCTION (dxy\.\w+)\(", text)
            conn.execute(
                "INSERT INTO dxy.function_digest AS d (name, sha256) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, deployed_at = now()",
                (key, digest),
            )
    conn.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dxy FROM PUBLIC")
    roles.apply(conn, inspect(conn))
    contract.record_migration(conn, made)


def withdraw(conn: psycopg.Connection[Any]) -> None:
    """Remove the undo images and the views (a rollback's last step; the functions stay, nothing calls them)."""
    conn.execute("DROP VIEW IF EXISTS dxy.legacy_image, dxy.legacy_source, dxy.bars_image")
    conn.execute("DROP TABLE IF EXISTS dxy.migration_undo")
    conn.execute("DELETE FROM dxy.function_digest WHERE name = 'migration/images'")


def attach(conn: psycopg.Connection[Any]) -> None:
    """Create all triggers of the dual write, in the caller's transaction; writers wait for an instant, readers not."""
    conn.execute("LOCK TABLE public.derived_data_bars, public.data_bars IN SHARE ROW EXCLUSIVE MODE")
    for table, direction in DIRECTIONS.items():
        conn.execute(trusted(render("migration/attach", {"table": table, "direction": direction})))
    conn.execute(trusted(render("migration/attach_keep", {})))


def detach(conn: psycopg.Connection[Any]) -> None:
    """Drop all triggers, in the caller's transaction."""
    for table in DIRECTIONS:
        conn.execute(trusted(render("migration/detach", {"table": table})))


def missing_triggers(conn: psycopg.Connection[Any]) -> list[str]:
    """Triggers of the dual write that are not there, or not enabled ALWAYS, by name."""
    return sorted(TRIGGERS - {row["name"] for row in run(conn, "triggers")})


def require_triggers(conn: psycopg.Connection[Any]) -> None:
    """Raise UserError when the dual write has a hole."""
    if missing := missing_triggers(conn):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"the trigger {missing[0]}{more} is missing or disabled: writes may have passed the dual write by",
            hint="run `dxy migrate dual-write --readers-moved` to restore it, then `dxy migrate verify --repair`"
            " and `dxy migrate verify`",
        )


def late_trigger(conn: psycopg.Connection[Any]) -> str | None:
    """A BEFORE UPDATE row trigger of the desk on legacy that would run after ours and undo `updated_at` again."""
    row = conn.execute(
        "SELECT t.tgname::text FROM pg_catalog.pg_trigger AS t"
        " WHERE t.tgrelid = 'public.derived_data_bars'::regclass AND NOT t.tgisinternal AND t.tgtype & 19 = 19"
        ' AND t.tgname::text COLLATE "C" > %s ORDER BY 1 DESC LIMIT 1',
        (KEEP,),
    ).fetchone()
    return row[0] if row else None

"""What the migration puts into the database: mapping views, functions, triggers; and whether they are all there."""

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

import psycopg

from dxy_pipeline.db import contract, roles
from dxy_pipeline.db.shape import BARS, DERIVED, Database, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import mapping
from dxy_pipeline.migration.ledger import constants
from dxy_pipeline.migration.ledger import rows as run
from dxy_pipeline.sql import render, trusted

FUNCTION_FILES: Final = ("functions", "batches", "repair")
# table -> the function that its statement triggers call
MIRRORS: Final = {DERIVED: "mirror_legacy_statement", BARS: "mirror_bars_statement"}
_MIRROR: Final = ("aaa_dxy_lock_day", "dxy_mirror_insert", "dxy_mirror_update", "dxy_mirror_delete")
_NAMES: Final = (*_MIRROR, "dxy_mirror_truncate")
KEEP: Final = "zzz_dxy_keep_updated_at"
CLOSED: Final = "aaa_dxy_closed"
TRIGGERS: Final = frozenset({f"{t}.{n}" for t in MIRRORS for n in _NAMES} | {f"{DERIVED}.{KEEP}"})
RETIRED_CHECK: Final = "dxy_1m_moved_to_data_bars"
TAG_COLUMNS: Final = {"dxy_retired_by": "bigint", "dxy_retired_updated_at": "timestamptz"}
TAG_INDEX: Final = "dxy_retired_rows"
_VIEWS: Final = (
    "dxy.legacy_held, dxy.legacy_image, dxy.legacy_source, dxy.legacy_mapped, dxy.bars_image, dxy.bars_source"
)


def deploy(conn: psycopg.Connection[Any], db: Database, guard: Callable[[], None] = lambda: None) -> None:
    """Create or replace views and functions; a file whose text is the deployed one is left alone.

    `guard` is called in each transaction: it raises when this runner may not change anything any more.
    """
    known = {**constants(), **mapping.fills(db)}
    made: list[str] = []
    for name in ("images", "active", *FUNCTION_FILES):
        text = render(f"migration/{name}", known)
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = f"migration/{name}"
        row = conn.execute("SELECT d.sha256 FROM dxy.function_digest AS d WHERE d.name = %s", (key,)).fetchone()
        if row and row[0] == digest:
            continue
        with conn.transaction():
            guard()
            conn.execute("SELECT set_config('lock_timeout', '2s', true)")
            if name == "images":  # a view's columns cannot change their type in place
                conn.execute(trusted(f"DROP VIEW IF EXISTS {_VIEWS}"))
            conn.execute(trusted(text))
            made += re.findall(r"FUNCTION (dxy\.\w+)\(", text)
            conn.execute(
                "INSERT INTO dxy.function_digest AS d (name, sha256) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, deployed_at = now()",
                (key, digest),
            )
    with conn.transaction():
        guard()
        conn.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dxy FROM PUBLIC")
    roles.apply(conn, inspect(conn))
    for role in sorted({roles.READER, roles.WRITER} & inspect(conn).roles):
        conn.execute(trusted(f"GRANT EXECUTE ON FUNCTION dxy.reading_table() TO {role}"))
    contract.record_migration(conn, made)


def withdraw(conn: psycopg.Connection[Any]) -> None:
    """Remove undo images, notes and views (a rollback's last step; the functions stay, nothing calls them)."""
    conn.execute("DELETE FROM dxy.unverifiable_day")
    conn.execute(trusted(f"DROP VIEW IF EXISTS {_VIEWS}"))
    conn.execute("DROP TABLE IF EXISTS dxy.migration_undo")
    conn.execute("DELETE FROM dxy.function_digest WHERE name = 'migration/images'")


def attach(conn: psycopg.Connection[Any], *, muted: bool = False) -> None:
    """Create all triggers of the dual write, in the caller's transaction; writers wait for an instant, readers not.

    `muted`: legacy's only note what legacy takes; data_bars, which is being taken back, follows no more.
    """
    conn.execute("LOCK TABLE public.derived_data_bars, public.data_bars IN SHARE ROW EXCLUSIVE MODE")
    for table in MIRRORS:
        conn.execute(trusted(_statements(table, muted=muted)))


def _mode(table: str, *, muted: bool) -> str:
    """The argument of a table's statement triggers, as SQL spells it."""
    if table == BARS:
        return ""
    return "'note'" if muted else "'mirror'"


def close_legacy(conn: psycopg.Connection[Any]) -> None:
    """Refuse live DXY 1m rows in legacy from anybody but the mirror, in the caller's transaction."""
    conn.execute(trusted(render("migration/attach_closed", {})))


def open_legacy(conn: psycopg.Connection[Any]) -> None:
    """Let everybody write legacy again."""
    conn.execute(trusted(f"DROP TRIGGER IF EXISTS {CLOSED} ON public.{DERIVED}"))


def is_closed(conn: psycopg.Connection[Any]) -> bool:
    """Whether a rollback keeps legacy closed."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t"
        " WHERE t.tgrelid = 'public.derived_data_bars'::regclass AND t.tgname = %s)",
        (CLOSED,),
    ).fetchone()
    return bool(row and row[0])


def detach(conn: psycopg.Connection[Any]) -> None:
    """Drop all triggers, in the caller's transaction."""
    for table in MIRRORS:
        conn.execute(trusted(render("migration/detach", {"table": table})))


def missing_triggers(conn: psycopg.Connection[Any], *, muted: bool = False) -> list[str]:
    """Triggers of the dual write that are not there, not enabled ALWAYS or not as `attach` makes them, by name."""
    found = {row["name"]: _plain(row["definition"]) for row in run(conn, "triggers") if row["ours"]}
    wanted: dict[str, str] = {}
    for table in MIRRORS:
        for text in re.findall(r"CREATE OR REPLACE (TRIGGER .*?);", _statements(table, muted=muted), re.DOTALL):
            wanted[f"{table}.{text.split()[1]}"] = _plain(text)
    return sorted(name for name in TRIGGERS if found.get(name) != wanted[name])


def _statements(table: str, *, muted: bool) -> str:
    text = render("migration/attach", {"table": table, "function": MIRRORS[table], "mode": _mode(table, muted=muted)})
    return text + (render("migration/attach_keep", {}) if table == DERIVED else "")


def _plain(definition: str) -> str:
    """A trigger's definition without what the server adds to it or leaves out: case, white space, brackets, casts."""
    text = definition.lower().removeprefix("create ")
    return re.sub(r"::(character varying|\w+)|[()\s]|\bdxy\.", "", text)


def require_triggers(conn: psycopg.Connection[Any]) -> None:
    """Raise UserError when the dual write has a hole."""
    if missing := missing_triggers(conn):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"the trigger {missing[0]}{more} is missing or disabled: writes may have passed the dual write by",
            hint="run `dxy migrate dual-write --readers-moved` to restore it, then `dxy migrate verify --repair`"
            " and `dxy migrate verify`",
        )


def drop_tag_index(conn: psycopg.Connection[Any]) -> None:
    """Drop the index of the retired rows: no row carries a tag any more."""
    conn.execute(trusted(f"DROP INDEX IF EXISTS public.{TAG_INDEX}"))


def late_trigger(conn: psycopg.Connection[Any]) -> str | None:
    """A BEFORE UPDATE row trigger of the desk on legacy that would run after ours and undo `updated_at` again."""
    row = conn.execute(
        "SELECT t.tgname::text FROM pg_catalog.pg_trigger AS t"
        " WHERE t.tgrelid = 'public.derived_data_bars'::regclass AND NOT t.tgisinternal AND t.tgtype & 19 = 19"
        ' AND t.tgname::text COLLATE "C" > %s ORDER BY 1 DESC LIMIT 1',
        (KEEP,),
    ).fetchone()
    return row[0] if row else None

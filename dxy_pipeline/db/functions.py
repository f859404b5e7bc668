"""Our functions in the database: files whose text is deployed, and replaced only when it changed."""

import hashlib
from collections.abc import Callable

import psycopg
from psycopg import sql

from dxy_pipeline.db import roles
from dxy_pipeline.db.constants import sql_constants
from dxy_pipeline.db.shape import Database, inspect
from dxy_pipeline.sql import load, render

# In order of use: a function comes after those it calls.
FUNCTIONS = (
    "index_price",
    "is_derived",
    "bar_mark",
    "feed_rank",
    "lock_days",
    "check_range",
    "assert_target_writable",
    "assert_rollup_writable",
    "touch_targets",
    "bar_images",
    "unverifiable",
    "refuse_changed_rows",
    "touch_trigger",
    "touch_truncate",
    "rollup_bars",
    "open_minutes",
    "recomputed_minutes",
    "gap_ledger",
    "calc_dxy_range_1m",
    "calc_dxy_rollup_range",
)


def todo(conn: psycopg.Connection, db: Database) -> list[tuple[str, str]]:
    """Return what `deploy` would do: each file and what becomes of a function of that name. Reads only."""
    deployed = _deployed(conn) if db.has_digests else {}
    found = [(f"function file {name}", _effect(name, deployed, db)) for name in _changed(deployed)]
    if _lacks_legacy(db):
        found.append((f"function file {roles.LEGACY_FUNCTION}", "a new function: the legacy writer, as a desk has it"))
    return found


def deploy(conn: psycopg.Connection, note: Callable[[str], None]) -> None:
    """Create or replace the functions whose text changed, each with its digest in one transaction.

    A database that we make ourselves also gets the legacy writer.
    """
    db = inspect(conn)
    for name in _changed(_deployed(conn)):
        note(f"function file {name}")
        with conn.transaction():
            # A desk's tables may lack columns that only `dxy migrate prepare` adds; nothing calls the body before.
            conn.execute("SET LOCAL check_function_bodies = off")
            conn.execute(_text(name))
            roles.close_to_outsiders(conn, db)
            conn.execute(load("queries/record_function"), {"name": name, "sha256": digest(_text(name).as_string())})
    if _lacks_legacy(db):
        with conn.transaction():
            conn.execute(_text(roles.LEGACY_FUNCTION))
            roles.close_to_outsiders(conn, inspect(conn))


def digest(text: str) -> str:
    """Return the digest by which a deployed text is recognised."""
    return hashlib.sha256(text.encode()).hexdigest()


def _lacks_legacy(db: Database) -> bool:
    return db.shape == "E" and roles.LEGACY_FUNCTION not in db.functions


def _deployed(conn: psycopg.Connection) -> dict[str, str]:
    return dict(conn.execute("SELECT d.name, d.sha256 FROM dxy.function_digest AS d").fetchall())


def _changed(deployed: dict[str, str]) -> list[str]:
    return [name for name in FUNCTIONS if deployed.get(name) != digest(_text(name).as_string())]


def _effect(name: str, deployed: dict[str, str], db: Database) -> str:
    if name in deployed:
        return "replaces the function only"
    return "replaces the function of that name that is there" if name in db.functions else "new functions only"


def _text(name: str) -> sql.SQL:
    return sql.SQL(render(f"functions/{name}", sql_constants()))

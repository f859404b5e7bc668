"""Roles and grants: owner, writer, reader; nothing to PUBLIC.

Functions run with the rights of the owner of data_bars: `dxy_owner` where we made the tables, the desk's own owner
elsewhere. Roles are cluster-wide; where they may not be created, the plan says so and the grants are left out.
"""

import contextlib

import psycopg
from psycopg import sql

from dxy_pipeline.db.constants import sql_constants
from dxy_pipeline.db.shape import BARS, Database
from dxy_pipeline.sql import load, render, trusted

OWNER, WRITER, READER = "dxy_owner", "dxy_writer", "dxy_reader"
FUNCTION_CALLERS = ("service_role",)
OUTSIDERS = ("anon", "authenticated")


def notes(db: Database) -> list[str]:
    """What an administrator has to know about roles here."""
    missing = [r for r in (OWNER, WRITER, READER) if r not in db.roles]
    if missing and not db.can_create_role:
        return [f"user {db.user} may not create roles; ask an administrator for: {', '.join(missing)} (NOLOGIN)"]
    return []


def apply(conn: psycopg.Connection, db: Database) -> None:
    """Create missing roles where allowed, hand our objects to the owner of data_bars, set the grants. Idempotent."""
    present = _ensure_roles(conn, db)
    with conn.transaction():
        if db.shape == "E" and OWNER in present:
            _own_by(conn, OWNER, tables=True)
        elif db.tables[BARS].owner != db.user:
            _own_by(conn, db.tables[BARS].owner, tables=False)
        conn.execute(load("schema/grants"))
        if READER in present:
            conn.execute(render("schema/grant_reader", sql_constants()))
        if WRITER in present:
            conn.execute(load("schema/grant_writer"))
        for role in FUNCTION_CALLERS:
            if role in db.roles:
                _execute_on_functions(conn, "GRANT EXECUTE ON FUNCTION {} TO {}", role)
        for role in OUTSIDERS:
            if role in db.roles:
                _execute_on_functions(conn, "REVOKE ALL ON FUNCTION {} FROM {}", role)


def _ensure_roles(conn: psycopg.Connection, db: Database) -> set[str]:
    present = set(db.roles)
    if not db.can_create_role:
        return present
    for role in (OWNER, WRITER, READER):
        if role in present:
            continue
        # another database of this server may be upgraded at the same moment
        with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        present.add(role)
    return present


def _own_by(conn: psycopg.Connection, owner: str, *, tables: bool) -> None:
    """Give schema dxy, its objects and our functions (and, where we made them, the three tables) to `owner`."""
    member = conn.execute("SELECT pg_has_role(current_user, %s, 'MEMBER')", (owner,)).fetchone()
    if not (member and member[0]):
        conn.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
    conn.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(sql.Identifier(owner)))
    rows = conn.execute(load("queries/owned_objects"), {"owner": owner, "tables": tables}).fetchall()
    for kind, name in rows:
        # kind and name are spelled and quoted by the server's catalog
        conn.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(trusted(kind), trusted(name), sql.Identifier(owner)))


def _execute_on_functions(conn: psycopg.Connection, statement: str, role: str) -> None:
    for (name,) in conn.execute(load("queries/callable_functions")).fetchall():
        conn.execute(trusted(statement).format(trusted(name), sql.Identifier(role)))

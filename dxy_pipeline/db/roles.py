"""Roles and grants: owner, writer, reader; nothing to PUBLIC.

Functions run with the rights of the owner of data_bars: `dxy_owner` where we made the tables, the desk's own owner
elsewhere. Roles are cluster-wide; where they may not be created or used, the plan says so and they are left out.
A desk may have default privileges that hand every new object to its web roles: what we make is taken from them again.
"""

import contextlib
import hashlib
from collections.abc import Collection, Iterator

import psycopg
from psycopg import sql

from dxy_pipeline.db.constants import sql_constants
from dxy_pipeline.db.shape import BARS, DERIVED, TABLES, Database
from dxy_pipeline.db.widen import Step
from dxy_pipeline.sql import load, render, trusted

OWNER, WRITER, READER = "dxy_owner", "dxy_writer", "dxy_reader"
FUNCTION_CALLERS = ("service_role",)
OUTSIDERS = ("anon", "authenticated")
LEGACY_FUNCTION = "calc_dxy_range_derived"


def notes(db: Database) -> list[str]:
    """What an administrator has to know about roles here."""
    missing = [r for r in (OWNER, WRITER, READER) if r not in db.roles]
    if missing and not db.can_create_role:
        return [f"user {db.user} may not create roles; ask an administrator for: {', '.join(missing)} (NOLOGIN)"]
    return []


def todo(conn: psycopg.Connection, db: Database, *, new_functions: bool) -> list[tuple[str, str]]:
    """Return what `apply` would do; `new_functions`: functions are to be deployed before. Reads only."""
    missing = [r for r in (OWNER, WRITER, READER) if r not in db.roles] if db.can_create_role else []
    found = [(f"create the roles {', '.join(missing)}", "NOLOGIN, of the whole server")] if missing else []
    found += _owner_changes(conn, db)
    if missing or new_functions or not _grants_hold(conn, db):
        found.append((
            f"grants: {READER} reads the three tables, {WRITER} writes data_bars and uses its sequence, both and"
            f" {FUNCTION_CALLERS[0]} use our functions; nothing to PUBLIC",
            "privileges only, for the roles that are there",
        ))  # fmt: skip
    return found


def apply(conn: psycopg.Connection, db: Database) -> None:
    """Create missing roles where allowed, hand our objects to the owner of data_bars, set the grants. Idempotent."""
    present = _ensure_roles(conn, db)
    with conn.transaction():
        owner = _future_owner(db, present)
        if owner and (not db.made_by_us or _may_use(conn, owner)):
            _own_by(conn, owner, tables=db.made_by_us)
        conn.execute(load("schema/grants"))
        close_to_outsiders(conn, db)
        if READER in present:
            conn.execute(render("schema/grant_reader", sql_constants()))
        if WRITER in present:
            _let_write_read(conn)
            conn.execute(load("schema/grant_writer"))
            for (sequence,) in conn.execute(load("queries/serial_sequences")).fetchall():
                conn.execute(sql.SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(trusted(sequence), trusted(WRITER)))
        for role in FUNCTION_CALLERS:
            if role in db.roles:
                _on_functions(conn, "GRANT EXECUTE ON FUNCTION {} TO {}", role, with_legacy=False)
        conn.execute(load("queries/record_function"), {"name": "grants", "sha256": _grants_digest(conn, present)})


def close_to_outsiders(conn: psycopg.Connection, db: Database) -> None:
    """Take from PUBLIC and a desk's web roles whatever its default privileges gave them on objects of ours."""
    _on_functions(conn, "REVOKE ALL ON FUNCTION {} FROM {}", "PUBLIC", with_legacy=db.made_by_us)
    for role in OUTSIDERS:
        if role not in db.roles:
            continue
        _on_functions(conn, "REVOKE ALL ON FUNCTION {} FROM {}", role, with_legacy=db.made_by_us)
        name = sql.Identifier(role)
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            conn.execute(sql.SQL("REVOKE ALL ON ALL {} IN SCHEMA dxy FROM {}").format(sql.SQL(kind), name))
        conn.execute(sql.SQL("REVOKE ALL ON SCHEMA dxy FROM {}").format(name))
        if db.made_by_us:
            for table in TABLES:
                conn.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier("public", table), name))


def policy_steps(db: Database) -> Iterator[Step]:
    """Policies that let our roles through a desk's row level security: without one a reader sees no row at all."""
    for table, role, command in ((BARS, READER, "SELECT"), (DERIVED, READER, "SELECT"), (BARS, WRITER, "ALL")):
        name = f"{role}_{command.lower()}"
        found, possible = db.tables.get(table), role in db.roles or db.can_create_role
        if not possible or found is None or not found.row_security or name in found.policies:
            continue
        check = sql.SQL(" WITH CHECK (true)" if command == "ALL" else "")
        yield Step(
            f"add the policy {name} to {table}, for {role} only",
            sql.SQL("CREATE POLICY {} ON {} FOR {} TO {} USING (true){}").format(
                sql.Identifier(name), sql.Identifier("public", table), sql.SQL(command), sql.Identifier(role), check
            ),
            "ACCESS EXCLUSIVE for an instant",
        )


def _future_owner(db: Database, roles: Collection[str]) -> str | None:
    """Return who has to own what we make: our own role where the tables are ours, else the owner of data_bars."""
    if db.shape == "E":
        return OWNER if OWNER in roles else None
    return db.tables[BARS].owner


def _owner_changes(conn: psycopg.Connection, db: Database) -> list[tuple[str, str]]:
    possible = {*db.roles, OWNER} if db.can_create_role else db.roles
    owner = _future_owner(db, possible)
    if owner is None or (owner == db.user and not db.has_own_schema):
        return []
    tables = db.shape == "E"
    what = f"the schema dxy, our functions{' and the three tables' if tables else ''}"
    if db.has_own_schema:
        rows = conn.execute(load("queries/owned_objects"), {"owner": owner, "tables": tables}).fetchall()
        if not rows or (tables and owner in db.roles and not _could_use(conn, db, owner)):
            return []
        what = ", ".join(name for _, name in rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return [(f"hand {what} to {owner}, who gets CREATE on the schemas", "ACCESS EXCLUSIVE on each for an instant")]


def _could_use(conn: psycopg.Connection, db: Database, owner: str) -> bool:
    """Whether `_may_use` would say yes; asks only."""
    row = conn.execute(
        "SELECT pg_has_role(current_user, %(owner)s, 'USAGE')"
        " OR pg_has_role(current_user, %(owner)s, 'MEMBER WITH ADMIN OPTION')",
        {"owner": owner},
    ).fetchone()
    return bool(row and row[0]) or (db.can_create_role and db.server_version < 160000)


def _grants_hold(conn: psycopg.Connection, db: Database) -> bool:
    if not (db.has_own_schema and db.has_digests and db.migration_state and db.tables):
        return False
    stored = conn.execute("SELECT d.sha256 FROM dxy.function_digest AS d WHERE d.name = 'grants'").fetchone()
    if not stored or stored[0] != _grants_digest(conn, db.roles):
        return False
    row = conn.execute(load("queries/grants_hold")).fetchone()
    return bool(row and row[0])


def _grants_digest(conn: psycopg.Connection, roles: Collection[str]) -> str:
    """Return what the grants follow from: their text, who is there, the functions as deployed."""
    texts = [load(f"schema/{name}") for name in ("grants", "grant_reader", "grant_writer")]
    rows = conn.execute(
        "SELECT d.name, d.sha256 FROM dxy.function_digest AS d"
        " WHERE d.name NOT IN ('grants', 'fx_session') AND NOT starts_with(d.name, 'migration/') ORDER BY 1"
    ).fetchall()
    return hashlib.sha256(repr([texts, sorted(roles), rows]).encode()).hexdigest()


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


def _may_use(conn: psycopg.Connection, owner: str) -> bool:
    """Whether we have the owner's rights. From PostgreSQL 16 on a role's creator has them only after a grant."""
    usable = "SELECT pg_has_role(current_user, %s, 'USAGE')"
    row = conn.execute(usable, (owner,)).fetchone()
    if row and row[0]:
        return True
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), conn.transaction():
        conn.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
        return True
    return False


def _let_write_read(conn: psycopg.Connection) -> None:
    """Make the writer a reader too; where only an administrator may, it gets the same grants itself."""
    row = conn.execute("SELECT pg_has_role(%s, %s, 'USAGE')", (WRITER, READER)).fetchone()
    if row and row[0]:
        return
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), conn.transaction():
        conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(READER), sql.Identifier(WRITER)))
        return
    conn.execute(trusted(render("schema/grant_reader", sql_constants()).replace(READER, WRITER)))


def _own_by(conn: psycopg.Connection, owner: str, *, tables: bool) -> None:
    """Give schema dxy, its objects and our functions (and, where we made them, the three tables) to `owner`.

    A new owner needs CREATE on the schema of what it is given.
    """
    rows = conn.execute(load("queries/owned_objects"), {"owner": owner, "tables": tables}).fetchall()
    if not rows:
        return
    for schema in ("public", "dxy"):
        has = conn.execute("SELECT has_schema_privilege(%s, %s, 'CREATE')", (owner, schema)).fetchone()
        if not (has and has[0]):
            conn.execute(
                sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(owner))
            )
    for kind, name in rows:
        # kind and name are spelled and quoted by the server's catalog
        conn.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(trusted(kind), trusted(name), sql.Identifier(owner)))


def _on_functions(conn: psycopg.Connection, statement: str, role: str, *, with_legacy: bool) -> None:
    grantee = sql.SQL("PUBLIC") if role == "PUBLIC" else sql.Identifier(role)
    rows = conn.execute(load("queries/callable_functions"), {"legacy": LEGACY_FUNCTION if with_legacy else ""})
    for (name,) in rows.fetchall():
        conn.execute(trusted(statement).format(trusted(name), grantee))

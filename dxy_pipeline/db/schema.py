"""Schema of a market database: what `dxy db plan` reports and `dxy db upgrade` does, from one list of parts.

Each part says what it would do by looking, and does it. A database with active legacy DXY 1m rows gets ledger and
functions only: its tables and its registry wait for the migration.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg

from dxy_pipeline.db import calendar, contract, fitness, functions, natives, registry, roles, versions, widen
from dxy_pipeline.db.ownership import OURS
from dxy_pipeline.db.shape import BARS, TABLES, Database, inspect
from dxy_pipeline.errors import UserError

OLDEST_SERVER, OLDEST_NAME = 150000, "PostgreSQL 15"
Note = Callable[[str], None]
Line = tuple[str, str]  # what is done; what it locks or touches


@dataclass(frozen=True)
class Part:
    """One part of an upgrade. `todo` looks and says what `do` would do now; `waits`: on the desk's own tables."""

    todo: Callable[[psycopg.Connection, Database], list[Line]]
    do: Callable[[psycopg.Connection, Database, Note], None]
    waits: bool = False


@dataclass(frozen=True)
class Plan:
    """What an upgrade of this database would do, and why it cannot where it cannot."""

    database: str
    shape: str
    server_version: int
    revision: str | None
    head: str
    migration_state: str | None
    legacy_active_rows: int
    refused: list[str] = field(default_factory=list)
    steps: list[Line] = field(default_factory=list)
    waits_for_migration: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(conn: psycopg.Connection) -> Plan:
    """Look at the database and say what `upgrade` would do. Writes nothing; works on a read-only connection."""
    db = inspect(conn)
    result = Plan(
        db.name,
        db.shape,
        db.server_version,
        db.revision,
        versions.head(),
        db.migration_state,
        db.legacy_active_rows,
        refused=_refusals(conn, db),
    )
    if result.refused:
        return result
    changed = contract.changes(conn)
    result.refused.extend(contract.refusals(changed))
    if result.refused:
        return result
    result.steps.extend(_lines(contract.steps(changed)))
    result.steps.extend((title, "remembers only") for title in contract.accepted(changed))
    for part in PARTS:
        waits = part.waits and _awaits_migration(db)
        (result.waits_for_migration if waits else result.steps).extend(part.todo(conn, db))
    result.notes.extend([*roles.notes(db), *natives.notes(conn, db)])
    return result


def upgrade(conn: psycopg.Connection, note: Note = lambda _: None) -> Plan:
    """Bring the database to head; `conn` is in autocommit mode. Idempotent; returns the plan it followed.

    Raises UserError when the database cannot be served, with the first reason and how many more there are.
    """
    todo = plan(conn)
    if todo.refused:
        more = f" (and {len(todo.refused) - 1} more)" if len(todo.refused) > 1 else ""
        raise UserError(
            f"database {todo.database}: {todo.refused[0]}{more}", hint='see "dxy db plan" for the whole list'
        )
    try:
        conn.execute("SELECT pg_advisory_lock(7411, -1)")  # one upgrade at a time
    except psycopg.errors.LockNotAvailable as error:
        raise UserError(f"another upgrade of database {todo.database} is under way", hint="wait for its end") from error
    try:
        changed = contract.changes(conn)
        widen.apply(conn, contract.steps(changed), note)
        contract.require_restored(conn)
        if changed:  # grants and owners were only cleared
            roles.apply(conn, inspect(conn))
        for title in contract.accepted(changed):
            note(title)
        for part in PARTS:
            db = inspect(conn)
            if not (part.waits and _awaits_migration(db)) and part.todo(conn, db):
                part.do(conn, db, note)
        contract.require_restored(conn, owners=True)
        contract.record(conn)
    finally:
        conn.execute("SELECT pg_advisory_unlock(7411, -1)")
    return todo


def require_head(conn: psycopg.Connection) -> None:
    """Raise UserError unless the schema is there and at this code's version."""
    db = inspect(conn)
    if db.revision is None:
        raise UserError(f"database {db.name} has no schema of this project", hint='run "dxy db upgrade" first')
    if reasons := versions.newer(db):
        raise UserError(reasons[0], hint="install the newer version of dxy_pipeline")
    if db.revision != versions.head():
        raise UserError(f"database {db.name} is at schema version {db.revision}", hint='run "dxy db upgrade" first')
    if missing := [name for name in TABLES if name not in db.tables]:
        raise UserError(f"a table is missing: public.{missing[0]}", hint='see "dxy db plan"; restore it from a backup')


def _refusals(conn: psycopg.Connection, db: Database) -> list[str]:
    if db.server_version < OLDEST_SERVER:
        return [f"the server is version {db.server_version // 10000}; needed: {OLDEST_NAME} or newer"]
    if newer := versions.newer(db):
        return newer
    found = fitness.refusals(conn, db) if db.tables else []
    if not db.has_own_schema and not db.can_create_schema:
        found.append(f"user {db.user} may not create a schema here; grant CREATE on database {db.name}")
    if not db.can_create_function:
        found.append(f"user {db.user} may not create functions here; grant CREATE on schema public of {db.name}")
    found += [
        f"user {db.user} is not a member of {t.owner}, who owns public.{t.name}; connect as {t.owner}"
        for t in db.tables.values()
        if not t.can_alter
    ]
    return found


def _awaits_migration(db: Database) -> bool:
    if db.migration_state is None:
        return db.legacy_active_rows > 0
    return db.migration_state in {"legacy", "rolled_back"}


def _table_steps(conn: psycopg.Connection, db: Database) -> list[widen.Step]:
    return widen.steps(conn, db) if db.tables else [widen.touch_step()]


def _widen(conn: psycopg.Connection, db: Database, note: Note) -> None:
    widen.apply(conn, _table_steps(conn, db), note)
    if inspect(conn).tables[BARS].key_index() is None:
        raise UserError(f"public.{BARS} has no valid unique index on its key", hint='see "dxy db plan"')


def _location(db: Database) -> str:
    return BARS if (db.migration_state or "none") in OURS and not _awaits_migration(db) else "derived_data_bars"


def _lines(steps: Iterator[widen.Step] | list[widen.Step]) -> list[Line]:
    return [(step.title, step.lock) for step in steps]


PARTS = (
    Part(versions.todo, lambda conn, _db, _note: versions.apply(conn)),
    Part(functions.todo, lambda conn, _db, note: functions.deploy(conn, note)),
    Part(calendar.todo, lambda conn, _db, _note: calendar.fill(conn)),
    Part(lambda conn, db: _lines(_table_steps(conn, db)), _widen, waits=True),
    Part(
        lambda conn, db: registry.todo(conn, db, data_location=_location(db)),
        lambda conn, db, _note: registry.upsert(conn, db, data_location=_location(db)),
        waits=True,
    ),
    Part(
        lambda conn, db: roles.todo(conn, db, new_functions=bool(functions.todo(conn, db))),
        lambda conn, db, _note: roles.apply(conn, db),
    ),
    Part(
        lambda _conn, db: _lines(roles.policy_steps(db)),
        lambda conn, db, note: widen.apply(conn, [*roles.policy_steps(db)], note),
    ),
)

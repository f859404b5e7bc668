"""Schema of a market database: what `dxy db plan` reports and `dxy db upgrade` does.

Tables come from Alembic versions; functions are files, replaced when their text changed; the desk's tables are widened
by `widen`. A database with active legacy DXY 1m rows gets ledger and functions only: its tables wait for the migration.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

from dxy_pipeline.core import fx_week
from dxy_pipeline.db import contract, fitness, registry, roles, widen
from dxy_pipeline.db.constants import sql_constants
from dxy_pipeline.db.shape import BARS, TABLES, Database, inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.sql import load, render

OLDEST_SERVER, OLDEST_NAME = 150000, "PostgreSQL 15"
CALENDAR_FROM, CALENDAR_TO = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# In order of use: a function comes after those it calls.
FUNCTIONS = (
    "index_price",
    "feed_rank",
    "lock_days",
    "check_range",
    "assert_target_writable",
    "assert_rollup_writable",
    "touch_targets",
    "bar_images",
    "touch_trigger",
    "touch_truncate",
    "rollup_bars",
    "open_minutes",
    "recomputed_minutes",
    "gap_ledger",
    "calc_dxy_range_1m",
    "calc_dxy_rollup_range",
)


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
    steps: list[tuple[str, str]] = field(default_factory=list)
    waits_for_migration: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(conn: psycopg.Connection) -> Plan:
    """Look at the database and say what `upgrade` would do. Writes nothing; works on a read-only connection."""
    db, scripts = inspect(conn), ScriptDirectory.from_config(_config())
    result = Plan(
        db.name,
        db.shape,
        db.server_version,
        db.revision,
        scripts.get_current_head() or "",
        db.migration_state,
        db.legacy_active_rows,
        refused=_refusals(conn, db, scripts),
    )
    if result.refused:
        return result
    changed = contract.changes(conn)
    result.refused.extend(contract.refusals(changed))
    if result.refused:
        return result
    result.steps.extend((s.title, s.lock) for s in contract.steps(changed))
    result.steps.extend((title, "remembers only") for title in contract.accepted(changed))
    pending = [s.revision for s in scripts.iterate_revisions("heads", db.revision or "base")]
    for revision in reversed(pending):
        result.steps.append((f"schema version {revision}: {scripts.get_revision(revision).doc}", "new objects only"))
    files = changed_functions(conn) if db.has_digests else [*FUNCTIONS]
    result.steps.extend((f"function file {name}", "replaces the function only") for name in files)
    if not db.has_own_schema:
        result.steps.append(("FX calendar, roles and grants", "new objects only"))
    if db.tables:
        ddl = [(s.title, s.lock) for s in widen.steps(conn, db)]
        (result.waits_for_migration if _awaits_migration(db) else result.steps).extend(ddl)
    elif not db.has_own_schema:
        result.steps.append((f"create {BARS}, derived_data_bars, core_asset_registry_all", "new objects only"))
    result.steps.extend((s.title, s.lock) for s in roles.policy_steps(db))
    result.notes.extend(roles.notes(db))
    return result


def upgrade(conn: psycopg.Connection, note: Callable[[str], None] = lambda _: None) -> Plan:
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
        before = inspect(conn)
        changed = contract.changes(conn)
        widen.apply(conn, contract.steps(changed), note)
        contract.require_restored(conn)
        for title in contract.accepted(changed):
            note(title)
        if not before.has_own_schema:
            conn.execute("CREATE SCHEMA dxy")
        _run_versions(conn, empty=not before.tables)
        deploy_functions(conn, legacy=before.shape == "E", note=note)
        _fill_calendar(conn)
        db = inspect(conn)
        if db.migration_state is None:
            state = "legacy" if db.legacy_active_rows else "none"
            conn.execute("INSERT INTO dxy.migration_control (state) VALUES (%s) ON CONFLICT DO NOTHING", (state,))
            db = inspect(conn)
        if not _awaits_migration(db):
            widen.apply(conn, widen.steps(conn, db), note)
            if inspect(conn).tables[BARS].key_index() is None:
                raise UserError(f"public.{BARS} has no valid unique index on its key", hint='see "dxy db plan"')
            moved = db.migration_state in {"none", "cut_over", "retired"}
            registry.upsert(conn, inspect(conn), data_location="data_bars" if moved else "derived_data_bars")
        roles.apply(conn, inspect(conn))
        widen.apply(conn, [*roles.policy_steps(inspect(conn))], note)
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
    scripts = ScriptDirectory.from_config(_config())
    if reasons := _newer(db, scripts):
        raise UserError(reasons[0], hint="install the newer version of dxy_pipeline")
    if db.revision != scripts.get_current_head():
        raise UserError(f"database {db.name} is at schema version {db.revision}", hint='run "dxy db upgrade" first')
    if missing := [name for name in TABLES if name not in db.tables]:
        raise UserError(f"a table is missing: public.{missing[0]}", hint='see "dxy db plan"; restore it from a backup')


def changed_functions(conn: psycopg.Connection) -> list[str]:
    """Function files whose text is not the deployed one."""
    deployed = dict(conn.execute("SELECT d.name, d.sha256 FROM dxy.function_digest AS d").fetchall())
    return [name for name in FUNCTIONS if deployed.get(name) != _digest(_function_text(name))]


def deploy_functions(conn: psycopg.Connection, *, legacy: bool, note: Callable[[str], None] = lambda _: None) -> None:
    """Create or replace the functions whose text changed, each with its digest in one transaction.

    `legacy` also creates the legacy writer where the database has none of that name.
    """
    db = inspect(conn)
    for name in changed_functions(conn):
        note(f"function file {name}")
        with conn.transaction():
            # A desk's tables may lack columns that only `dxy migrate prepare` adds; nothing calls the body before.
            conn.execute("SET LOCAL check_function_bodies = off")
            conn.execute(_function_text(name))
            roles.close_to_outsiders(conn, db)
            conn.execute(load("queries/record_function"), {"name": name, "sha256": _digest(_function_text(name))})
    if legacy and roles.LEGACY_FUNCTION not in db.functions:
        with conn.transaction():
            conn.execute(_function_text(roles.LEGACY_FUNCTION))
            roles.close_to_outsiders(conn, inspect(conn))


def _refusals(conn: psycopg.Connection, db: Database, scripts: ScriptDirectory) -> list[str]:
    if db.server_version < OLDEST_SERVER:
        return [f"the server is version {db.server_version // 10000}; needed: {OLDEST_NAME} or newer"]
    if newer := _newer(db, scripts):
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


def _newer(db: Database, scripts: ScriptDirectory) -> list[str]:
    known = {script.revision for script in scripts.walk_revisions()}
    if db.revision is not None and db.revision not in known:
        return [f"the database is at schema version {db.revision}, newer than this code"]
    return []


def _awaits_migration(db: Database) -> bool:
    if db.migration_state is None:
        return db.legacy_active_rows > 0
    return db.migration_state in {"legacy", "rolled_back"}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("dxy_pipeline.db").joinpath("alembic")))
    return config


def _run_versions(conn: psycopg.Connection, *, empty: bool, target: str = "head") -> None:
    """Hand Alembic its own SQLAlchemy view of the psycopg connection."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: conn, poolclass=sqlalchemy.pool.StaticPool, pool_reset_on_return=None
    )
    conn.autocommit = False
    try:
        with engine.connect() as connection:
            config = _config()
            config.attributes.update(connection=connection, empty=empty)
            command.upgrade(config, target)
            connection.commit()
    finally:
        conn.rollback()
        conn.autocommit = True


def _function_text(name: str) -> sql.SQL:
    return sql.SQL(render(f"functions/{name}", sql_constants()))


def _digest(text: sql.SQL) -> str:
    return hashlib.sha256(text.as_string().encode()).hexdigest()


def _fill_calendar(conn: psycopg.Connection) -> None:
    """Write the FX calendar when it is not the one of `core.fx_week`."""
    rows = [(s[0], s[1]) for s in fx_week.sessions(CALENDAR_FROM, CALENDAR_TO)]
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    stored = conn.execute("SELECT d.sha256 FROM dxy.function_digest AS d WHERE d.name = 'fx_session'").fetchone()
    if stored and stored[0] == digest:
        return
    with conn.transaction():
        conn.execute("DELETE FROM dxy.fx_session")
        with conn.cursor().copy("COPY dxy.fx_session (opens_at, closes_at) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        conn.execute(load("queries/record_function"), {"name": "fx_session", "sha256": digest})

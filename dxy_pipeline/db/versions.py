"""The versions of our own tables, applied and recorded by Alembic in `dxy.dxy_alembic_version`."""

from importlib.resources import files

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from dxy_pipeline.db.shape import BARS, Database, inspect


def scripts() -> ScriptDirectory:
    """Return the versions that this code knows."""
    return ScriptDirectory.from_config(_config())


def head() -> str:
    """Return the newest version."""
    return scripts().get_current_head() or ""


def newer(db: Database) -> list[str]:
    """Return why the database is out of this code's reach; empty when it is not."""
    if db.revision is not None and db.revision not in {script.revision for script in scripts().walk_revisions()}:
        return [f"the database is at schema version {db.revision}, newer than this code"]
    return []


def todo(_conn: psycopg.Connection, db: Database) -> list[tuple[str, str]]:
    """Return what `apply` would do. Reads only."""
    known = scripts()
    pending = [s.revision for s in known.iterate_revisions("heads", db.revision or "base")]
    found = [] if db.has_own_schema else [("create the schema dxy", "new objects only")]
    if not db.tables:
        found.append((f"create {BARS}, derived_data_bars, core_asset_registry_all", "new objects only"))
    found += [(f"schema version {r}: {known.get_revision(r).doc}", "new objects only") for r in reversed(pending)]
    if not pending and db.migration_state is None:
        found.append(("note where the migration stands", "a row of our own"))
    return found


def apply(conn: psycopg.Connection) -> None:
    """Bring our own tables to head; an empty database gets the three tables too. `conn` is in autocommit mode."""
    db = inspect(conn)
    if not db.has_own_schema:
        conn.execute("CREATE SCHEMA dxy")
    run(conn, empty=not db.tables)
    if db.migration_state is None:
        state = "legacy" if db.legacy_active_rows else "none"
        conn.execute("INSERT INTO dxy.migration_control (state) VALUES (%s) ON CONFLICT DO NOTHING", (state,))


def run(conn: psycopg.Connection, *, empty: bool, target: str = "head") -> None:
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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("dxy_pipeline.db").joinpath("alembic")))
    return config

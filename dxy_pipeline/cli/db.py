"""`dxy db`: the embedded server (start, stop, url) and the schema of whichever database is used. Thin."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from dxy_pipeline.cli.output import emit, note
from dxy_pipeline.db import embedded
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings, redact

if TYPE_CHECKING:
    from dxy_pipeline.db import schema

app = typer.Typer(no_args_is_help=True)

DATABASE = typer.Option("dxy", help="Database on the embedded server.")
JSON = typer.Option(False, "--json", help="Print JSON.")


@app.callback()
def group() -> None:
    """Start, stop and find the database server; plan and upgrade the schema."""


@app.command()
def start(database: str = DATABASE, as_json: bool = JSON) -> None:
    """Start the embedded PostgreSQL, unless it runs, and create the database, unless it exists."""
    settings = Settings.from_env()
    server = embedded.server_for(settings, progress=note)
    started = server.start()
    created = server.ensure_database(database)
    emit(
        {
            "server": "started" if started else "runs already",
            "database": f"{database}, {'created' if created else 'exists'}",
            "version": server.binaries.major,
            "data": server.cluster,
            "log": server.log_path,
            "url": server.url(database),
        },
        as_json=as_json,
    )
    if settings.database_url:
        note("DATABASE_URL is set: the other commands use that database, not this server")


@app.command()
def stop() -> None:
    """Stop the embedded PostgreSQL in order; its data stays."""
    server = embedded.server_for(Settings.from_env(), progress=note)
    print("stopped" if server.stop() else "was not running")


@app.command()
def url(
    database: str = DATABASE,
    password: bool = typer.Option(False, "--password", help="Print the password of DATABASE_URL too."),
) -> None:
    """Print the URL of the database that the other commands use: DATABASE_URL, or the embedded server's."""
    settings = Settings.from_env()
    if settings.database_url:
        print(settings.database_url if password else redact(settings.database_url))
    else:
        print(embedded.server_for(settings).url(database))


@app.command()
def plan(as_json: bool = JSON) -> None:
    """Say what kind of database this is and what `dxy db upgrade` would do. Read-only; exits 1 if it is refused."""
    from dxy_pipeline.db import schema, session  # noqa: PLC0415 - Alembic; `dxy db url` stays quick

    settings = Settings.from_env()
    address = settings.direct_url or embedded.existing_url(settings, progress=note)
    with (
        session.user_errors(),
        session.connect(address, application_name="plan", autocommit=True, read_only=True, statement_timeout=0) as conn,
        conn.transaction(),
    ):
        found = schema.plan(conn)
    if as_json:
        emit(asdict(found), as_json=True)
    else:
        _show_plan(found)
    if found.refused:
        raise typer.Exit(1)


@app.command()
def upgrade(as_json: bool = JSON) -> None:
    """Bring the schema to this version: own objects, functions, roles, and short online DDL on existing tables."""
    from dxy_pipeline.db import schema, session  # noqa: PLC0415

    settings = Settings.from_env()
    address = settings.direct_url or embedded.market_url(settings, progress=note)
    if settings.behind_pooler(address):
        raise UserError("DDL cannot go through a transaction pooler", hint="set DIRECT_URL to the server's own address")
    with (
        session.user_errors(),
        session.connect(address, application_name="upgrade", autocommit=True, statement_timeout=0) as conn,
    ):
        followed = schema.upgrade(conn, note)
        after = schema.plan(conn)
    report = {
        "database": after.database,
        "shape": after.shape,
        "schema version": after.revision,
        "steps done": len(followed.steps),
        "waiting for the migration": len(after.waits_for_migration),
    }
    emit(report, as_json=as_json)
    if after.waits_for_migration:
        note('legacy DXY 1m rows are there: the tables stay as they are until "dxy migrate prepare"')


def _show_plan(found: "schema.Plan") -> None:
    shapes = {"E": "E (empty, or made by this project)", "S": "S (the seed's shape)", "P": "P (production-like)"}
    emit(
        {
            "database": found.database,
            "shape": shapes[found.shape],
            "PostgreSQL": found.server_version // 10000,
            "schema version": found.revision or "none",
            "newest version": found.head,
            "migration": found.migration_state or "not begun",
            "active legacy DXY 1m rows": found.legacy_active_rows,
        }
    )
    for title, rows in (("steps of dxy db upgrade", found.steps), ("waits for dxy migrate", found.waits_for_migration)):
        if rows:
            emit([{"step": step, "lock": lock} for step, lock in rows], title=title)
    for reason in found.refused:
        print(f"refused: {reason}")
    for line in found.notes:
        note(line)
    if not (found.steps or found.refused or found.waits_for_migration):
        print("nothing to do")

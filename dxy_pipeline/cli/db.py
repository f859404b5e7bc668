"""`dxy db`: the embedded server (start, stop, url) and the schema of whichever database is used. Thin."""

import typer

from dxy_pipeline.cli.output import emit, note
from dxy_pipeline.db import embedded
from dxy_pipeline.settings import Settings, redact

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

"""`dxy alerts`: incidents and their messages; a test message. Thin: the work is `dxy_pipeline.alerts`."""

from dataclasses import asdict, replace

import typer
from psycopg.rows import dict_row

from dxy_pipeline import alerts
from dxy_pipeline.alerts.delivery import send
from dxy_pipeline.cli import output
from dxy_pipeline.cli.reading import reading
from dxy_pipeline.db import session
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def root() -> None:
    """Show incidents, set how long a cause must last, or try the notification URLs."""


@app.command("list")
def list_incidents(
    closed: bool = typer.Option(False, "--closed", help="Show resolved and dismissed ones too."),
    limit: int = typer.Option(50, min=1, max=10_000, help="How many to show."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """List incidents, newest first, with the messages that wait. Exits 1 while one is firing."""
    with reading("alerts") as conn, conn.cursor(row_factory=dict_row) as cur:
        rows = alerts.recent(conn, with_closed=closed, limit=limit)
        beats = cur.execute("SELECT h.name, h.beat_at, h.detail FROM dxy.heartbeat AS h ORDER BY h.name").fetchall()
    if as_json:
        output.emit({"incidents": rows, "heartbeats": beats}, as_json=True)
    else:
        output.emit(rows, title="incidents") if rows else print("no incident")
        output.emit(beats, title="signs of life") if beats else print("no watcher has been alive yet")
    if any(row["state"] == "firing" for row in rows):
        raise typer.Exit(1)


@app.command("windows")
def windows(
    live: float | None = typer.Option(None, min=0, help="Open minutes that missing bars must last to fire."),
    other: float | None = typer.Option(None, min=0, help="Minutes that any other cause must last to fire."),
    clear: float | None = typer.Option(None, min=1, help="Minutes that a cause must stay away to be resolved."),
    flaps: int | None = typer.Option(None, min=0, help="Looks at a pending cause that may miss it."),
    defaults: bool = typer.Option(False, "--defaults", help="Take back what was stored before."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Show the windows of incidents; with an option, store others in the database for every watcher."""
    given = {"live_minutes": live, "other_minutes": other, "clear_minutes": clear, "flaps": flaps}
    changes = {name: value for name, value in given.items() if value is not None}
    with reading("alerts") as conn:
        policy = replace(alerts.Policy() if defaults else alerts.Policy.stored(conn), **changes)
    if changes or defaults:
        url = market_url(Settings.from_env())
        with session.user_errors(), session.connect(url, application_name="alerts", autocommit=True) as conn:
            policy.store(conn)
    output.emit(asdict(policy), as_json=as_json)


@app.command("test")
def test() -> None:
    """Send a test message to each of DXY_ALERT_URLS. Exits 1 when one does not arrive."""
    to = alerts.targets(Settings.from_env().alert_urls)
    if not to:
        raise UserError("DXY_ALERT_URLS is empty", hint="set it to apprise URLs, separated by blanks")
    rows = [
        {"target": target.label, "arrived": error is None, "why not": error}
        for target in to
        for error in [send(target.url, "DXY test", "This is a test message of dxy_pipeline.")]
    ]
    output.emit(rows)
    if not all(row["arrived"] for row in rows):
        raise typer.Exit(1)

"""`dxy status`: what the database holds and whether it is healthy. Read-only."""

import typer

from dxy_pipeline import alerts, report
from dxy_pipeline.checks import engine
from dxy_pipeline.cli import output
from dxy_pipeline.cli.reading import reading
from dxy_pipeline.core.clock import SystemClock

app = typer.Typer()


@app.command()
def status(
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Show each asset, its rows, its latest bar and what each check of the last 48 hours says;
    open incidents and the messages that wait.

    Exits 0 when every check passes, 1 when one fails.
    """
    now = SystemClock().now()
    with reading("status") as conn:
        assets = engine.figures(conn, now)
        results = engine.run_checks(conn, now)
        incidents = alerts.recent(conn)
    healthy = all(result.passed for result in results)
    if as_json:
        output.emit(
            {"at": now, "healthy": healthy, "assets": assets, "checks": results, "incidents": incidents}, as_json=True
        )
    else:
        output.emit(report.health_rows(assets, results), title=f"{now:%Y-%m-%d %H:%M} UTC")
        if incidents:
            output.emit(incidents, title="open incidents")
        print("healthy" if healthy else "UNHEALTHY")
    if not healthy:
        raise typer.Exit(1)

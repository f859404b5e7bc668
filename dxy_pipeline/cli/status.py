"""`dxy status`: what the database holds and whether it is healthy. Read-only."""

import typer

from dxy_pipeline import alerts, client, report
from dxy_pipeline.checks import engine
from dxy_pipeline.cli import output
from dxy_pipeline.cli.reading import reading
from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.core.clock import SystemClock

app = typer.Typer()


@app.command()
def status(
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Show each asset, its rows, its latest bar and what each check of the last 48 hours says;
    open incidents, and until when the bars are final unless an input changes again.

    Exits 0 when every check passes, 1 when one fails.
    """
    now = SystemClock().now()
    with reading("status") as conn:
        assets = engine.figures(conn, now)
        results = engine.run_checks(conn, now)
        incidents = alerts.recent(conn)
        final = {f"dxy_{timeframe}": client.final_until(timeframe, now=now, conn=conn) for timeframe in Timeframe}
    healthy = all(result.passed for result in results)
    if as_json:
        found = {"assets": assets, "checks": results, "incidents": incidents, "final until": final}
        output.emit({"at": now, "healthy": healthy, **found}, as_json=True)
    else:
        output.emit(report.health_rows(assets, results), title=f"{now:%Y-%m-%d %H:%M} UTC")
        if incidents:
            output.emit(incidents, title="open incidents")
        output.emit(final, title="final until")
        print("healthy" if healthy else "UNHEALTHY")
    if not healthy:
        raise typer.Exit(1)

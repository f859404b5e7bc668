"""`dxy demo`: the newcomer's first look. Thin: the work is `dxy_pipeline.demo`."""

import dataclasses
import logging
import time

import typer

from dxy_pipeline import demo, report
from dxy_pipeline.cli import output
from dxy_pipeline.settings import Settings

app = typer.Typer()


@app.command()
def run(as_json: bool = typer.Option(False, "--json", help="Print the result as JSON.")) -> None:
    """Load real rates, derive DXY, materialize ten days through Dagster, run all checks, show their health.

    Exits 0 only if every check passes. A second run writes zero rows.
    """
    logging.getLogger("dagster").setLevel(logging.WARNING)
    started = time.monotonic()
    outcome = demo.run(Settings.from_env(), output.note)
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        output.emit({**dataclasses.asdict(outcome), "healthy": outcome.healthy, "seconds": seconds}, as_json=True)
    else:
        _show(outcome, seconds)
    if not outcome.healthy:
        raise typer.Exit(1)


def _show(outcome: demo.Outcome, seconds: float) -> None:
    rows = [
        {
            "day": level.day,
            "what": level.label,
            "published": f"{level.published:.2f}",
            "derived at the fix": f"{level.derived:.2f}",
            "difference": f"{level.derived - level.published:+.2f}",
            "agrees": "yes" if level.passed else "NO",
        }
        for level in outcome.levels
    ]
    output.emit(rows, title="DXY from the ECB reference rates (14:10 Frankfurt) beside published levels")
    output.emit(
        report.health_rows(outcome.assets, outcome.checks),
        title=f"Health at {outcome.now:%Y-%m-%d %H:%M} UTC (pinned clock)",
    )
    for path in outcome.pictures:
        print(f"picture: {path}")
    print(f"{'healthy' if outcome.healthy else 'UNHEALTHY'}; {outcome.rows_written:,} rows written in {seconds} s")
    print('next: "make up" for the Dagster UI with live minutes')

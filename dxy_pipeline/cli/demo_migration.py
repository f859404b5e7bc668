"""`dxy demo-migration`: the migration end to end. Thin: the work is `dxy_pipeline.demo_migration`."""

import dataclasses
import time

import typer

from dxy_pipeline import demo_migration
from dxy_pipeline.cli import output
from dxy_pipeline.settings import Settings

app = typer.Typer()


@app.command()
def run(as_json: bool = typer.Option(False, "--json", help="Print the result as JSON.")) -> None:
    """Legacy rows are seeded, then plan, all phases, the success metrics, an exact rollback, forward again.

    Exits 0 only if the rollback was exact and no metric that a machine judges failed.
    """
    started = time.monotonic()
    outcome = demo_migration.run(Settings.from_env(), output.note)
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        output.emit({**dataclasses.asdict(outcome), "healthy": outcome.healthy, "seconds": seconds}, as_json=True)
    else:
        shown = ("database", "shape", "server", "rows", "needs", "in the way", "expected seconds")
        output.emit({name: outcome.plan[name] for name in shown}, title="plan")
        output.emit(outcome.phases, title="phases")
        output.emit([{k: row[k] for k in ("item", "holds", "figure", "judged by")} for row in outcome.metrics],
                    title="success metrics")  # fmt: skip
        verdict = "byte for byte what it was" if outcome.exact else "NOT what it was"
        output.emit({"after the rollback both tables are": verdict, "seconds": seconds})
    if not outcome.healthy:
        raise typer.Exit(1)

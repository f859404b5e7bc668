"""`dxy backfill`: derive DXY and its roll-ups over a range of history, month by month. Thin."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dxy_pipeline import backfill as work
from dxy_pipeline import bar_store
from dxy_pipeline.cli.output import console, emit, note, progress_bar
from dxy_pipeline.cli.period import period
from dxy_pipeline.core.clock import SystemClock
from dxy_pipeline.db import schema, session
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings

app = typer.Typer()


@app.command()
def backfill(
    start: str = typer.Option(..., "--from", help="First day or instant (UTC)."),
    end: str = typer.Option(..., "--to", help="End of the range (UTC), itself not included."),
    assets: list[str] = typer.Option(
        [], "--assets", help=f"Only these of {', '.join(work.ASSETS)}; comma or repeated."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Derive DXY 1m from the stored FX bars, and its 5m and 1h bars; only what differs is written.

    A run that was cut short is run again: what is done already is found unchanged. Exits 1 when the data break the
    contract, for example an index outside the hard limits; that month is not stored then.
    """
    now, chosen = SystemClock().now(), _assets(assets)
    first, last = period(start, end, now)
    url = market_url(Settings.from_env(), progress=note)
    with (
        session.user_errors(),
        session.connect(url, application_name="backfill", autocommit=True, role="dxy_writer") as conn,
    ):
        schema.require_head(conn)
        totals = _run(conn, first, last, now, chosen)
    if as_json:
        emit(
            {"from": first, "to": last, "changed": {name: asdict(total) for name, total in totals.items()}},
            as_json=True,
        )
    else:
        emit([{"asset": name, **_columns(asdict(total))} for name, total in totals.items()])


def _run(conn: Any, first: datetime, last: datetime, now: datetime, chosen: tuple[str, ...]) -> dict[str, Any]:
    """Work with a progress bar; whatever ends it early, say from where to go on."""
    totals: dict[str, Any] = {}
    done = first
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_bar(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task(f"{first:%Y-%m}", total=len(work.months(first, last)))
        try:
            for month in work.backfill(conn, first, last, now, chosen):
                done = month.end
                totals = {name: totals[name] + got if name in totals else got for name, got in month.changed.items()}
                progress.update(task, description=f"{min(done, last):%Y-%m}", advance=1)
        except bar_store.ContractViolation as error:
            _leave_word(first, done)
            if "DXY migration is in state" in str(error):
                raise UserError(str(error), hint='see "dxy migrate status"') from error
            console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
            raise typer.Exit(1) from error
        except BaseException:  # Ctrl-C, a lost connection
            _leave_word(first, done)
            raise
    return totals


def _leave_word(first: datetime, done: datetime) -> None:
    if done > first:
        note(f"done until {done:%Y-%m-%d}; go on with --from {done:%Y-%m-%d}")


def _assets(given: list[str]) -> tuple[str, ...]:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in work.ASSETS]:
        raise UserError(f"unknown asset {unknown[0]!r}", hint=f"choose from {', '.join(work.ASSETS)}")
    return tuple(name for name in work.ASSETS if name in names) or work.ASSETS


def _columns(counts: dict[str, int]) -> dict[str, int | None]:
    """The same columns for each asset, so that one table holds them all."""
    return {name: counts.get(name) for name in ("inserted", "updated", "deleted", "revived", "skipped_incomplete")}

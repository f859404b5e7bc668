"""`dxy checks`: which checks there are, running them on demand (read-only), and their thresholds."""

import typer
from psycopg.types.json import Jsonb

from dxy_pipeline.checks import engine
from dxy_pipeline.checks.config import CHECKS, THRESHOLDS_KEY, Rhythm
from dxy_pipeline.checks.thresholds import parsed_threshold, shown
from dxy_pipeline.cli import output
from dxy_pipeline.cli.reading import reading
from dxy_pipeline.core.clock import SystemClock
from dxy_pipeline.db import schema, session
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sql import load

app = typer.Typer(no_args_is_help=True)


@app.callback()
def root() -> None:
    """List the checks, run them, or set a threshold."""


@app.command("list")
def list_checks(as_json: bool = typer.Option(False, "--json", help="Print as JSON.")) -> None:
    """List every check: asset, name, severity, what it means, thresholds."""
    rows = [
        {
            "asset": c.asset,
            "check": c.name,
            "severity": c.severity,
            "meaning": c.description,
            "thresholds": {k: shown(v) for k, v in c.thresholds.items()},
        }
        for c in CHECKS
    ]
    output.emit(rows, as_json=as_json)


@app.command("run")
def run_checks(
    only: list[str] = typer.Option([], "--only", help="Name of a check; may be given several times."),
    rhythm: Rhythm = typer.Option(Rhythm.MINUTE, help="minute: the last 48 hours; daily: the whole history."),
    sample: int = typer.Option(10, min=1, max=10_000, help="How many violating rows to keep of each check."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON, violating rows included."),
) -> None:
    """Run checks now and show what they found. Exits 1 when one fails."""
    if unknown := set(only) - {c.name for c in CHECKS}:
        raise UserError(f"no check is called {', '.join(sorted(unknown))}", hint='"dxy checks list" shows the names')
    now = SystemClock().now()
    with reading("checks", statement_timeout=0) as conn:
        results = engine.run_checks(conn, now, only=only or None, rhythm=rhythm, sample=sample)
    if as_json:
        output.emit([{**vars(result), "rows": result.rows} for result in results], as_json=True)
    else:
        rows = [
            {"asset": r.asset_key, "check": r.name, "state": "ok" if r.passed else r.severity, "what": r.description}
            for r in results
        ]
        output.emit(rows, title=f"{rhythm} checks at {now:%Y-%m-%d %H:%M} UTC")
        for result in results:
            if result.rows:
                output.emit(result.rows, title=f"{result.key}: {engine.counted(result.violations)}")
    if not all(result.passed for result in results):
        raise typer.Exit(1)


@app.command("set")
def set_threshold(
    check: str = typer.Argument(help="The check as asset.check, such as fx_1m.gaps."),
    threshold: str = typer.Argument(help="The threshold, such as minutes."),
    value: str = typer.Argument(
        help='A number, pairs separated by commas, bands by era (1990-01-01=68-125,2015-01-01=80-120), or "default".'
    ),
) -> None:
    """Store another threshold in the database, for every process that runs checks; "default" takes it back."""
    new = None if value == "default" else parsed_threshold(check, threshold, value)
    settings = Settings.from_env()
    with (
        session.user_errors(),
        session.connect(market_url(settings), application_name="checks", autocommit=True) as conn,
        conn.transaction(),
    ):
        schema.require_head(conn)
        row = conn.execute(
            "SELECT s.value FROM dxy.setting AS s WHERE s.key = %s FOR UPDATE", (THRESHOLDS_KEY,)
        ).fetchone()
        stored = row[0] if row else {}
        mine = {**stored.get(check, {}), threshold: new}
        stored[check] = {name: kept for name, kept in mine.items() if kept is not None}
        conn.execute(load("queries/store_setting"), {"key": THRESHOLDS_KEY, "value": Jsonb(stored)})
    print(f"{check}: {threshold} is {'its default' if new is None else shown(new)} from the next look on")

"""`dxy migrate`: the migration of DXY 1m from derived_data_bars to data_bars, phase by phase. Thin: `migration.engine`."""

import csv
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import typer

from dxy_pipeline.cli.output import emit, note
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True)

JSON = typer.Option(False, "--json", help="Print JSON.")
DRY = typer.Option(False, "--dry-run", help="Say what would happen and what is in the way; change nothing.")
REASON = typer.Option("", "--reason", help="Why; goes into the audit.")
NATIVE = typer.Option(False, "--accept-native", help="Go on although data_bars holds DXY minutes that legacy lacks.")
ROUNDING = typer.Option(False, "--accept-rounding", help="Go on although values do not survive the column types.")
POLICY = typer.Option("stop", "--on-conflict", help="stop, or legacy-wins (both images are kept).")


@app.callback()
def group() -> None:
    """Move legacy DXY 1m rows to data_bars: reversible, proved by content. See docs/migration.md."""


def _migration() -> Migration:
    settings = Settings.from_env()
    return Migration(settings.direct_url or market_url(settings), note=note)


@app.command()
def plan(days: bool = typer.Option(False, "--days", help="One row for each day too."), as_json: bool = JSON) -> None:
    """What a migration of this database would meet. Reads only."""
    found = _migration().plan()
    listed = found.pop("days")
    emit({**found, "days": listed} if as_json else found, as_json=as_json)
    if days and not as_json:
        emit(listed, title="days")


@app.command()
def shadow(
    start: str = typer.Option(..., "--from", help="First day, YYYY-MM-DD (UTC)."),
    end: str = typer.Option(..., "--to", help="Day after the last one."),
    every: int = typer.Option(0, help="Compare again every so many seconds, until Ctrl-C."),
    as_json: bool = JSON,
) -> None:
    """Derive and compare with legacy without writing, for as long as wanted; differences as a table."""
    first, last = (_day(text) for text in (start, end))
    while True:
        found = _migration().shadow(first, last)
        if as_json:
            emit(found, as_json=True)
        else:
            emit({"minutes": found["minutes"], **found["verdicts"]}, title="shadow")
            if found["differences"]:
                emit(found["differences"], title="differences")
        if not every:
            raise typer.Exit(1 if found["differences"] else 0)
        time.sleep(every)


@app.command()
def rehearse(policy: str = POLICY, as_json: bool = JSON) -> None:
    """The whole migration on a restored copy in the embedded server, forward, back and forward, with timings."""
    emit(_migration().rehearse(policy=policy), as_json=as_json, title="rehearsal")


@app.command()
def prepare(
    accept_native: bool = NATIVE,
    accept_rounding: bool = ROUNDING,
    health_minutes: int = typer.Option(1440, help="Open minutes that must be healthy before `retire`."),
    dry_run: bool = DRY,
    reason: str = REASON,
    as_json: bool = JSON,
) -> None:
    """Prove a backup, store snapshot and baseline, widen the tables online."""
    migration = _migration()
    if dry_run:
        emit(
            migration.preview("prepare", accept_native=accept_native, accept_rounding=accept_rounding), as_json=as_json
        )
        return
    options = {"health_minutes": health_minutes}
    emit(
        migration.prepare(accept_native=accept_native, accept_rounding=accept_rounding, options=options, reason=reason),
        as_json=as_json,
    )


@app.command("dual-write")
def dual_write(
    readers_moved: bool = typer.Option(False, "--readers-moved", help="No reader adds both tables any more."),
    dry_run: bool = DRY,
    reason: str = REASON,
    as_json: bool = JSON,
) -> None:
    """From here on every DXY 1m write reaches both tables. Again: restore missing triggers."""
    migration = _migration()
    run = lambda: migration.dual_write(readers_moved=readers_moved, reason=reason)  # noqa: E731
    emit(migration.preview("dual-write") if dry_run else run(), as_json=as_json)


@app.command()
def backfill(
    policy: str = POLICY,
    day: list[str] = typer.Option([], "--day", help="Only this day (YYYY-MM-DD); may be given more than once."),
    again: bool = typer.Option(False, "--again", help="Done days too; writes only what is missing."),
    dry_run: bool = DRY,
    reason: str = REASON,
    as_json: bool = JSON,
) -> None:
    """Copy history into data_bars, day by day; goes on where it was cut off."""
    migration = _migration()
    if dry_run:
        emit(migration.preview("backfill"), as_json=as_json)
        return
    days: list[date] | None = [_day(text).date() for text in day] or None
    emit(migration.backfill(days=days, policy=policy, again=again, reason=reason), as_json=as_json)


@app.command()
def verify(
    repair: bool = typer.Option(False, "--repair", help="Make the tables equal; a clean verify must follow."),
    extra: str = typer.Option(
        "", "--on-extra", help="--repair: copy or delete minutes that only the table which readers do not use has."
    ),
    dry_run: bool = DRY,
    reason: str = REASON,
    as_json: bool = JSON,
) -> None:
    """Compare count and content of both tables; exits 1 when minutes differ, and lists them."""
    migration = _migration()
    if dry_run:
        emit(migration.preview("verify"), as_json=as_json)
        return
    found = migration.verify(repair=repair, extra=extra, reason=reason)
    failures = found.pop("failures", [])
    emit({**found, "failures": failures} if as_json else found, as_json=as_json)
    if failures:
        if not as_json:
            emit(failures[:50], title="failing minutes")
        raise typer.Exit(1)


@app.command()
def cutover(dry_run: bool = DRY, reason: str = REASON, as_json: bool = JSON) -> None:
    """Switch readers and roll-ups to data_bars in one transaction."""
    migration = _migration()
    emit(migration.preview("cutover") if dry_run else migration.cutover(reason=reason), as_json=as_json)


@app.command()
def watch(
    every: int = typer.Option(0, help="Look again every so many seconds (300 in the runbook), until Ctrl-C."),
    as_json: bool = JSON,
) -> None:
    """The seed's post-deployment health check; its results make up the health window."""
    while True:
        found = _migration().watch()
        emit(found, as_json=as_json, title=f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z")
        if not every:
            raise typer.Exit(1 if any(row["status"] == "FAIL" for row in found) else 0)
        time.sleep(every)


@app.command()
def retire(dry_run: bool = DRY, reason: str = REASON, as_json: bool = JSON) -> None:
    """After a green health window: soft-delete legacy rows with this migration's tag, close legacy for DXY 1m."""
    migration = _migration()
    emit(migration.preview("retire") if dry_run else migration.retire(reason=reason), as_json=as_json)


@app.command()
def rollback(dry_run: bool = DRY, reason: str = REASON, as_json: bool = JSON) -> None:
    """Back to legacy, from every state, exactly; goes on where it was cut off."""
    migration = _migration()
    emit(migration.preview("rollback") if dry_run else migration.rollback(reason=reason), as_json=as_json)


@app.command()
def pause(dry_run: bool = DRY, reason: str = REASON, as_json: bool = JSON) -> None:
    """Stop a running backfill within one batch."""
    migration = _migration()
    emit(migration.preview("pause") if dry_run else migration.pause(reason=reason), as_json=as_json)


@app.command()
def resume(policy: str = POLICY, dry_run: bool = DRY, reason: str = REASON, as_json: bool = JSON) -> None:
    """Go on with a paused backfill."""
    migration = _migration()
    if dry_run:
        emit(migration.preview("resume"), as_json=as_json)
        return
    migration.pause(paused=False, reason=reason)
    emit(migration.backfill(policy=policy, reason=reason), as_json=as_json)


@app.command()
def status(as_json: bool = JSON) -> None:
    """State, progress and ETA, last verification, health window, rows on both sides."""
    emit(_migration().status(), as_json=as_json)


@app.command()
def checklist(as_json: bool = JSON) -> None:
    """The seed's exit criteria, deployment checklist, watch, verify commands and success metrics."""
    emit(_migration().checklist(), as_json=as_json, title="checklist")


@app.command()
def sign(
    item: str = typer.Argument(..., help="The item, as the checklist spells it."),
    operator: str = typer.Option(..., "--operator", help="Who signs."),
    remark: str = typer.Option("", "--note", help="What was seen."),
    as_json: bool = JSON,
) -> None:
    """Sign an item of the checklist that no machine can judge."""
    emit(_migration().sign(item, operator=operator, note=remark), as_json=as_json)


@app.command()
def audit(as_json: bool = JSON) -> None:
    """Who did what, when and why; rows before and after."""
    rows = _migration().audit()
    shown = rows if as_json else [{k: r[k] for k in ("at", "actor", "action", "from_state", "to_state", "reason",
                                                     "counts_after")} for r in rows]  # fmt: skip
    emit(shown, as_json=as_json, title="audit")


@app.command()
def conflicts(
    to_csv: Path | None = typer.Option(None, "--csv", help="Write the report to this file (- for stdout)."),
    as_json: bool = JSON,
) -> None:
    """Minutes on which both tables disagree: both prices, the recomputed one, the decision."""
    rows = _migration().conflicts()
    if to_csv is None:
        emit(rows, as_json=as_json, title="conflicts")
        return
    names = ("ts_utc", "legacy_price", "target_price", "recomputed_price", "decision")
    with sys.stdout if str(to_csv) == "-" else to_csv.open("w", newline="") as file:
        writer: Any = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({**row, "ts_utc": row["ts_utc"].isoformat()} for row in rows)


def _day(text: str) -> datetime:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise UserError(f"not a day: {text!r}", hint="for example 2024-06-10") from None
    if day > datetime.now(UTC) + timedelta(days=1):
        raise UserError(f"{text} is in the future", hint="a day up to today")
    return day

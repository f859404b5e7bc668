"""`dxy migrate`: the migration of DXY 1m from derived_data_bars to data_bars, phase by phase. Thin: `migration.engine`."""

import csv
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dxy_pipeline.cli.output import emit, note
from dxy_pipeline.cli.period import period, whole_day
from dxy_pipeline.core.clock import SystemClock
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would happen and what is in the way; change nothing.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; goes into the audit.")]
Policy = Annotated[str, typer.Option("--on-conflict", help="stop, or legacy-wins (both images are kept).")]


@app.callback()
def group() -> None:
    """Move legacy DXY 1m rows to data_bars: reversible, proved by content. See docs/migration.md."""


def _migration() -> Migration:
    settings = Settings.from_env()
    return Migration(settings.direct_url or market_url(settings), note=note)


def _change(
    action: str,
    run: Callable[[Migration], Any],
    *,
    dry_run: bool,
    as_json: bool,
    title: str = "",
    flags: dict[str, Any] | None = None,
) -> Any:
    """Run a changing command, or (`dry_run`) say what it would do with these flags; print and return the result."""
    migration = _migration()
    found = migration.preview(action, **(flags or {})) if dry_run else run(migration)
    emit(found, as_json=as_json, title=title)
    return found


@app.command()
def plan(
    days: Annotated[bool, typer.Option("--days", help="One row for each day too.")] = False, as_json: Json = False
) -> None:
    """What a migration of this database would meet. Reads only."""
    found = _migration().plan()
    listed = found.pop("days")
    emit({**found, "days": listed} if as_json else found, as_json=as_json)
    if days and not as_json:
        emit(listed, title="days")


@app.command()
def shadow(
    start: Annotated[str, typer.Option("--from", help="First day or instant (UTC).")],
    end: Annotated[str, typer.Option("--to", help="End of the range (UTC), itself not included.")],
    every: Annotated[int, typer.Option(help="Compare again every so many seconds, until Ctrl-C.")] = 0,
    as_json: Json = False,
) -> None:
    """Derive and compare with legacy without writing, for as long as wanted; differences as a table."""
    first, last = period(start, end, SystemClock().now())

    def compare() -> bool:
        found = _migration().shadow(first, last)
        if as_json:
            emit(found, as_json=True)
            return bool(found["differences"])
        emit({"minutes": found["minutes"], **found["verdicts"]}, title="shadow")
        if found["differences"]:
            emit(found["differences"], title="differences")
        return bool(found["differences"])

    _again_and_again(compare, every)


@app.command()
def rehearse(policy: Policy = "stop", as_json: Json = False) -> None:
    """The whole migration on a restored copy in the embedded server, forward, back and forward, with timings."""
    emit(_migration().rehearse(policy=policy), as_json=as_json, title="rehearsal")


@app.command()
def prepare(
    accept_native: Annotated[
        bool, typer.Option("--accept-native", help="Go on although data_bars holds DXY minutes that legacy lacks.")
    ] = False,
    accept_rounding: Annotated[
        bool, typer.Option("--accept-rounding", help="Go on although values do not survive the column types.")
    ] = False,
    health_minutes: Annotated[int, typer.Option(help="Open minutes that must be healthy before `retire`.")] = 1440,
    dry_run: DryRun = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Prove a backup, store snapshot and baseline, widen the tables online."""
    accepted = {"accept_native": accept_native, "accept_rounding": accept_rounding}
    options = {"health_minutes": health_minutes}
    _change("prepare", lambda m: m.prepare(**accepted, options=options, reason=reason),
            dry_run=dry_run, as_json=as_json, flags=accepted)  # fmt: skip


@app.command("dual-write")
def dual_write(
    readers_moved: Annotated[
        bool, typer.Option("--readers-moved", help="No reader adds both tables any more.")
    ] = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """From here on every DXY 1m write reaches both tables. Again: restore missing triggers."""
    _change("dual-write", lambda m: m.dual_write(readers_moved=readers_moved, reason=reason),
            dry_run=dry_run, as_json=as_json, flags={"readers_moved": readers_moved})  # fmt: skip


@app.command()
def backfill(
    policy: Policy = "stop",
    day: Annotated[
        list[str] | None, typer.Option("--day", help="Only this day (YYYY-MM-DD); may be given more than once.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Done days too; writes only what is missing.")] = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Copy history into data_bars, day by day; goes on where it was cut off."""
    days = [whole_day(text) for text in day or []] or None
    _change("backfill", lambda m: m.backfill(days=days, policy=policy, again=again, reason=reason),
            dry_run=dry_run, as_json=as_json)  # fmt: skip


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Make the tables equal; a clean verify must follow.")
    ] = False,
    extra: Annotated[
        str,
        typer.Option(
            "--on-extra", help="--repair: copy or delete minutes that only the table which readers do not use has."
        ),
    ] = "",
    dry_run: DryRun = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Compare count and content of both tables; exits 1 when minutes differ, and lists them."""
    if dry_run:
        emit(_migration().preview("verify", repair=repair), as_json=as_json)
        return
    found = _migration().verify(repair=repair, extra=extra, reason=reason)
    failures = found.pop("failures", [])
    emit({**found, "failures": failures} if as_json else found, as_json=as_json)
    if failures:
        if not as_json:
            emit(failures[:50], title="failing minutes")
        raise typer.Exit(1)


@app.command()
def cutover(dry_run: DryRun = False, reason: Reason = "", as_json: Json = False) -> None:
    """Switch readers and roll-ups to data_bars in one transaction."""
    _change("cutover", lambda m: m.cutover(reason=reason), dry_run=dry_run, as_json=as_json)


@app.command()
def watch(
    every: Annotated[
        int, typer.Option(help="Look again every so many seconds (300 in the runbook), until Ctrl-C.")
    ] = 0,
    dry_run: DryRun = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """The seed's post-deployment health check; its results make up the health window."""

    def look() -> bool:
        title = f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z"
        found = _change("watch", lambda m: m.watch(reason=reason), dry_run=dry_run, as_json=as_json, title=title)
        return any(row["status"] == "FAIL" for row in (found["would enter"] if dry_run else found))

    _again_and_again(look, every)


def _again_and_again(look: Callable[[], bool], every: int) -> None:
    """Look once and exit (1 when it says so), or every so many seconds: then trouble is said, and the next look comes."""
    while True:
        try:
            alarm = look()
        except UserError as error:
            if not every:
                raise
            note(f"could not look: {error}; again in {every} s")
        else:
            if not every:
                raise typer.Exit(1 if alarm else 0)
        time.sleep(every)


@app.command()
def retire(dry_run: DryRun = False, reason: Reason = "", as_json: Json = False) -> None:
    """After a green health window: soft-delete legacy rows with this migration's tag, close legacy for DXY 1m."""
    _change("retire", lambda m: m.retire(reason=reason), dry_run=dry_run, as_json=as_json)


@app.command()
def rollback(dry_run: DryRun = False, reason: Reason = "", as_json: Json = False) -> None:
    """Back to legacy, from every state, exactly; goes on where it was cut off."""
    _change("rollback", lambda m: m.rollback(reason=reason), dry_run=dry_run, as_json=as_json)


@app.command()
def pause(dry_run: DryRun = False, reason: Reason = "", as_json: Json = False) -> None:
    """Stop a running backfill within one batch."""
    _change("pause", lambda m: m.pause(reason=reason), dry_run=dry_run, as_json=as_json)


@app.command()
def resume(policy: Policy = "stop", dry_run: DryRun = False, reason: Reason = "", as_json: Json = False) -> None:
    """Go on with a paused backfill."""

    def go_on(migration: Migration) -> dict[str, Any]:
        migration.pause(paused=False, reason=reason)
        return migration.backfill(policy=policy, reason=reason)

    _change("resume", go_on, dry_run=dry_run, as_json=as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """State, progress and ETA, last verification, health window, rows on both sides."""
    emit(_migration().status(), as_json=as_json)


@app.command()
def checklist(as_json: Json = False) -> None:
    """The seed's exit criteria, deployment checklist, watch, verify commands and success metrics."""
    emit(_migration().checklist(), as_json=as_json, title="checklist")


@app.command()
def sign(
    item: Annotated[str, typer.Argument(help="The item, as the checklist spells it.")],
    operator: Annotated[str, typer.Option("--operator", help="Who signs.")],
    remark: Annotated[str, typer.Option("--note", help="What was seen.")] = "",
    dry_run: DryRun = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Sign an item of the checklist that no machine can judge."""
    _change("sign", lambda m: m.sign(item, operator=operator, note=remark, reason=reason),
            dry_run=dry_run, as_json=as_json, flags={"item": item, "operator": operator})  # fmt: skip


@app.command()
def audit(as_json: Json = False) -> None:
    """Who did what, when and why; rows before and after."""
    rows = _migration().audit()
    shown = rows if as_json else [{k: r[k] for k in ("at", "actor", "action", "from_state", "to_state", "reason",
                                                     "counts_after")} for r in rows]  # fmt: skip
    emit(shown, as_json=as_json, title="audit")


@app.command()
def conflicts(
    to_csv: Annotated[Path | None, typer.Option("--csv", help="Write the report to this file (- for stdout).")] = None,
    as_json: Json = False,
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

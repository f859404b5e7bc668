"""What `dxy load` does with any source: store its batches, count, show, and the exit code that follows.

The bar store writes a batch a transaction. A load that was cut short is simply run again: what is stored already is
counted as unchanged.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import typer
from psycopg import Connection
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from dxy_pipeline import bar_store
from dxy_pipeline.cli.output import emit, note, progress_bar
from dxy_pipeline.core.bars import Rejected, RejectReason
from dxy_pipeline.db import schema, session
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources.protocol import FxSource

SHOWN_REFUSALS = 20


@dataclass
class Tally:
    """What a load did so far."""

    result: bar_store.WriteResult = field(default_factory=bar_store.WriteResult)
    reasons: Counter[str] = field(default_factory=Counter)
    refused: list[Rejected] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None

    def add(self, batch: Any, written: bar_store.WriteResult) -> None:
        """Count one batch; of the refused rows only the first few are kept, to be shown."""
        self.result += written
        self.reasons.update(str(row.reason) for row in batch.rejected)
        self.refused.extend(batch.rejected[: SHOWN_REFUSALS - len(self.refused)])
        self.notes.update(dict.fromkeys(batch.notes))
        if batch.rows:
            times = [row.ts_utc for row in batch.rows]
            self.first = min([*times, self.first or times[0]])
            self.last = max([*times, self.last or times[0]])


def run(
    sources: Callable[[Connection[Any]], Sequence[FxSource]],
    symbols: Sequence[str],
    window: tuple[datetime, datetime],
    *,
    accept_refused: bool,
    as_json: bool,
) -> None:
    """Store everything the sources give and show what became of it.

    Exits 1 when rows were refused, unless `accept_refused`. Raises UserError when all were.
    """
    tally = Tally()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} rows"))
    with (
        session.connect(
            market_url(Settings.from_env(), progress=note), application_name="load", autocommit=True, role="dxy_writer"
        ) as conn,
        progress_bar(*columns, TimeElapsedColumn()) as progress,
    ):
        schema.require_head(conn)
        task = progress.add_task("reading", total=None)
        try:
            with session.user_errors():
                for source in sources(conn):
                    for batch in source.bars(symbols, *window):
                        tally.add(batch, bar_store.write_fx(conn, source.name, source.feed, batch))
                        progress.update(task, description=batch.progress, advance=len(batch.rows) + len(batch.rejected))
        except UserError:
            if tally.result != bar_store.WriteResult():
                note(f"stored before the error: {tally.result.inserted:,} new bars; run it again to go on")
            raise
    _show(tally, as_json=as_json)
    if not tally.result.rejected:
        return
    if tally.first is None:
        reason, rows = tally.reasons.most_common(1)[0]
        raise UserError(
            f"none of the {tally.result.rejected:,} rows could be stored: {reason} ({rows:,})",
            hint="say which clock its times are in: --clock utc"
            if reason == RejectReason.NAIVE_TIME
            else "check format, pair and clock (dxy load --help); the rows are in dxy.rejected_bar",
        )
    note(f"warning: {tally.result.rejected:,} row(s) were refused; they are kept in dxy.rejected_bar")
    if not accept_refused:
        raise typer.Exit(1)


def _show(tally: Tally, *, as_json: bool) -> None:
    counts = {f: getattr(tally.result, f) for f in ("inserted", "updated", "unchanged", "outranked", "rejected")}
    span = {"first": tally.first, "last": tally.last}
    refused = [{"row": r.location, "symbol": r.symbol, "time": r.ts, "reason": r.reason} for r in tally.refused]
    if as_json:
        emit({**counts, **span, "reasons": tally.reasons, "refused": refused, "notes": list(tally.notes)}, as_json=True)
        return
    emit({**counts, **span})
    for line in tally.notes:
        note(line)
    if refused:
        emit([{"refused because": reason, "rows": rows} for reason, rows in tally.reasons.most_common()])
        emit(refused, title="refused rows")
        if tally.result.rejected > len(refused):
            note(f"shown: the first {len(refused)} of {tally.result.rejected:,}; all are in dxy.rejected_bar")
    if not tally.first and not refused:
        note("nothing to load in this range")

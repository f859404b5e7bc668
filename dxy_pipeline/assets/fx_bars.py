"""The FX minute bars of the six pairs: fetched from a source, or observed where another worker writes them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import dagster as dg
import psycopg

from dxy_pipeline import bar_reads, bar_store, live_state
from dxy_pipeline.assets import outcome
from dxy_pipeline.assets.tables import FX_1M
from dxy_pipeline.bar_store import WriteResult
from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.partitions import DAILY
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock
from dxy_pipeline.sources.protocol import FxSource, SourceError


@dg.asset(
    key="fx_1m",
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    **FX_1M,
)
def fx_1m(context: dg.AssetExecutionContext, market: MarketDatabase, feed: FxFeed, clock: PipelineClock) -> None:
    """FX minute bars of EURUSD, USDJPY, GBPUSD, USDCAD, USDSEK and USDCHF, checked row by row, in `data_bars`.

    Bars that break the contract go to a reject table with their reason; a better source's bar is never overwritten.
    """
    start, end = outcome.window(context)
    with outcome.as_failure(), market.connect("fx_1m") as conn:
        if outcome.is_automatic(context):
            written, notes = _live(conn, feed, clock, start, context.log.warning)
        else:
            source = feed.source(clock.clock())
            (written, _), notes = fetch(conn, source, SYMBOLS, start, end, context.log.info, context.log.info), {}
        figures = bar_reads.day_figures(conn, "fx_1m", start, end)
        malformed = bar_reads.malformed_bars(conn, start, end, clock.now())
    changed = {"inserted": written.inserted, "updated": written.updated, "refused": written.rejected}
    stored = {"malformed bars stored": sum(malformed.values()), **{f"malformed: {k}": n for k, n in malformed.items()}}
    outcome.report(context, figures, Timeframe.M1, len(SYMBOLS), changed, {"source": feed.name(), **stored, **notes})


def fetch(
    conn: psycopg.Connection,
    source: FxSource,
    pairs: Sequence[str],
    start: datetime,
    end: datetime,
    progress: Callable[[str], None],
    note: Callable[[str], None],
) -> tuple[WriteResult, datetime | None]:
    """Fetch the pairs' bars of [start, end), stored batch by batch; returns also the newest minute that there was.

    `progress` and `note` are told each batch's. Raises SourceError; what came before stays.
    """
    total, newest = WriteResult(), None
    for batch in source.bars(pairs, start, end):
        total += bar_store.write_fx(conn, source.name, source.feed, batch)
        times = [bar.ts_utc for bar in batch.rows]
        newest = max([newest, *times] if newest else times, default=None)
        if batch.progress:
            progress(batch.progress)
        for line in batch.notes:
            note(line)
    return total, newest


def catch_up(
    conn: psycopg.Connection,
    source: FxSource,
    starts: Mapping[str, datetime],
    end: datetime,
    note: Callable[[str], None],
) -> tuple[WriteResult, datetime]:
    """Fetch each pair from its start up to `end`, until a piece brought bars that are new. Raises SourceError.

    Returns also up to when all pairs are fetched: `end`, unless a pair has more pieces to come.
    """
    total, until = WriteResult(), end
    for start in sorted(set(starts.values())):
        pairs = [symbol for symbol in SYMBOLS if starts[symbol] == start]
        for first, last in live_state.pieces(start, end):
            written, newest = fetch(conn, source, pairs, first, last, lambda _: None, note)
            total += written
            if newest and newest - start > live_state.OVERLAP:  # before that are the bars it was known by
                until = min(until, last)
                break
    return total, until


def _live(
    conn: psycopg.Connection, feed: FxFeed, clock: PipelineClock, start: datetime, warn: Callable[[str], None]
) -> tuple[WriteResult, dict[str, str]]:
    """Fetch what is missing up to now. A source that is down is noted, not raised: the next minute asks again.

    Thirty failed runs an hour would bury what matters; the state is stored, shown here and watched by the freshness
    checks. A pair that was away is fetched from its own last bar, so that its return fills the hole.
    """
    now, name = clock.now(), feed.name()
    before = live_state.progress(conn, name)
    span = live_state.span(before, now)
    starts = live_state.pair_starts(live_state.latest_by_pair(conn), max(start, span.start))
    notes: dict[str, None] = {}  # each once, in order: DELAYED by the plan, for instance
    try:
        source = feed.source(clock.clock(), live=True)
        written, until = catch_up(conn, source, starts, span.end, notes.setdefault)
    except UserError as error:
        passing = isinstance(error, SourceError) and not error.refusal  # a broken answer too may be whole next time
        state: live_state.State = "unavailable" if passing else "refused"
        live_state.note(conn, name, before.fetched_until if before else span.start, state, str(error))
        warn(f"source {name} {state}: {error}")
        return WriteResult(), {"source state": f"{state}: {error}"}
    said = "; ".join(notes)
    if said and (before is None or before.detail != said[: live_state.DETAIL_LENGTH]):
        warn(f"source {name}: {said}")
    live_state.note(conn, name, until, detail=said)
    return written, {"source state": f"ok: {said}" if said else "ok"}

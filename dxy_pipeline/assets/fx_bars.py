"""The FX minute bars of the six pairs: fetched from a source, or observed where another worker writes them."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import dagster as dg
import psycopg

from dxy_pipeline import bar_store, live_state
from dxy_pipeline.assets import outcome
from dxy_pipeline.assets.tables import FX_1M
from dxy_pipeline.bar_store import WriteResult
from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.partitions import DAILY
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock
from dxy_pipeline.sources.protocol import FxSource, SourceError

PAIR_REACH = timedelta(days=7)  # how far back a live tick looks for the minutes of a pair that was away


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
            written, notes = fetch(conn, source, dict.fromkeys(SYMBOLS, start), end, context.log.info), {}
        figures = bar_store.day_figures(conn, "fx_1m", start, end)
    changed = {"inserted": written.inserted, "updated": written.updated, "refused": written.rejected}
    outcome.report(context, figures, Timeframe.M1, len(SYMBOLS), changed, {"source": feed.name(), **notes})


def fetch(
    conn: psycopg.Connection,
    source: FxSource,
    starts: Mapping[str, datetime],
    end: datetime,
    tell: Callable[[str], None],
) -> WriteResult:
    """Fetch each pair from its start up to `end`, stored batch by batch. Raises SourceError; what came before stays."""
    return _fetch(conn, source, starts, end, tell, tell)


def _fetch(
    conn: psycopg.Connection,
    source: FxSource,
    starts: Mapping[str, datetime],
    end: datetime,
    progress: Callable[[str], None],
    note: Callable[[str], None],
) -> WriteResult:
    total = WriteResult()
    for start in sorted(set(starts.values())):
        pairs = [symbol for symbol in SYMBOLS if starts[symbol] == start]
        for batch in source.bars(pairs, start, end):
            total += bar_store.write_fx(conn, source.name, source.feed, batch)
            if batch.progress:
                progress(batch.progress)
            for line in batch.notes:
                note(line)
    return total


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
    since = max(start, span.start)
    starts = {
        symbol: min(since, max((latest or since) - live_state.OVERLAP, now - PAIR_REACH))
        for symbol, latest in live_state.latest_by_pair(conn).items()
    }
    notes: dict[str, None] = {}  # each once, in order: DELAYED by the plan, for instance
    try:
        source = feed.source(clock.clock(), live=True)
        written = _fetch(conn, source, starts, span.end, lambda _: None, notes.setdefault)
    except UserError as error:
        passing = isinstance(error, SourceError) and not error.refusal  # a broken answer too may be whole next time
        state: live_state.State = "unavailable" if passing else "refused"
        live_state.note(conn, name, before.fetched_until if before else span.start, state, str(error))
        warn(f"source {name} {state}: {error}")
        return WriteResult(), {"source state": f"{state}: {error}"}
    said = "; ".join(notes)
    if said and (before is None or before.detail != said[: live_state.DETAIL_LENGTH]):
        warn(f"source {name}: {said}")
    live_state.note(conn, name, span.end, detail=said)
    return written, {"source state": f"ok: {said}" if said else "ok"}

"""The index in five-minute and hourly bars, both made straight from the minutes."""

from typing import Any

import dagster as dg

from dxy_pipeline import bar_reads, bar_store, live_state
from dxy_pipeline.assets import outcome
from dxy_pipeline.assets.tables import rollup_table
from dxy_pipeline.bar_store import RollUpResult
from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.db.ownership import OURS
from dxy_pipeline.partitions import DAILY
from dxy_pipeline.resources import MarketDatabase, PipelineClock

_DESCRIPTION = """US Dollar Index {timeframe} bars: first open, highest high, lowest low, last close of their minutes.

Each stores how many minutes it was made of and how many open market minutes there were; under 60 % there is no bar.
The bar of the current bucket is marked partial until it can no longer receive a minute."""


def _rollup_asset(timeframe: Timeframe) -> dg.AssetsDefinition:
    """Return the asset of one timeframe. Hours come not from 5m bars: a dropped one would take its extremes along."""
    key = f"dxy_{timeframe}"

    @dg.asset(
        key=key,
        deps=["dxy_1m"],
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=_DESCRIPTION.format(timeframe=timeframe),
        **rollup_table(timeframe),
    )
    def rollup(context: dg.AssetExecutionContext, market: MarketDatabase, clock: PipelineClock) -> None:
        start, end = outcome.window(context)
        with outcome.as_failure(), market.connect(key, statement_timeout=outcome.time_limit(context)) as conn:
            state = live_state.migration_state(conn)
            # Until the cutover the desk's aggregator owns these bars: each minute's run looks, one by hand is refused.
            observe = outcome.is_automatic(context) and state not in OURS
            result = RollUpResult() if observe else bar_store.roll_up(conn, timeframe, start, end, clock.now())
            figures = bar_reads.day_figures(conn, key, start, end)
            closes = bar_reads.closes(conn, timeframe, start, end) if outcome.single_day(context) else ()
        changed: dict[str, Any] = {
            "inserted": result.inserted, "updated": result.updated, "soft-deleted": result.deleted,
            "revived": result.revived,
        }  # fmt: skip
        notes = {"observed only": f"the migration is in state {state}"} if observe else None
        outcome.report(context, figures, timeframe, 1, changed, notes, closes)

    return rollup


dxy_5m = _rollup_asset(Timeframe.M5)
dxy_1h = _rollup_asset(Timeframe.H1)

"""The index itself, minute by minute: one call of the database's own function."""

from datetime import UTC, datetime

import dagster as dg

from dxy_pipeline import bar_reads, bar_store, live_state
from dxy_pipeline.assets import outcome
from dxy_pipeline.assets.tables import DXY_1M
from dxy_pipeline.bar_store import DeriveResult
from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.db.ownership import NOT_YET, PARTLY, partly_from
from dxy_pipeline.partitions import DAILY, day_start
from dxy_pipeline.resources import MarketDatabase


@dg.asset(
    key="dxy_1m",
    deps=["fx_1m"],
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    **DXY_1M,
)
def dxy_1m(context: dg.AssetExecutionContext, market: MarketDatabase) -> None:
    """US Dollar Index minute bars: 50.14348112 · Π rateᵂ for each minute in which all six pairs have a bar.

    All six or nothing, no carry-forward; open = high = low = close. Only rows that differ are written, and a minute
    that lost an input loses its bar. Hard limits and the count-match hold inside the transaction, else nothing commits.
    """
    start, end = outcome.window(context)
    notes: dict[str, str] = {}
    with outcome.as_failure(), market.connect("dxy_1m", statement_timeout=outcome.time_limit(context)) as conn:
        state = live_state.migration_state(conn)
        # While bars still belong to the legacy table a run by hand fails and says what comes next; an automatic one
        # writes what is ours and looks at the rest, or the wait for a person's decision would be a storm of failures.
        ours = start
        if outcome.is_automatic(context) and state in NOT_YET | PARTLY:
            ours = end if state in NOT_YET else max(start, day_start(partly_from(datetime.now(UTC))))
            notes["observed only"] = f"what comes before {ours:%Y-%m-%d}: the migration is in state {state}"
        result = bar_store.derive(conn, ours, end) if ours < end else DeriveResult()
        figures = bar_reads.day_figures(conn, "dxy_1m", start, end)
        closes = bar_reads.closes(conn, "1m", start, end) if outcome.single_day(context) else ()
    changed = {
        "inserted": result.inserted,
        "updated": result.updated,
        "deleted": result.deleted,
        "skipped (a pair missing)": result.skipped_incomplete,
    }
    outcome.report(context, figures, Timeframe.M1, 1, changed, notes, closes)

"""Four years against one: the pipeline's three writes, nothing there before."""

from collections.abc import Iterator

from dxy_pipeline import bar_store
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import END, Market, Sizes, best, cost


def measure(year: Market, four_years: Market, sizes: Sizes) -> Iterator[Figure]:
    """Yield the figure. Leaves both spans derived and rolled up."""
    costs = {year.url: [], four_years.url: []}
    for _ in range(sizes.runs):
        for market in (year, four_years):
            market.clear()
            costs[market.url].append(cost(market, lambda market=market: whole(market)))
    ratio = best(costs[four_years.url]).seconds / best(costs[year.url]).seconds
    yield Figure("growth: four years ÷ one year (DXY 1m, 5m, 1h)", ratio, 4.4)


def whole(market: Market) -> None:
    """Derive and roll up all there is, as the assets do, without Dagster."""
    bar_store.derive(market.conn, market.start, END)
    for timeframe in bar_store.ROLLUP_TIMEFRAMES:
        bar_store.roll_up(market.conn, timeframe, market.start, END, now=END)

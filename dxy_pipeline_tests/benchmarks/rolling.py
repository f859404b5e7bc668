"""5m and 1h of the year: against the bare write of the same rows, and again with nothing changed."""

from collections.abc import Iterator

from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import END, Cost, Market, Sizes, best, cost

CALL = "SELECT public.calc_dxy_rollup_range(%s, %s, %s)"
FLOOR = "INSERT INTO public.derived_data_bars SELECT f.* FROM public.finished AS f ORDER BY f.ts_utc"


def measure(market: Market, sizes: Sizes) -> Iterator[Figure]:
    """Yield the figures of the roll-ups. Needs nothing, leaves the span derived and rolled up."""
    market.conn.execute("SELECT public.calc_dxy_range_1m(%s, %s)", (market.start, END))
    market.settle()
    for timeframe in ("5m", "1h"):
        first, floor, again = _compare(market, timeframe, sizes.runs)
        if timeframe == "5m":
            yield Figure("5m of the year ÷ its own write floor", first.seconds / floor.seconds, 5.0)
        yield Figure(f"{timeframe}: WAL of the re-run ÷ WAL of the first run", 100 * again.wal / first.wal, 0.1, " %")


def _compare(market: Market, timeframe: str, runs: int) -> tuple[Cost, Cost, Cost]:
    """Return first run, write floor and re-run."""

    def roll_up() -> object:
        return market.conn.execute(CALL, (timeframe, market.start, END)).fetchone()

    def empty() -> None:
        market.conn.execute("TRUNCATE public.derived_data_bars, dxy.bar_revision")
        market.settle()

    empty()
    roll_up()
    market.conn.execute("CREATE TABLE public.finished AS SELECT * FROM public.derived_data_bars")
    firsts, floors, again = [], [], []
    for _ in range(runs):
        empty()
        floors.append(cost(market, lambda: market.conn.execute(FLOOR)))
        empty()
        firsts.append(cost(market, roll_up))
        market.conn.execute("VACUUM (ANALYZE) public.derived_data_bars")
        again.extend(cost(market, roll_up) for _ in range(2))
    market.conn.execute("DROP TABLE public.finished")
    return best(firsts), best(floors), best(again)

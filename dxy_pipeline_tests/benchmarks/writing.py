"""The derivation against the bare write of the same rows, against the seed's function, and against itself again."""

from collections.abc import Iterator
from datetime import timedelta
from statistics import median

from dxy_pipeline import bar_store
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import END, Market, Sizes, best, cost, statement

LAST_OPEN = timedelta(days=2, hours=2)  # 29 December 2023, 22:00 UTC: the market's last close before `END`
FLOOR = "INSERT INTO public.data_bars SELECT f.* FROM public.finished AS f ORDER BY f.ts_utc"


def measure(market: Market, sizes: Sizes) -> Iterator[Figure]:
    """Yield the figures of DXY 1m. Leaves the span derived."""
    span = (market.start, END)

    def derive() -> object:
        return market.conn.execute("SELECT public.calc_dxy_range_1m(%s, %s)", span).fetchone()

    market.clear()
    derive()
    market.conn.execute("CREATE TABLE public.finished AS SELECT * FROM public.data_bars WHERE canonical_symbol = 'DXY'")
    market.conn.execute("VACUUM (ANALYZE) public.finished")
    floors, bare, firsts, again = [], [], [], []
    for _ in range(sizes.runs):
        market.clear()
        floors.append(cost(market, lambda: market.conn.execute(FLOOR)))
        market.clear()
        market.conn.execute("SET session_replication_role = replica")
        bare.append(cost(market, lambda: market.conn.execute(FLOOR)))
        market.conn.execute("RESET session_replication_role")
        market.clear()
        firsts.append(cost(market, derive))
        market.conn.execute("VACUUM (ANALYZE) public.data_bars")
        again.extend(cost(market, derive) for _ in range(2))
    floor, first, repeat = best(floors), best(firsts), best(again)
    yield Figure(
        "first derivation ÷ write floor (the same rows by INSERT … SELECT, our triggers on both sides)",
        first.seconds / floor.seconds,
        3.0,
    )
    yield Figure("first derivation with our triggers ÷ write floor without them", first.seconds / best(bare).seconds)
    yield Figure("first derivation", first.seconds, unit=" s")
    yield from _live(market, sizes)
    yield Figure("re-run with nothing changed ÷ first run", repeat.seconds / first.seconds, 0.8)
    yield Figure("WAL of the re-run ÷ WAL of the first run", 100 * repeat.wal / first.wal, 0.1, " %")
    yield _seed(market, first.seconds)
    market.conn.execute("DROP TABLE public.finished")


def _live(market: Market, sizes: Sizes) -> Iterator[Figure]:
    """The store's own call, as a live run makes it: locks, touched minutes and retries included."""
    end = END - LAST_OPEN
    for name, window, bound in (
        ("the last two hours again", timedelta(hours=2), 25),
        ("one day again", timedelta(days=1), 100),
    ):

        def again(start: timedelta = window) -> object:
            return bar_store.derive(market.conn, end - start, end)

        taken = [cost(market, again).seconds for _ in range(10 * sizes.runs)]
        yield Figure(f"{name} (median)", 1000 * median(taken), bound, " ms")


def _seed(market: Market, ours: float) -> Figure:
    """One run is enough: it takes many times as long as ours, and is no nearer the bound for it."""
    market.conn.execute(statement("seed_mended"))
    market.clear()
    call = "SELECT public.seed_calc_dxy_range_1m(%s, %s)"
    taken = cost(market, lambda: market.conn.execute(call, (market.start, END)))
    differing = market.conn.execute(
        "SELECT count(*) FROM public.finished AS f LEFT JOIN public.data_bars AS d USING (canonical_symbol, timeframe, ts_utc)"
        " WHERE abs(f.close - d.close) IS NULL OR abs(f.close - d.close) > 0.00000001"
    ).fetchone()
    assert differing == (0,), f"{differing} bars differ from the seed's by more than 1e-8"
    market.conn.execute("DROP FUNCTION public.seed_calc_dxy_range_1m(timestamptz, timestamptz, integer)")
    return Figure("the seed's function, defects 1 and 2 mended ÷ ours", taken.seconds / ours, 4.0, least=True)

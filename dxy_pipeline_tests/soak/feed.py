"""The simulated feed with the habits of a real one: duplicates, repeats, disorder, first guesses that are revised.

Everything it does wrong is mended by a later answer, so that in the end the simulated bars themselves are the truth.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from dxy_pipeline.core.bars import Bar, screen
from dxy_pipeline.core.clock import Clock, FixedClock
from dxy_pipeline.sources.protocol import Batch, SourceUnavailable
from dxy_pipeline.sources.simulated import SimulatedSource
from dxy_pipeline_tests.soak.plan import END, AcceleratedClock, Orders, Plan

REVISED_FOR = timedelta(minutes=10)  # less than the overlap with which live ticks ask again
DUPLICATE_EVERY, REVISED_EVERY, REPEATED_EVERY = 97, 3, 4


class UnsteadySource:
    """The simulated source as a desk's feed would bring it; judged row by row like every source."""

    name = "ingest"
    feed = "simulated"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clock: Clock = AcceleratedClock(plan)

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the bars of [start, end), and what the feed's own clock makes of it. Raises SourceUnavailable."""
        orders = Orders.read(self._plan.orders)
        if orders.down:
            raise SourceUnavailable("the soak's feed does not answer", hint="it comes back by itself")
        now, skew = self._clock.now(), timedelta(minutes=orders.skew)
        source = SimulatedSource(FixedClock(now + skew))
        for number, batch in enumerate(source.bars(symbols, start, max(end, end + skew))):
            rows = [self._first_guess(bar, end) for bar in batch.rows]
            rows += rows[::DUPLICATE_EVERY]
            random.Random(number).shuffle(rows)
            located = ((f"{bar.symbol} {bar.ts_utc:%Y-%m-%dT%H:%M}", bar) for bar in rows)
            good, refused = screen(located, now)
            yield Batch(good, refused, progress=batch.progress)
            if number % REPEATED_EVERY == 0:
                yield Batch(good, progress=f"{batch.progress} again")

    @staticmethod
    def _first_guess(bar: Bar, end: datetime) -> Bar:
        """Return some of the newest bars a little wrong; the next tick asks for them again and gets them right."""
        if end >= END or bar.ts_utc < end - REVISED_FOR or hash((bar.symbol, bar.ts_utc)) % REVISED_EVERY:
            return bar
        close = bar.close * 1.0002
        return bar._replace(close=close, high=max(bar.high, close), low=min(bar.low, close))

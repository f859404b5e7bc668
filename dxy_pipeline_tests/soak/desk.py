"""Another writer on the same table: late bars, corrections and deletions of days long past, kept in a book.

The book is the truth that the verdict asks for. An edit whose outcome is unknown (the connection was cut while it
committed) is done again: each is idempotent.
"""

import random
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import cycle

import psycopg

from dxy_pipeline import bar_store
from dxy_pipeline.core.bars import MINUTE, Bar
from dxy_pipeline.core.fx_week import is_open
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline_tests.soak.plan import END, START
from dxy_pipeline_tests.soak.stack import Stack

Key = tuple[str, datetime]
QUIET = timedelta(hours=12)  # no tick asks again for what is this old
EVERY_S = 0.7
KINDS = ("late", "corrected", "deleted")


class Desk(threading.Thread):
    """Edits bars until told to stop; `book` says what the edited minutes must be in the end, None for no bar."""

    def __init__(self, stack: Stack, truth: dict[Key, Bar]) -> None:
        super().__init__(name="desk", daemon=True)
        self.book: dict[Key, Bar | None] = {}
        self.done: Counter[str] = Counter()
        self._stack, self._truth = stack, truth
        self._present = sorted(truth, key=lambda key: key[1])
        minutes = (START + n * MINUTE for n in range((END - START) // MINUTE))
        self._absent = [key for m in minutes if is_open(m) for s in SYMBOLS if (key := (s, m)) not in truth]
        self._random = random.Random(2024)
        self._over = threading.Event()

    def stop(self) -> None:
        """Finish the edit under way and end."""
        self._over.set()
        self.join(120)

    def run(self) -> None:
        """Edit, one kind after the other, and again until each edit is known to be stored."""
        for kind in cycle(KINDS):
            if self._over.wait(EVERY_S):
                return
            edit = self._next(kind)
            while edit is not None and not self._stored(*edit):
                time.sleep(0.5)

    def _next(self, kind: str) -> tuple[str, Key, Bar | None] | None:
        try:
            with self._stack.connect() as conn:
                row = conn.execute("SELECT p.fetched_until FROM dxy.feed_progress AS p").fetchone()
        except psycopg.Error:
            return None
        reach = (row[0] if row else START) - QUIET
        if reach <= START:
            return None
        return {"late": self._late, "corrected": self._corrected, "deleted": self._deleted}[kind](reach)

    def _late(self, reach: datetime) -> tuple[str, Key, Bar | None] | None:
        """Return a bar for a minute that the feed never had one for."""
        symbol, minute = self._any(self._absent, reach)
        close = next((b.close for n in range(1, 30) if (b := self._truth.get((symbol, minute - n * MINUTE)))), None)
        if close is None or (symbol, minute) in self.book:
            return None
        return "late", (symbol, minute), Bar(symbol, minute, close, close, close, close, 1.0)

    def _corrected(self, reach: datetime) -> tuple[str, Key, Bar | None] | None:
        key = self._any(self._present, reach)
        bar = self._truth[key]
        close = round(bar.close * 1.0001, 8)  # as the column holds it
        return None if key in self.book else ("corrected", key, bar._replace(close=close, high=max(bar.high, close)))

    def _deleted(self, reach: datetime) -> tuple[str, Key, Bar | None] | None:
        key = self._any(self._present, reach)
        return None if key in self.book else ("deleted", key, None)

    def _any(self, keys: Sequence[Key], reach: datetime) -> Key:
        """Return one of `keys` (in order of time) before `reach`, the first when there is none."""
        return keys[self._random.randrange(max(bisect_left(keys, reach, key=lambda key: key[1]), 1))]

    def _stored(self, kind: str, key: Key, bar: Bar | None) -> bool:
        self.book[key] = bar
        try:
            with self._stack.connect() as conn:
                if bar is None:
                    conn.execute(
                        "DELETE FROM public.data_bars WHERE canonical_symbol = %s AND timeframe = '1m' AND ts_utc = %s",
                        key,
                    )
                else:
                    bar_store.write_fx(conn, "ingest", "file", Batch([bar]))
        except psycopg.Error:
            return False
        self.done[kind] += 1
        return True

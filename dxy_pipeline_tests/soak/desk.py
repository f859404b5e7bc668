"""Another writer on the same table: late bars, corrections and deletions of days long past, kept in a book.

The book is the truth that the verdict asks for. An edit whose outcome is unknown (the connection was cut while it
committed) is done again: each is idempotent.
"""

import random
import threading
from collections import Counter
from datetime import datetime, timedelta

import psycopg

from dxy_pipeline import bar_store
from dxy_pipeline.core.bars import Bar
from dxy_pipeline.core.fx_week import is_open
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline_tests.soak.plan import START
from dxy_pipeline_tests.soak.stack import Stack

Key = tuple[str, datetime]
QUIET = timedelta(hours=12)  # no tick asks again for what is this old
EVERY_S = 0.7


class Desk(threading.Thread):
    """Edits bars until told to stop; `book` says what the edited minutes must be in the end, None for no bar."""

    def __init__(self, stack: Stack, truth: dict[Key, Bar]) -> None:
        super().__init__(name="desk", daemon=True)
        self.book: dict[Key, Bar | None] = {}
        self.done: Counter[str] = Counter()
        self._stack, self._truth = stack, truth
        self._random = random.Random(2024)
        self._over = threading.Event()

    def stop(self) -> None:
        """Finish the edit under way and end."""
        self._over.set()
        self.join(120)

    def run(self) -> None:
        """Edit, and again until each edit is known to be stored."""
        while not self._over.wait(EVERY_S):
            edit = None
            while edit is None or not self._stored(*edit):
                if self._over.is_set() and edit is None:
                    return
                if edit is None and (edit := self._next()) is None:
                    break
                self._over.wait(0.5)

    def _next(self) -> tuple[str, Key, Bar | None] | None:
        try:
            with self._stack.connect() as conn:
                row = conn.execute("SELECT p.fetched_until FROM dxy.feed_progress AS p").fetchone()
        except psycopg.Error:
            return None
        reach = (row[0] if row else START) - QUIET
        if reach <= START:
            return None
        minute = START + timedelta(minutes=self._random.randrange((reach - START) // timedelta(minutes=1)))
        key = (self._random.choice(SYMBOLS), minute)
        if not is_open(minute) or key in self.book:
            return None
        bar = self._truth.get(key)
        if bar is None:
            close = next((b.close for n in range(1, 30) if (b := self._truth.get((key[0], minute - n * _M)))), None)
            return None if close is None else ("late", key, Bar(*key, close, close, close, close, 1.0))
        if self._random.random() < 0.5:
            return "deleted", key, None
        close = round(bar.close * 1.0001, 8)  # as the column holds it
        return "corrected", key, bar._replace(close=close, high=max(bar.high, close))

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


_M = timedelta(minutes=1)

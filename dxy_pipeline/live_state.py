"""How far the live feed has come: the few figures by which schedule and sensors decide what to run.

`fetched_until` moves on when a fetch succeeded, whether or not it brought bars: progress passes over empty windows of
any length (weekend, holiday, outage) and no cursor can wedge. Bars themselves are `bar_store`'s.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from psycopg.rows import class_row

from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.partitions import day_of, day_start
from dxy_pipeline.sources.protocol import OVERLAP
from dxy_pipeline.sql import load

FIRST_REACH = timedelta(days=3)  # what a new installation fetches at once, so that something is to be seen
LONGEST_REACH = timedelta(days=31)  # what one run catches up at most; the next minute's run goes on from there
LONG_WEEKEND = timedelta(
    days=4
)  # a pair's last bar is that much older than the feed's progress while the market is shut
DETAIL_LENGTH = 500  # characters of a source's own words that are kept

State = Literal["ok", "unavailable", "refused"]


@dataclass(frozen=True)
class Progress:
    """How a live feed stands: fetched without error up to `fetched_until`, in `state` since `since`."""

    feed: str
    fetched_until: datetime
    state: State
    detail: str
    since: datetime


@dataclass(frozen=True)
class Span:
    """What a live run covers: [start, end), aware UTC; `behind` is true when more waits after `end`."""

    start: datetime
    end: datetime
    behind: bool


def progress(conn: psycopg.Connection, feed: str) -> Progress | None:
    """Return how the live feed `feed` stands; None before its first fetch."""
    with conn.cursor(row_factory=class_row(Progress)) as cur:
        return cur.execute(
            "SELECT p.feed, p.fetched_until, p.state, p.detail, p.since FROM dxy.feed_progress AS p WHERE p.feed = %s",
            (feed,),
        ).fetchone()


def note(conn: psycopg.Connection, feed: str, until: datetime, state: State = "ok", detail: str = "") -> None:
    """Record how a fetch went; `until` is where the next one has to start, and the record never goes back."""
    conn.execute(
        load("queries/note_feed"), {"feed": feed, "until": until, "state": state, "detail": detail[:DETAIL_LENGTH]}
    )


def span(found: Progress | None, now: datetime) -> Span:
    """Return what a live run at `now` covers: from the last fetch less an overlap, bounded, to now."""
    start = min(found.fetched_until, now) - OVERLAP if found else day_start(day_of(now - FIRST_REACH))
    end = min(now, start + LONGEST_REACH)
    return Span(start, end, behind=end < now)


def pair_starts(latest: Mapping[str, datetime | None], since: datetime) -> dict[str, datetime]:
    """Return from when on a live run fetches each pair: `since`, earlier for a pair whose own last bar is older.

    So the return of a pair that was away fills its hole, however long it was. A pair without any bar begins at `since`.
    """
    return {symbol: min(since, (last or since + OVERLAP) - OVERLAP) for symbol, last in latest.items()}


def pieces(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut [start, end) into the pieces that a live run asks for, oldest first; it stops at one that brings something new.

    A piece is a month and a long weekend before it, or a quarter of a longer stretch: a pair that was away for years costs
    four requests a minute.
    The pair's last bar is its cursor, so the next run goes on after what was stored; a piece that brings nothing is passed
    over in the same run, so none can wedge.
    """
    reach = max(LONGEST_REACH + LONG_WEEKEND, (end - start) / 4)
    while start < end:
        yield start, min(start + reach, end)
        start += reach


def latest_by_pair(conn: psycopg.Connection) -> dict[str, datetime | None]:
    """Return the newest minute stored of each pair, None for a pair without any."""
    return dict(conn.execute(load("queries/latest_by_pair"), {"symbols": list(SYMBOLS)}).fetchall())


def migration_state(conn: psycopg.Connection) -> str:
    """Return where the move of legacy DXY bars stands; 'none' where there is nothing to move."""
    row = conn.execute("SELECT c.state FROM dxy.migration_control AS c").fetchone()
    return str(row[0]) if row else "none"

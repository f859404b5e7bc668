"""Deriving a range of history month by month: DXY 1m, then its roll-ups, each month whole before the next.

Belongs here: the order of the work and where it can be taken up again. Does not belong here: SQL (bar_store), printing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from dxy_pipeline import bar_store

ASSETS = ("dxy_1m", "dxy_5m", "dxy_1h")


@dataclass(frozen=True)
class Month:
    """One finished piece: its half-open range and what changed, by asset."""

    start: datetime
    end: datetime
    changed: dict[str, bar_store.DeriveResult | bar_store.RollUpResult]


def months(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Cut [start, end), aware UTC, at the turns of the month: no roll-up bucket lies across one."""
    cuts = [start]
    while True:
        last = cuts[-1]
        turn = datetime(last.year + last.month // 12, last.month % 12 + 1, 1, tzinfo=UTC)
        if turn >= end:
            return list(zip(cuts, [*cuts[1:], end], strict=True))
        cuts.append(turn)


def backfill(
    conn: psycopg.Connection, start: datetime, end: datetime, now: datetime, assets: Sequence[str] = ASSETS
) -> Iterator[Month]:
    """Make the assets hold exactly what follows from the FX bars of [start, end); yields each month when it is done.

    `conn` is in autocommit mode: an asset's month is one transaction, so a run that was cut short is simply repeated,
    and finds the months it had done unchanged. Raises what `bar_store.derive` and `bar_store.roll_up` raise.
    """
    for first, last in months(start, end):
        changed: dict[str, bar_store.DeriveResult | bar_store.RollUpResult] = {}
        if "dxy_1m" in assets:
            changed["dxy_1m"] = bar_store.derive(conn, first, last)
        for timeframe in bar_store.ROLLUP_TIMEFRAMES:
            if f"dxy_{timeframe}" in assets:
                changed[f"dxy_{timeframe}"] = bar_store.roll_up(conn, timeframe, first, last, now)
        yield Month(first, last, changed)

"""How assets are cut into partitions: one UTC day each. Pair and minute are rows, never partitions.

Belongs here: the partitions definition and the arithmetic between days and half-open UTC ranges.
Does not belong here: what is done with a range.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

DAY = timedelta(days=1)
FIRST_DAY = date(1999, 1, 4)  # the ECB's first reference rates

# No exclusions for weekends: a stray Saturday bar needs a partition to stand in. end_offset=1: today, unfinished, is a
# partition too. A finer or a two-dimensional grain does not pay: 527,000 minute keys cost 16 s to load, and a
# multi-partitioned asset cannot be relied on to back-fill a range in a single run.
DAILY = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC", end_offset=1)


def day_start(day: date) -> datetime:
    """Return midnight UTC at which `day` begins."""
    return datetime.combine(day, time.min, UTC)


def day_of(ts: datetime) -> date:
    """Return the UTC day in which the aware `ts` lies."""
    return ts.astimezone(UTC).date()


def key_of(day: date) -> str:
    """Return the partition key of `day`: 2026-11-20."""
    return day.isoformat()


def days(start: datetime, end: datetime) -> Iterator[date]:
    """Yield every UTC day that [start, end) touches, ascending."""
    day = day_of(start)
    while day_start(day) < end:
        yield day
        day += DAY


def ranges(wanted: Iterable[date], *, bridge: int = 0, longest: int = 366) -> list[tuple[date, date]]:
    """Join days to inclusive (first, last) ranges, ascending.

    Gaps of up to `bridge` days that nobody asked for are bridged (a weekend: one run costs less than two); no range is
    longer than `longest` days, so that each run stays bounded.
    """
    found: list[tuple[date, date]] = []
    for day in sorted(set(wanted)):
        if found and (day - found[-1][1]).days <= bridge + 1 and (day - found[-1][0]).days < longest:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found

"""When the spot FX market is open: Sunday 17:00 to Friday 17:00 New York local time, less the year-end closures.

No calendar library has it right (the usual ones are a day wrong at the weekend or miss the daylight-saving changes),
so it is worked out here from the zone database, with the closures as data. Everything comes and goes as aware UTC,
half-open. A minute T is open when the market is open at T. Which pairs are thin at which hour does not belong here.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from dxy_pipeline.core.bars import MINUTE, ceil_to, floor_to

NEW_YORK = ZoneInfo("America/New_York")
WEEK_TURN = time(17, 0)
WEEK_MINUTES = 5 * 24 * 60


class Closure(NamedTuple):
    """A yearly closure in New York local time, from (month, day, time) to (month, day, time) soon after."""

    from_month: int
    from_day: int
    from_time: time
    to_month: int
    to_day: int
    to_time: time


CLOSURES: tuple[Closure, ...] = (
    Closure(12, 24, time(13, 0), 12, 25, time(17, 0)),
    Closure(12, 31, time(13, 0), 1, 1, time(17, 0)),
)

Session = tuple[datetime, datetime]


def _utc(day: date, at: time) -> datetime:
    return datetime.combine(day, at, NEW_YORK).astimezone(UTC)


@lru_cache(maxsize=512)
def _closures_of(year: int) -> tuple[Session, ...]:
    """Return the closures that begin in `year`."""
    return tuple(
        (
            _utc(date(year, c.from_month, c.from_day), c.from_time),
            _utc(date(year + (c.to_month < c.from_month), c.to_month, c.to_day), c.to_time),
        )
        for c in CLOSURES
    )


@lru_cache(maxsize=16384)
def _week(sunday: date) -> tuple[Session, ...]:
    """Return the sessions of the FX week that opens on `sunday` (New York date), closures cut out."""
    pieces = [(_utc(sunday, WEEK_TURN), _utc(sunday + timedelta(days=5), WEEK_TURN))]
    for year in sorted({sunday.year - 1, sunday.year, (sunday + timedelta(days=5)).year}):
        for shut, reopen in _closures_of(year):
            pieces = [
                part
                for begin, end in pieces
                for part in ((begin, min(end, shut)), (max(begin, reopen), end))
                if part[0] < part[1]
            ]
    return tuple(pieces)


def _sunday_of(ts: datetime) -> date:
    """Return the New York Sunday whose 17:00 is the last one not after `ts`."""
    local = ts.astimezone(NEW_YORK)
    sunday = local.date() - timedelta(days=(local.weekday() + 1) % 7)
    return sunday if ts >= _utc(sunday, WEEK_TURN) else sunday - timedelta(days=7)


def sessions(start: datetime, end: datetime) -> Iterator[Session]:
    """Yield the open intervals within [start, end), ascending, disjoint, cut to the range; aware UTC, half-open."""
    sunday = _sunday_of(start)
    begin_utc, end_utc = start.astimezone(UTC), end.astimezone(UTC)
    while begin_utc < end_utc and _utc(sunday, WEEK_TURN) < end_utc:
        for opens, closes in _week(sunday):
            first, last = max(opens, begin_utc), min(closes, end_utc)
            if first < last:
                yield first, last
        sunday += timedelta(days=7)


def is_open(ts: datetime) -> bool:
    """Return whether the market is open at `ts` (aware)."""
    pieces = _week(_sunday_of(ts))
    place = bisect_right(pieces, ts, key=lambda piece: piece[0]) - 1
    return place >= 0 and ts < pieces[place][1]


def open_minutes(start: datetime, end: datetime) -> int:
    """Return how many whole-minute marks T with start ≤ T < end are open: the bars to expect. 0 for an empty range."""
    return sum((ceil_to(last) - ceil_to(first)) // MINUTE for first, last in sessions(start, end))


def last_open_minute_before(ts: datetime) -> datetime:
    """Return the start of the newest open minute that is over at `ts`: the newest bar one could have by then."""
    limit = floor_to(ts)
    sunday = _sunday_of(ts)
    while True:
        for opens, closes in reversed(_week(sunday)):
            if opens < limit:
                return min(closes, limit) - MINUTE
        sunday -= timedelta(days=7)


def next_open(ts: datetime) -> datetime:
    """Return `ts` itself (in UTC) when the market is open then, else the instant at which it next opens."""
    sunday = _sunday_of(ts)
    while True:
        for opens, closes in _week(sunday):
            if ts < closes:
                return max(opens, ts.astimezone(UTC))
        sunday += timedelta(days=7)


def open_minutes_since(ts: datetime, now: datetime) -> int:
    """Return how many open minutes later than the bar at `ts` are over at `now`: its age in market time.

    0 when `ts` is the newest bar one could have; the weekend adds nothing.
    """
    return open_minutes(floor_to(ts) + MINUTE, floor_to(now))

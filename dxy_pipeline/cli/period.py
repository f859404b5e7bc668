"""A range of time as a user gives it: days or instants in UTC, half-open."""

from datetime import UTC, date, datetime, time, timedelta

from dxy_pipeline.core.bars import EPOCH
from dxy_pipeline.errors import UserError


def instant(text: str) -> datetime:
    """Return an ISO day or instant as aware UTC; without an offset it is UTC. Raises UserError."""
    try:
        ts = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"'{text}' is not a day or an instant", hint="for example 2024-06-12 or 2024-06-12T08:00Z"
        ) from error
    try:
        return ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts.astimezone(UTC)
    except OverflowError as error:
        raise UserError(f"'{text}' is outside the years 1 to 9999 in UTC", hint="bars begin in 1970") from error


def whole_day(text: str) -> date:
    """Return an ISO day. Raises UserError."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"'{text}' is not a day", hint="for example 2024-06-12") from error


def period(start: str, end: str, now: datetime) -> tuple[datetime, datetime]:
    """Return [start, end) for work on stored bars. `end` may be as late as the end of the running UTC day.

    Raises UserError for a range that is reversed, empty, in the future or before 1970.
    """
    begin, stop = instant(start), instant(end)
    if begin >= stop:
        raise UserError(f"--from {start} is not before --to {end}", hint="the end itself is not included: one day more")
    if begin >= now:
        raise UserError(f"--from {start} is in the future", hint="there are no bars yet")
    if stop > datetime.combine(now.date() + timedelta(days=1), time(), UTC):
        raise UserError(f"--to {end} is in the future", hint=f"the latest is {now.date() + timedelta(days=1)}")
    if begin < EPOCH:
        raise UserError(f"--from {start} is before 1970", hint="there is no market calendar before")
    return begin, stop

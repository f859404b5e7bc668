"""What the DXY migration leaves to us in each of its states; `assert_*_writable.sql` enforce the same in the database."""

from datetime import UTC, date, datetime, timedelta

NOT_YET = frozenset({"legacy", "prepared", "rolled_back"})
"""States in which DXY minutes are not ours to write."""
PARTLY = frozenset({"dual_write", "verified"})
"""States in which only recent minutes are, and no roll-ups."""
OURS = frozenset({"none", "cut_over", "retired"})
"""States in which minutes and roll-ups of any age are ours."""


def partly_from(now: datetime) -> date:
    """Return the first whole UTC day that is ours to write in the states `PARTLY`."""
    return (now - timedelta(days=1)).astimezone(UTC).date()

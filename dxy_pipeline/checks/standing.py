"""Whose bars a check would judge: what the DXY migration leaves to us in each of its states, in this one place.

Before the cutover the roll-ups are the desk's; before the dual write its DXY minutes are, too, and its tables may lack
columns that `dxy migrate prepare` adds. A check of what is not ours is not evaluated: it passes and says so.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time

import psycopg
from psycopg.rows import class_row

from dxy_pipeline.checks.config import CheckConfig, Subject
from dxy_pipeline.core.bars import EPOCH
from dxy_pipeline.db.ownership import NOT_YET, OURS, PARTLY, partly_from
from dxy_pipeline.sql import load

_UNTIL = {
    Subject.MINUTES: 'DXY 1m is the desk\'s in derived_data_bars until "dxy migrate dual-write"',
    Subject.ROLLUPS: 'DXY 5m and 1h are the desk\'s until "dxy migrate cutover"',
}


@dataclass(frozen=True)
class Standing:
    """How the migration stands; `dual_since`: when the running dual write began, aware UTC."""

    state: str = "none"
    direction: str = "forward"
    dual_since: datetime | None = None
    has_raw: bool = True

    def not_ours(self, config: CheckConfig) -> str | None:
        """Return why this check has nothing to judge now, None when it has."""
        state = f"the migration is in state {self.state}"
        if config.needs_raw and not self.has_raw:
            return f'not ours yet: {state}; data_bars has no column raw until "dxy migrate prepare"'
        if config.subject in {Subject.PAIRS, Subject.SCHEMA}:
            return None
        if self.direction == "rollback":
            return f"not ours now: the migration is being rolled back from {self.state}"
        if config.states is not None:
            return None if self.state in config.states else f"nothing to judge: {state}"
        if config.subject is Subject.MINUTES:
            return f"not ours yet: {state}; {_UNTIL[config.subject]}" if self.state in NOT_YET else None
        return None if self.state in OURS else f"not ours yet: {state}; {_UNTIL[config.subject]}"

    def start(self, config: CheckConfig, start: datetime) -> datetime:
        """Return the start of the window: before the cutover only minutes since the dual write began are ours."""
        if self.state in PARTLY and config.subject is Subject.MINUTES and config.states is None and self.dual_since:
            return max(start, self.dual_since)
        return start

    def changes_from(self, now: datetime) -> datetime:
        """Return from when on a changed minute is ours to derive again."""
        return datetime.combine(partly_from(now), time.min, UTC) if self.state in PARTLY else EPOCH

    @property
    def targets(self) -> list[str]:
        """The timeframes that may be derived again after a change."""
        return ["1m", "5m", "1h"] if self.state in OURS else ["1m"] if self.state in PARTLY else []


def standing(conn: psycopg.Connection) -> Standing:
    """Read how the migration stands."""
    with conn.cursor(row_factory=class_row(Standing)) as cur:
        return cur.execute(load("checks/standing")).fetchone() or Standing()

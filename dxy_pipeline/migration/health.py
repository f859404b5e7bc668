"""The health window after the cutover: the seed's check 6.2 every five minutes, and when it has been green long enough.

Green: so many consecutive open market minutes (1,440 by default) without a FAIL and without a hole in the watching.
A minute in which nobody looked proves nothing, so it does not count.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dxy_pipeline.core.bars import ceil_to
from dxy_pipeline.core.fx_week import open_minutes
from dxy_pipeline.migration import ledger
from dxy_pipeline.migration.context import Context
from dxy_pipeline.migration.ledger import Control


@dataclass(frozen=True)
class Window:
    """How far the health window has come."""

    needed: int
    reached: int
    since: datetime | None
    missing: str

    @property
    def green(self) -> bool:
        """Whether `retire` may go on."""
        return self.reached >= self.needed


def check(conn: Any, control: Control, now: datetime) -> list[dict[str, Any]]:
    """The seed's post-deployment health check at `now`: name, status PASS, WARN or FAIL, figure."""
    options = control.options
    return ledger.rows(
        conn, "health", now=now, low=options.get("price_low", 80.0), high=options.get("price_high", 120.0)
    )


def watch(ctx: Context) -> list[dict[str, Any]]:
    """Look once and enter the result in the ledger; the runbook wants it every five minutes."""
    control, now = ctx.control(), ctx.clock.now()
    found = check(ctx.conn, control, now)

    columns = [[row[name] for row in found] for name in ("name", "status", "figure")]
    ctx.conn.execute(
        "INSERT INTO dxy.migration_health (migration_id, at, name, status, figure)"
        " SELECT %s, %s, x.* FROM unnest(%s::text[], %s::text[], %s::text[]) AS x"
        " ON CONFLICT (migration_id, at, name) DO UPDATE SET status = excluded.status, figure = excluded.figure",
        (control.migration_id, now, *columns),
    )
    return found


def window(conn: Any, control: Control, now: datetime) -> Window:
    """How many consecutive open minutes up to `now` are proved healthy."""
    needed = int(control.options.get("health_minutes", 1440))
    gap = int(control.options.get("watch_gap_minutes", 15))
    if control.cut_over_at is None:
        return Window(needed, 0, None, "the cutover has not happened")
    looks = conn.execute(
        "SELECT h.at, bool_or(h.status = 'FAIL'), string_agg(h.name, ', ') FILTER (WHERE h.status = 'FAIL')"
        " FROM dxy.migration_health AS h WHERE h.migration_id = %s AND h.at >= %s AND h.at <= %s GROUP BY 1 ORDER BY 1",
        (control.migration_id, control.cut_over_at, now),
    ).fetchall()
    since, last, why = control.cut_over_at, control.cut_over_at, ""
    for at, failed, names in looks:
        if _minutes(last, at) > gap:
            since, why = at, f"nobody looked between {last:%Y-%m-%d %H:%M} and {at:%Y-%m-%d %H:%M}"
        if failed:
            since, why = at, f"{names} failed at {at:%Y-%m-%d %H:%M}"
        last = at
    if _minutes(last, now) > gap:
        return Window(needed, 0, None, f"nobody has looked since {last:%Y-%m-%d %H:%M}; run `dxy migrate watch`")
    reached = _minutes(since, last)
    missing = "" if reached >= needed else f"{needed - reached} more open minutes" + (f" ({why})" if why else "")
    return Window(needed, reached, since, missing)


def _minutes(start: datetime, end: datetime) -> int:
    return open_minutes(ceil_to(start), end) if start < end else 0

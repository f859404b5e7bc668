"""Incidents: the state of each root cause over time, kept in the database so that a restart tells nobody twice.

pending → firing (after a sustained window) → resolved (after it stayed away for a while); pending → dismissed when it
goes away before. Sustained: at most one look of the window did not see it, and no two that did lie further apart than it
takes to resolve. What follows the market is counted in open minutes and stands still while the market is shut.
One transaction a look, one look at a time. Sending is `delivery`'s work; here it is only queued.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final, Self

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from dxy_pipeline.alerts.case import Cause
from dxy_pipeline.core import fx_week
from dxy_pipeline.core.bars import MINUTE
from dxy_pipeline.sql import load

WINDOWS_KEY: Final = "alert_windows"


@dataclass(frozen=True)
class Policy:
    """The windows in minutes: how long a live cause and any other must last to fire, and stay away to be resolved.

    `flaps`: how many looks at a pending cause may miss it (a check that ran into its time limit once).
    """

    live_minutes: float = 5
    other_minutes: float = 2
    clear_minutes: float = 3
    flaps: int = 1

    @classmethod
    def stored(cls, conn: psycopg.Connection) -> Self:
        """Return the windows that every watcher of this database uses: the defaults, but for what was stored."""
        row = conn.execute("SELECT s.value FROM dxy.setting AS s WHERE s.key = %s", (WINDOWS_KEY,)).fetchone()
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in (row[0] if row else {}).items() if name in known})

    def store(self, conn: psycopg.Connection) -> None:
        """Make them the windows of this database, from the next look on; a default is not stored."""
        changed = {name: value for name, value in asdict(self).items() if value != getattr(Policy, name)}
        conn.execute(load("queries/store_setting"), {"key": WINDOWS_KEY, "value": Jsonb(changed)})


@dataclass(frozen=True)
class Transition:
    """An incident that changed its state at this look."""

    incident_id: int
    cause: str
    state: str
    severity: str
    summary: str


def beat(conn: psycopg.Connection, name: str, now: datetime, detail: str = "") -> None:
    """Record that the watcher `name` is alive at `now`."""
    conn.execute(load("alerts/beat"), {"name": name, "now": now, "detail": detail[:500]})


def last_beat(conn: psycopg.Connection, name: str) -> datetime | None:
    """Return when the watcher `name` was last alive, None if never."""
    row = conn.execute("SELECT h.beat_at FROM dxy.heartbeat AS h WHERE h.name = %s", (name,)).fetchone()
    return row[0] if row else None


def recent(conn: psycopg.Connection, *, with_closed: bool = False, limit: int = 50) -> list[dict[str, Any]]:
    """Return open incidents (and closed ones), newest first, with how many messages arrived, wait, expired."""
    with conn.cursor(row_factory=dict_row) as cur:
        return cur.execute(load("alerts/recent_incidents"), {"with_closed": with_closed, "limit": limit}).fetchall()


def prune(conn: psycopg.Connection, before: datetime) -> int:
    """Delete incidents that were over before `before`, with their messages; returns how many."""
    return conn.execute(load("alerts/prune_incidents"), {"before": before}).rowcount


def advance(
    conn: psycopg.Connection,
    causes: Iterable[Cause],
    now: datetime,
    *,
    labels: Sequence[str] = (),
    policy: Policy | None = None,
) -> list[Transition]:
    """Take one look: open, fire, resolve or dismiss incidents, and queue what is to be told to each of `labels`.

    Returns the incidents whose state changed. `now` is aware UTC; an older one than the last look changes nothing.
    """
    policy = policy or Policy.stored(conn)
    market_open = fx_week.is_open(now)
    changed: list[Transition] = []
    with conn.transaction(), conn.cursor(row_factory=dict_row) as cur:
        cur.execute("SELECT pg_advisory_xact_lock(7412, 0)")
        known = {row["cause"]: row for row in cur.execute(load("alerts/open_incidents")).fetchall()}
        present = {cause.key: cause for cause in causes if not _told(cur, cause)}
        for key, row in known.items():
            if row["state"] == "pending" and _gone(cur, row, key in present, now, policy):
                changed.append(_turn(cur, row, "dismissed", now, labels))
        for cause in present.values():
            row = _seen(cur, cause, now)
            if row["state"] == "pending" and _elapsed(row, row["opened_at"], now) >= _window(row, policy):
                changed.append(_turn(cur, row, "firing", now, labels))
        for key, row in known.items():
            if row["state"] == "pending" or key in present or (row["follows_market"] and not market_open):
                continue
            if (now - row["last_seen_at"]) / MINUTE >= policy.clear_minutes:
                changed.append(_turn(cur, row, "resolved", now, labels))
    return changed


def _gone(
    cur: psycopg.Cursor[dict[str, Any]], row: dict[str, Any], is_present: bool, now: datetime, policy: Policy
) -> bool:
    """Whether a pending incident is over: missed too often, or seen again after nobody had looked for long."""
    if is_present:
        return _elapsed(row, row["last_seen_at"], now) > policy.clear_minutes
    if row["follows_market"] and not fx_week.is_open(now):
        return False
    if now <= row["last_seen_at"]:
        return False
    if row["missed"] < policy.flaps and (now - row["last_seen_at"]) / MINUTE < policy.clear_minutes:
        cur.execute("UPDATE dxy.incident AS i SET missed = i.missed + 1 WHERE i.id = %s", (row["id"],))
        return False
    return True


def _told(cur: psycopg.Cursor[dict[str, Any]], cause: Cause) -> bool:
    """Whether all that is left of the cause is the aftermath of an outage that was told while it lasted."""
    if not cause.is_aftermath:
        return False
    told = load("alerts/gap_was_told")
    keys = None if cause.key in {"roll-ups stale", "gaps"} else [cause.key, "scheduler", "source", "feed"]
    return all(cur.execute(told, {"causes": keys, "first_ts": a, "last_ts": b}).fetchone() for a, b in cause.spans)


def _seen(cur: psycopg.Cursor[dict[str, Any]], cause: Cause, now: datetime) -> dict[str, Any]:
    values = {
        "cause": cause.key,
        "severity": cause.severity,
        "summary": cause.summary,
        "checks": sorted(cause.checks),
        "live": cause.live,
        "now": now,
    }
    row = cur.execute(load("alerts/see_incident"), values).fetchone()
    assert row is not None  # noqa: S101 - an upsert with RETURNING has a row
    return row


def _elapsed(row: dict[str, Any], since: datetime, now: datetime) -> float:
    return fx_week.open_minutes(since, now) if row["follows_market"] else (now - since) / MINUTE


def _window(row: dict[str, Any], policy: Policy) -> float:
    return policy.live_minutes if row["follows_market"] else policy.other_minutes


def _turn(
    cur: psycopg.Cursor[dict[str, Any]], row: dict[str, Any], state: str, now: datetime, labels: Sequence[str]
) -> Transition:
    cur.execute(load("alerts/turn_incident"), {"id": row["id"], "state": state, "now": now})
    if state != "dismissed":
        lasted = f"open for {(now - row['opened_at']) / MINUTE:.0f} minutes"
        seen = f"Seen at {now:%Y-%m-%d %H:%M} UTC, {lasted}."
        values = {
            "id": row["id"],
            "event": state,
            "labels": list(labels),
            "title": f"DXY {state}: {row['cause']} ({row['severity']})",
            "body": f"{row['summary']}\n{seen}\nChecks: {', '.join(row['checks'])}",
            "now": now,
        }
        cur.execute(load("alerts/queue_delivery"), values)
    return Transition(row["id"], row["cause"], state, row["severity"], row["summary"])

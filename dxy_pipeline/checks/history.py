"""What the daily look at the whole history found, remembered until the next one: the minute sees 48 hours only.

The two share the work by time: rows that the minute's window holds are the minute's to judge, older ones fail by memory
until a look at the whole history is clean. So a wrong value of last week keeps its check failed and its incident open,
and one that has been mended within the window is not held against anybody.
An ERROR is told until it is mended. A WARN is suspicion (a gap, a jump, a flat line that came with the history may stay
for ever): it stays visible and is told once, while it is news.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dxy_pipeline import alerts
from dxy_pipeline.checks.config import CHECKS, CheckConfig, Severity
from dxy_pipeline.checks.engine import RECENT, CheckResult
from dxy_pipeline.sql import load

DAILY_CHECKS = "daily checks"  # the name of their heartbeat
SAMPLE = 2_000  # rows of a check that are remembered
_STAMPS = ("ts_utc", "first_ts", "last_ts")
Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One failed check of the last look at the whole history, without the rows that the minute's window holds.

    `news`: what of it is to be told, None when the look before had seen all of it and it is mere suspicion.
    """

    result: CheckResult
    found_at: datetime
    news: CheckResult | None


def looks_back(config: CheckConfig) -> bool:
    """Whether the check finds more in the whole history than in the last 48 hours."""
    text = load(f"checks/{config.sql}")
    return not config.timed and ("%(start)s" in text or "{bars}" in text)


def record(conn: psycopg.Connection, results: Iterable[CheckResult], now: datetime) -> None:
    """Remember what a look at the whole history at `now` found, in place of what was known of these checks.

    In one transaction on an autocommit connection. The sign of life of the daily checks is given once all were looked
    at. Raises psycopg errors.
    """
    looking_back = {(c.asset, c.name) for c in CHECKS if looks_back(c)}
    mine = {(r.asset_key, r.name): r for r in results if (r.asset_key, r.name) in looking_back}
    clean = [key for key, result in mine.items() if result.passed]
    with conn.transaction():
        before = {(row["asset"], row["name"]): row["sample_rows"] for row in _stored(conn)}
        conn.execute(load("alerts/forget_findings"), {"assets": [a for a, _ in clean], "names": [n for _, n in clean]})
        for key, result in mine.items():
            if not result.passed:
                conn.execute(load("alerts/record_finding"), _values(result, before.get(key, []), now))
        if set(mine) == looking_back:
            alerts.beat(conn, DAILY_CHECKS, now, f"{len(mine) - len(clean)} checks failed")


def findings(conn: psycopg.Connection, now: datetime) -> list[Finding]:
    """Return what of the last look at the whole history lies before the window that ends at `now`."""
    found = []
    for row in _stored(conn):
        sample = row["sample_rows"]
        older = [r for r in sample if (began := _began(r["row"])) is None or began < now - RECENT]
        if not older and 0 < row["violations"] <= len(sample):
            continue  # the minute's window holds all of them
        result = CheckResult(
            row["name"], row["asset"], False, Severity(row["severity"]), row["description"], row["violations"],
            {"whole history looked at": row["found_at"]}, [r["row"] for r in older], evaluated=row["evaluated"],
        )  # fmt: skip
        found.append(Finding(result, row["found_at"], _news(result, older, row)))
    return found


def _news(result: CheckResult, older: Sequence[Row], stored: Row) -> CheckResult | None:
    """Of an ERROR everything; of a WARN the rows that the look before had not, or more than the sample explains."""
    if result.severity is Severity.ERROR:
        return result
    fresh = [r["row"] for r in older if not r["known"]]
    unexplained = stored["violations"] - stored["known_violations"] - sum(not r["known"] for r in stored["sample_rows"])
    return replace(result, rows=fresh) if fresh or unexplained > 0 else None


def merged(results: Sequence[CheckResult], found: Sequence[Finding]) -> list[CheckResult]:
    """Return the minute's results, each failed that the whole history fails: what people are shown."""
    older = {finding.result.key: finding for finding in found}
    return [_with(result, older[result.key]) if result.key in older else result for result in results]


def _with(result: CheckResult, finding: Finding) -> CheckResult:
    past = finding.result
    words = past.description.removeprefix(f"{past.severity}: ")
    said = f"older than 48 hours, whole history of {finding.found_at:%Y-%m-%d %H:%M} UTC: {words}"
    metadata = {**result.metadata, **past.metadata, "violations": result.violations + past.violations}
    if result.passed:
        text, severity = f"{past.severity}: {said}; the last 48 hours are clean", past.severity
    else:
        severity = Severity.ERROR if Severity.ERROR in {result.severity, past.severity} else Severity.WARN
        text = f"{severity}: {result.description.removeprefix(f'{result.severity}: ')}; {said}"
    return replace(
        result, passed=False, severity=severity, description=text, metadata=metadata, rows=[*result.rows, *past.rows],
        violations=result.violations + past.violations,
    )  # fmt: skip


def _values(result: CheckResult, before: Sequence[Row], now: datetime) -> dict[str, Any]:
    known = {_place(r["row"]) for r in before} - {None}
    rows = [{"row": row, "known": _place(row) in known} for row in result.rows]
    return {
        "asset": result.asset_key, "name": result.name, "severity": str(result.severity), "evaluated": result.evaluated,
        "description": result.description, "violations": result.violations, "rows": json.dumps(_plain(rows)), "now": now,
    }  # fmt: skip


def _stored(conn: psycopg.Connection) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cur:
        rows = cur.execute(load("alerts/history_findings")).fetchall()
    return [{**row, "sample_rows": _rich(row["sample_rows"])} for row in rows]


def _began(row: Row) -> datetime | None:
    return min((row[name] for name in _STAMPS if row.get(name) is not None), default=None)


def _place(row: Row) -> tuple[Any, ...] | None:
    """What makes a row the same one at the next look; None for one that is about no time, and so always news."""
    stamps = [row.get("ts_utc"), row.get("first_ts")]
    return None if stamps == [None, None] else (row.get("canonical_symbol"), *stamps)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no word for is an object with one name."""
    if isinstance(value, datetime):
        return {"at": value.isoformat()}
    if isinstance(value, date):
        return {"day": value.isoformat()}
    if isinstance(value, Decimal | float):
        return float(value) if math.isfinite(value) else {"number": str(value)}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _rich(value: Any) -> Any:
    """The way back from `_plain`."""
    if isinstance(value, list):
        return [_rich(one) for one in value]
    if not isinstance(value, dict):
        return value
    readers = {"at": datetime.fromisoformat, "day": date.fromisoformat, "number": float}
    if len(value) == 1 and (name := next(iter(value))) in readers and isinstance(value[name], str):
        return readers[name](value[name])
    return {name: _rich(one) for name, one in value.items()}

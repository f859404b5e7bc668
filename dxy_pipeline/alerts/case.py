"""One look at the failing checks: the findings, the causes found so far, and what lies close together in time. Pure.

Belongs here: what a cause is, and the bookkeeping of which check is explained. Which check has which cause: `causes`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

NEAR = timedelta(hours=1)
Row = Mapping[str, Any]
Span = tuple[datetime, datetime]
# What an outage leaves behind when it is over.
AFTERMATH = {"fx_1m.gaps", "dxy_1m.gaps", "dxy_5m.freshness", "dxy_1h.freshness"}


class Finding(Protocol):
    """What a check found: the parts of a check's result that matter here."""

    @property
    def asset_key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def passed(self) -> bool: ...
    @property
    def evaluated(self) -> bool: ...
    @property
    def severity(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def rows(self) -> Sequence[Row]: ...


@dataclass
class Cause:
    """One root cause: a stable `key`, what to tell, and the failing checks it explains.

    `live`: it is about what arrives now, so its time is counted in open minutes. `spans`: the time that lacks bars; a
    cause that is nothing but the aftermath of an outage was told while it lasted.
    """

    key: str
    summary: str
    checks: dict[str, str] = field(default_factory=dict)
    live: bool = False
    spans: list[Span] = field(default_factory=list)

    @property
    def severity(self) -> str:
        """The worst severity of its checks."""
        return "ERROR" if "ERROR" in self.checks.values() else "WARN"

    @property
    def is_aftermath(self) -> bool:
        """Whether nothing speaks for it but gaps, and roll-ups that lacked the minutes for a bar."""
        return bool(self.spans) and all(check in AFTERMATH for check in self.checks)


class Case:
    """The failing checks of one look, and the causes found so far."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.failing = {f"{f.asset_key}.{f.name}": f for f in findings if not f.passed}
        self.causes: dict[str, Cause] = {}
        self.taken: set[str] = set()

    def rows(self, check: str) -> Sequence[Row]:
        """The violating rows of a check, none when it passed."""
        return self.failing[check].rows if check in self.failing else ()

    def fails(self, check: str) -> bool:
        """Whether the check failed and nobody has explained it yet."""
        return check in self.failing and check not in self.taken

    def blame(self, key: str, summary: str, checks: Iterable[str], *, live: bool = False) -> Cause:
        """Add the failing ones of `checks` to the cause `key`, made when it is new."""
        cause = self.causes.setdefault(key, Cause(key, summary))
        for check in checks:
            if check in self.failing:
                cause.checks[check] = str(self.failing[check].severity)
                self.taken.add(check)
        cause.live |= live
        return cause

    def near(self, one: str, other: str) -> bool:
        """Whether a violation of one check lies within an hour of one of the other's."""
        theirs = _stretches(self.rows(other))
        for start, end in _stretches(self.rows(one)):
            began_before = bisect_right(theirs, end + NEAR, key=lambda stretch: stretch[0])
            if began_before and start <= theirs[began_before - 1][1] + NEAR:
                return True
        return False


def _span(row: Row) -> Span | None:
    stamps = [row[name] for name in ("ts_utc", "first_ts", "last_ts") if row.get(name) is not None]
    return (min(stamps), max(stamps)) if stamps else None


def _stretches(rows: Sequence[Row]) -> list[Span]:
    """The time that the rows are about, as disjoint stretches in order."""
    found: list[Span] = []
    for start, end in sorted(filter(None, map(_span, rows))):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found

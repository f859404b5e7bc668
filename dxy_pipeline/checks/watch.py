"""One look at the stored bars: a sign of life, all checks of the minute, incidents brought up to date.

The sensor inside the scheduler and the watchdog outside of it (`watchdog`) take the same look. What a check is and when
an incident fires stands elsewhere; here they meet. Messages are only queued: sending them takes as long as it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from dxy_pipeline import alerts
from dxy_pipeline.checks import history
from dxy_pipeline.checks.engine import CheckResult, run_checks

MONITORING = "monitoring"
SAMPLE = 200  # enough rows to name every pair and hour that an incident is about


@dataclass(frozen=True)
class Look:
    """What one look found and did; `problem`: why incidents could not be kept, empty when they were.

    `results` are the minute's with what the whole history fails, as people are to see them.
    """

    results: list[CheckResult]
    changed: list[alerts.Transition] = field(default_factory=list)
    problem: str = ""


def look(
    read: psycopg.Connection,
    write: psycopg.Connection,
    now: datetime,
    urls: Sequence[str] = (),
    *,
    name: str = MONITORING,
    policy: alerts.Policy | None = None,
) -> Look:
    """Take a look at `now`. `read` may be a replica's connection; both are in autocommit mode.

    The sign of life comes first: the scheduler's own check must not call the one who asks dead. Where incidents
    cannot be written the checks are evaluated all the same; `problem` says why.
    """
    problem = ""
    try:
        alerts.beat(write, name, now)
    except psycopg.Error as error:
        problem = str(error).splitlines()[0]
    results = run_checks(read, now, sample=SAMPLE)
    older = history.findings(read, now)
    shown = history.merged(results, older)
    if problem:
        return Look(shown, problem=problem)
    causes = alerts.root_causes(results, [finding.news for finding in older if finding.news])
    labels = [target.label for target in alerts.targets(urls)]
    return Look(shown, alerts.advance(write, causes, now, labels=labels, policy=policy))

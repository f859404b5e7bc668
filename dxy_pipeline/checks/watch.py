"""One look at the stored bars: a sign of life, all checks of the minute, incidents brought up to date, messages sent.

The sensor inside the scheduler and the watchdog outside of it take the same look. What a check is and when an incident
fires stands elsewhere; here they meet.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg

from dxy_pipeline import alerts
from dxy_pipeline.alerts.delivery import Sent, send
from dxy_pipeline.checks.engine import CheckResult, run_checks
from dxy_pipeline.core.clock import Clock
from dxy_pipeline.errors import UserError

MONITORING, WATCHDOG = "monitoring", "watchdog"
SILENT = timedelta(minutes=3)
SAMPLE = 200  # enough rows to name every pair and hour that an incident is about

Connect = Callable[[], AbstractContextManager[psycopg.Connection]]


@dataclass(frozen=True)
class Look:
    """What one look found and did; `problem`: why incidents could not be kept, empty when they were."""

    results: list[CheckResult]
    changed: list[alerts.Transition] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)
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
    if problem:
        return Look(results, problem=problem)
    to = alerts.targets(urls)
    changed = alerts.advance(write, alerts.root_causes(results), now, labels=[t.label for t in to], policy=policy)
    return Look(results, changed, alerts.deliver(write, to, now))


@dataclass
class Watchdog:
    """Watches the watcher, from a process of its own: steps in while the scheduler's monitoring is silent.

    While that one lives, only its heartbeat is looked at and waiting messages are sent. A database that cannot be
    reached is told directly: there is nowhere to keep the state, so it is kept here.
    """

    connect: Connect
    clock: Clock
    urls: Sequence[str] = ()
    patience: int = 3
    unreachable: int = 0
    told: bool = False
    undelivered: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def step(self) -> str:
        """Look once; returns a line that says what was found. Raises nothing for a database that is down."""
        self._send_waiting()
        try:
            with self.connect() as conn:
                line = self._look(conn)
        except (psycopg.Error, UserError) as error:
            return self._no_database(str(error).splitlines()[0] if str(error) else type(error).__name__)
        if self.told:
            self._tell("DXY resolved: database", "The database can be reached again.", "success")
        self.unreachable, self.told = 0, False
        return line

    def _look(self, conn: psycopg.Connection) -> str:
        now = self.clock.now()
        beat = alerts.last_beat(conn, MONITORING)
        if beat is not None and now - beat < SILENT:
            alerts.beat(conn, WATCHDOG, now, "the monitoring is alive")
            sent = alerts.deliver(conn, alerts.targets(self.urls), now)
            return f"the monitoring is alive, {sent.delivered} waiting messages sent"
        found = look(conn, conn, now, self.urls, name=WATCHDOG)
        failed = [result.key for result in found.results if not result.passed]
        since = f"since {beat:%Y-%m-%d %H:%M} UTC" if beat else "and never was alive"
        return f"the monitoring is silent {since}; {len(failed)} checks fail: {', '.join(failed) or 'none'}"

    def _no_database(self, why: str) -> str:
        self.unreachable += 1
        if self.unreachable >= self.patience and not self.told:
            self.told = True
            self._tell("DXY firing: database (ERROR)", "The market database cannot be reached.", "failure")
        return f"the database cannot be reached ({self.unreachable} times in a row): {why}"

    def _tell(self, title: str, body: str, kind: str) -> None:
        for target in alerts.targets(self.urls):
            self.undelivered[target.label] = (title, body, kind)
        self._send_waiting()

    def _send_waiting(self) -> None:
        for target in alerts.targets(self.urls):
            message = self.undelivered.get(target.label)
            if message and send(target.url, *message) is None:
                with suppress(KeyError):
                    del self.undelivered[target.label]

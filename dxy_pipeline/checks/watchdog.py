"""Watches the watcher, from a process of its own: steps in while the scheduler's monitoring is silent.

What it tells of a database that cannot be reached can be remembered in no database: it is a small file in the data
directory, so that a look each minute from cron is as good as a process that stays, and a restart tells nobody twice.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

import psycopg

from dxy_pipeline import alerts
from dxy_pipeline.alerts.delivery import send
from dxy_pipeline.checks.watch import MONITORING, look
from dxy_pipeline.core.clock import Clock
from dxy_pipeline.errors import UserError

WATCHDOG = "watchdog"
SILENT = timedelta(minutes=3)

Connect = Callable[[], AbstractContextManager[psycopg.Connection]]


@dataclass
class Memory:
    """What is remembered from look to look: failures in a row, whether they were told, and what waits to be sent.

    A waiting message is (target's label, title, body, kind), oldest first; no URL is in it.
    """

    unreachable: int = 0
    told: bool = False
    waiting: list[list[str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Memory":
        """Return what `path` holds; nothing remembered when it holds nothing that can be read."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            waiting = [[str(part) for part in message] for message in found["waiting"] if len(message) == 4]
            return cls(int(found["unreachable"]), bool(found["told"]), waiting)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Store it, whole or not at all. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(path)


@dataclass
class Watchdog:
    """Looks once a step. While the monitoring lives, only its heartbeat is looked at and waiting messages are sent.

    A database that cannot be reached `patience` times in a row is told directly. `memory` is the file of that.
    """

    connect: Connect
    clock: Clock
    memory: Path
    urls: Sequence[str] = ()
    patience: int = 3

    def step(self) -> str:
        """Look once; returns a line that says what was found. Raises nothing for a database or a disk that is down."""
        known = Memory.read(self.memory)
        before = asdict(known)
        try:
            with self.connect() as conn:
                line = self._look(conn)
            self._reached(known)
        except (psycopg.Error, UserError) as error:
            line = self._not_reached(known, str(error).splitlines()[0] if str(error) else type(error).__name__)
        self._send_waiting(known)
        try:
            if asdict(known) != before:
                known.write(self.memory)
        except OSError as error:
            line += f"; this cannot be remembered: {error.strerror} ({self.memory.name})"
        return line

    def _look(self, conn: psycopg.Connection) -> str:
        now = self.clock.now()
        beat = alerts.last_beat(conn, MONITORING)
        if beat is not None and now - beat < SILENT:
            alerts.beat(conn, WATCHDOG, now, "the monitoring is alive")
            sent = alerts.deliver(conn, alerts.targets(self.urls), now)
            return f"the monitoring is alive, {sent.delivered} waiting messages sent"
        found = look(conn, conn, now, self.urls, name=WATCHDOG)
        alerts.deliver(conn, alerts.targets(self.urls), now)
        failed = [result.key for result in found.results if not result.passed]
        since = f"since {beat:%Y-%m-%d %H:%M} UTC" if beat else "and never was alive"
        return f"the monitoring is silent {since}; {len(failed)} checks fail: {', '.join(failed) or 'none'}"

    def _reached(self, known: Memory) -> None:
        if known.told:
            self._tell(known, "DXY resolved: database", "The database can be reached again.", "success")
        known.unreachable, known.told = 0, False

    def _not_reached(self, known: Memory, why: str) -> str:
        known.unreachable += 1
        if known.unreachable >= self.patience and not known.told:
            known.told = True
            self._tell(known, "DXY firing: database (ERROR)", "The market database cannot be reached.", "failure")
        return f"the database cannot be reached ({known.unreachable} times in a row): {why}"

    def _tell(self, known: Memory, title: str, body: str, kind: str) -> None:
        known.waiting += [[target.label, title, body, kind] for target in alerts.targets(self.urls)]

    def _send_waiting(self, known: Memory) -> None:
        """Send in order, each target up to its first failure; what waits for a target of the past is dropped."""
        urls = {target.label: target.url for target in alerts.targets(self.urls)}
        failed: set[str] = set()
        left = []
        for message in known.waiting:
            label, *words = message
            if label not in urls:
                continue
            if label in failed or send(urls[label], *words) is not None:
                failed.add(label)
                left.append(message)
        known.waiting = left

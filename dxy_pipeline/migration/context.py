"""What every phase is given: the connection, the lease, the clock, who runs it and where files go. No logic of a phase."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from dxy_pipeline.core.clock import Clock
from dxy_pipeline.migration import ledger, steps
from dxy_pipeline.migration.lease import Lease
from dxy_pipeline.migration.ledger import Actor, Control
from dxy_pipeline.migration.states import State

T = TypeVar("T")
Note = Callable[[str], None]


@dataclass
class Context:
    """One run of one phase."""

    conn: psycopg.Connection[Any]
    lease: Lease
    clock: Clock
    actor: str
    reason: str
    url: str
    files: Path
    scratch_url: Callable[[], str]
    note: Note
    patience: float = 60.0
    counted: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def who(self) -> Actor:
        """Who does this, now."""
        return Actor(self.actor, self.clock.now(), self.reason, version("dxy_pipeline"))

    def control(self) -> Control:
        """The control row as it is now."""
        return ledger.control(self.conn)

    def at(self, step: str) -> None:
        """A named step was reached (see steps.py)."""
        steps.reached(step, self.conn)

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far a loop over days has come, and put it where `status` finds it; the lease is renewed by the way."""
        left = timedelta(seconds=round((time.monotonic() - self.began) / done * (total - done)))
        self.note(f"{done} of {total} {what}, {100 * done // total} %, {left} to go")
        shown = {"what": what, "done": done, "total": total, "to go": str(left)}
        self.lease.renew(shown)

    def write(self, what: str, work: Callable[[], T], *, locks_tables: bool = False) -> T:
        """Run `work` in one fenced transaction, with retries on busy locks (see Lease.write)."""
        return self.lease.write(work, what=what, patience=self.patience, locks_tables=locks_tables)

    def move(self, action: str, before: Control, **more: Any) -> State:
        """Change the state, in the caller's transaction."""
        return ledger.move(self.conn, self.who, action, before, counted=self.counted, **more)

    def audit(self, action: str, details: dict[str, Any] | None = None) -> None:
        """Append a line that changes no state."""
        now = self.control()
        ledger.note(
            self.conn,
            self.who,
            action,
            now.state,
            now.state,
            now.migration_id,
            details=details,
            counted=self.counted,
        )

"""The migration as one object: what the command line, Dagster, the demo and tests drive.

Belongs here: opening the connection, taking the lease, refusing what the direction forbids, calling the phase.
Does not belong here: what a phase does.
"""

import getpass
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg

from dxy_pipeline.core.clock import Clock, SystemClock
from dxy_pipeline.db import session
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import (
    backfill,
    backup,
    cutover,
    dual_write,
    health,
    lease,
    ledger,
    plan,
    prepare,
    preview,
    rehearse,
    retire,
    rollback,
    status,
    verify,
)
from dxy_pipeline.migration import repair as mend
from dxy_pipeline.migration.context import Context, Note
from dxy_pipeline.settings import Settings

Result = dict[str, Any]


def _silent(_line: str) -> None: ...


class Migration:
    """The migration of one database. Each method is one command; all raise UserError with what to do next.

    `url` is a direct address (no transaction pooler): DDL and the backup want one. `actor` goes into the audit.
    `scratch_url` returns the address of a server on which a scratch database may be made. `patience`: seconds to wait
    for a busy lock; `lease_patience`: for another runner.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        actor: str = "",
        files: Path | None = None,
        scratch_url: Callable[[], str] = backup.default_scratch,
        note: Note = _silent,
        patience: float = 60.0,
        lease_patience: float = 3.0,
    ) -> None:
        self.url = url
        self.clock = clock or SystemClock()
        self.actor = actor or getpass.getuser()
        self.files = files or Settings.from_env().data_dir / "migration"
        self.scratch_url = scratch_url
        self.note = note
        self.patience = patience
        self.lease_patience = lease_patience
        self._checked = False

    # Looking: read-only connections.

    def plan(self) -> Result:
        """What a migration of this database would meet."""
        with self._reading() as conn:
            return plan.plan(conn, self.files)

    def shadow(self, start: datetime, end: datetime) -> Result:
        """Derive [start, end) and compare with legacy, without writing."""
        with self._reading() as conn:
            return plan.shadow(conn, start, end)

    def status(self) -> Result:
        """State, progress, ETA, last verification, health window, what is not restored."""
        with self._reading() as conn:
            return status.status(conn, self.clock.now())

    def checklist(self) -> list[Result]:
        """Exit criteria, deployment checklist, watch, verify queries and success metrics, each judged or signed."""
        with self._reading() as conn:
            return status.checklist(conn, self.clock.now())

    def metrics(self) -> list[Result]:
        """The seed's success metrics."""
        return [row for row in self.checklist() if row["part"] == "Success metrics"]

    def audit(self) -> list[Result]:
        """The audit, oldest first."""
        with self._reading() as conn:
            return status.audit(conn)

    def conflicts(self) -> list[Result]:
        """Minutes on which both tables disagree."""
        with self._reading() as conn:
            return backfill.conflicts(conn, ledger.control(conn).migration_id)

    def compare(self, days: list[date] | None = None) -> verify.Comparison:
        """Verify by content (all, or these days) without entering the result anywhere."""
        with self._reading() as conn:
            ledger.require(conn)
            return verify.compare(conn, days)

    def units(self, days: Sequence[date] | None = None) -> list[Result]:
        """The days of the migration with their accounting (all, or these)."""
        with self._reading() as conn:
            return status.units(conn, days)

    def preview(self, action: str, **flags: Any) -> Result:
        """What a changing command would do, and what is in its way."""
        with self._reading() as conn:
            return preview.preview(conn, action, self.clock.now(), **flags)

    def rehearse(self, *, policy: str = "stop") -> list[Result]:
        """The whole migration on a restored copy in the embedded server, with timings. The desk's database is read."""
        scratch = self.scratch_url()

        def make(url: str, files: Path) -> "Migration":
            return Migration(url, clock=self.clock, actor=self.actor, files=files,
                             scratch_url=lambda: scratch, note=self.note)  # fmt: skip

        with session.user_errors():
            return rehearse.run(self.url, scratch, make, self.files, clock=self.clock, note=self.note, policy=policy)

    # Changing: under the lease.

    def prepare(
        self,
        *,
        accept_native: bool = False,
        accept_rounding: bool = False,
        options: dict[str, Any] | None = None,
        reason: str = "",
    ) -> Result:
        """Backup, snapshot, baseline, online DDL."""
        with self._running("prepare", reason) as ctx:
            return prepare.run(ctx, accept_native=accept_native, accept_rounding=accept_rounding, options=options)

    def dual_write(self, *, readers_moved: bool = False, reason: str = "") -> Result:
        """Mirror every write into the other table."""
        with self._running("dual-write", reason) as ctx:
            return dual_write.run(ctx, readers_moved=readers_moved)

    def backfill(
        self, *, days: Sequence[date] | None = None, policy: str = "stop", again: bool = False, reason: str = ""
    ) -> Result:
        """Copy history."""
        with self._running("backfill", reason) as ctx:
            return backfill.run(ctx, days=days, policy=policy, again=again)

    def verify(self, *, repair: bool = False, extra: str = "", reason: str = "") -> Result:
        """Compare both tables by content, or make them equal (`extra`: see repair.run)."""
        with self._running("repair" if repair else "verify", reason) as ctx:
            return mend.run(ctx, extra=extra) if repair else verify.run(ctx)

    def cutover(self, *, reason: str = "") -> Result:
        """Switch readers to data_bars."""
        with self._running("cutover", reason) as ctx:
            return cutover.run(ctx)

    def watch(self, *, reason: str = "") -> list[Result]:
        """Look at the health once and enter it in the ledger (and, with a reason, in the audit)."""
        with self._connect() as conn:  # needs no lease: a watch must not die while a long phase runs
            self._require(conn)
            context = self._context(conn, lease.Lease(conn, 0), reason)
            found = health.watch(context)
            if reason:
                context.audit("watch", {row["name"]: row["status"] for row in found})
            return found

    def retire(self, *, reason: str = "") -> Result:
        """Soft-delete legacy rows and close legacy."""
        with self._running("retire", reason) as ctx:
            return retire.run(ctx)

    def rollback(self, *, reason: str = "") -> Result:
        """Back to legacy, from every state."""
        with self._running("rollback", reason) as ctx:
            return rollback.run(ctx)

    def pause(self, *, paused: bool = True, reason: str = "") -> Result:
        """Stop a running backfill within one batch (`paused` False: allow it again). Needs no lease."""
        with self._connect() as conn:
            ledger.require(conn)
            before = ledger.control(conn)
            with conn.transaction():
                conn.execute("UPDATE dxy.migration_control SET paused = %s", (paused,))
                context = self._context(conn, lease.Lease(conn, 0), reason)
                context.audit("pause" if paused else "resume")
            return {"state": before.state.value, "paused": paused}

    def sign(self, item: str, *, operator: str, note: str = "", reason: str = "") -> Result:
        """Sign an item of the checklist that no machine can judge."""
        with self._connect() as conn:
            self._require(conn)
            return status.sign(self._context(conn, lease.Lease(conn, 0), reason), item, operator, note)

    @contextmanager
    def _running(self, action: str, reason: str) -> Generator[Context, None, None]:
        with self._connect() as conn:
            self._require(conn)
            with lease.hold(conn, self.url, patience=self.lease_patience) as held:
                control = ledger.control(conn)
                if control.direction == "rollback" and action not in {"rollback", "repair"}:
                    raise UserError(
                        f"{action}: a rollback has begun and is not finished", hint="run `dxy migrate rollback`"
                    )
                context = self._context(conn, held, reason)
                context.counted = ledger.counts(conn)
                yield context

    def _require(self, conn: psycopg.Connection[Any]) -> None:
        if not self._checked:  # once for each object: it reads Alembic's scripts
            ledger.require(conn)
            self._checked = True

    def _context(self, conn: psycopg.Connection[Any], held: lease.Lease, reason: str) -> Context:
        return Context(
            conn, held, self.clock, self.actor, reason, self.url, self.files, self.scratch_url, self.note, self.patience
        )

    @contextmanager
    def _connect(self) -> Generator[psycopg.Connection[Any], None, None]:
        with (
            session.user_errors(),
            session.connect(
                self.url,
                application_name="migrate",
                autocommit=True,
                statement_timeout=0,
                lock_timeout=5,
                idle_in_transaction_timeout=0,
                pooler=False,
            ) as conn,
        ):
            yield conn

    @contextmanager
    def _reading(self) -> Generator[psycopg.Connection[Any], None, None]:
        with (
            session.user_errors(),
            session.connect(
                self.url, application_name="migrate", autocommit=True, read_only=True, statement_timeout=0, pooler=False
            ) as conn,
        ):
            yield conn

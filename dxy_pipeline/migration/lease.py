"""One runner at a time: a lease row with a fencing token, which every write of a runner checks in its transaction.

A session lock would not hold behind a transaction pooler, and a runner that was suspended for an hour would not know
that another has taken over. A killed runner's lease is free as soon as the server has noticed that its backend is gone.
While a runner lives, a timer of its own renews the lease on a second connection, whatever the first is busy with; the
timer of a suspended one stands still, so its lease runs out.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from dxy_pipeline.db import session
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import ledger

SECONDS = 60.0
LOCK_TIMEOUT = "150ms"  # far under deadlock_timeout: of two that wait for each other it is we who give way
RETRIED = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
T = TypeVar("T")


@dataclass(frozen=True)
class Lease:
    """A held lease: its connection and its fencing token."""

    conn: psycopg.Connection[Any]
    fence: int

    def write(self, work: Callable[[], T], *, what: str, patience: float = 60.0, locks_tables: bool = False) -> T:
        """Run `work` in one transaction under the fence, again when a lock is busy, for `patience` seconds.

        `locks_tables`: work locks the desk's tables or changes their DDL; no vacuum may stand in its way then.
        Raises UserError when the lease was taken over, or when a lock never came; nothing of `work` stands then.
        """
        deadline, pause = time.monotonic() + patience, 0.02
        while True:
            try:
                with self.conn.transaction():
                    self.conn.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
                    self.check()
                    if locks_tables:
                        _keep_vacuum_out(self.conn)
                    return work()
            except RETRIED as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{what}: a lock never came ({error.diag.message_primary})",
                        hint="another session holds the table; find it in pg_stat_activity, then run the command again",
                    ) from error
                time.sleep(pause)
                pause = min(pause * 2, 0.5)

    def check(self) -> None:
        """Raise UserError unless the lease is still ours; until the caller's transaction ends nobody takes it over then."""
        try:
            self.conn.execute("SELECT dxy.check_fence(%s)", (self.fence,))
        except errors.CantChangeRuntimeParam as error:
            raise UserError(
                str(error.diag.message_primary), hint="see `dxy migrate status`; this run has stopped"
            ) from error

    def renew(self, progress: dict[str, Any] | None = None) -> None:
        """Extend the lease, with how far its holder has come. Raises UserError when it is not ours any more."""
        if not _renew(self.conn, self.fence, progress):
            raise UserError("another runner has taken the migration over", hint="see `dxy migrate status`")


def _keep_vacuum_out(conn: psycopg.Connection[Any]) -> None:
    """Wait until no vacuum works on the two tables, and let the next one wait; readers and writers pass by this lock.

    Autovacuum gives way to whoever has waited for deadlock_timeout, which is longer than LOCK_TIMEOUT: after a backfill
    of millions of rows, when it surely runs, a cutover would try in vain for minutes.
    """
    conn.execute("SELECT set_config('lock_timeout', (extract(epoch FROM current_setting('deadlock_timeout')::interval)"
                 " * 1000 + 1000)::integer::text, true)")  # fmt: skip
    conn.execute("LOCK TABLE public.derived_data_bars, public.data_bars IN SHARE UPDATE EXCLUSIVE MODE")
    conn.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))


@contextmanager
def hold(conn: psycopg.Connection[Any], url: str, *, patience: float = 3.0) -> Generator[Lease, None, None]:
    """Take the lease, keep it alive (over connections to `url`), and give it back at the end.

    Raises UserError that names the holder when it is still taken after `patience` seconds.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}"
    deadline = time.monotonic() + patience
    while not (got := _take(conn, holder)):
        if time.monotonic() > deadline:
            row = conn.execute("SELECT holder, expires_at FROM dxy.migration_lease").fetchone()
            raise UserError(
                f"the migration is being run by {row[0] if row else 'another runner'}",
                hint=f"wait for it, or until its lease ends at {row[1]:%H:%M:%S} UTC" if row else "try again",
            )
        time.sleep(0.05)
    lease = Lease(conn, got)
    stop = threading.Event()
    timer = threading.Thread(target=_keep_alive, args=(url, got, stop), name="migration lease", daemon=True)
    timer.start()
    try:
        yield lease
    finally:
        stop.set()
        if not conn.closed and not conn.broken:
            conn.rollback()
            conn.execute(
                "UPDATE dxy.migration_lease SET holder = NULL, backend_pid = NULL WHERE fence = %s", (lease.fence,)
            )


def _keep_alive(url: str, fence: int, stop: threading.Event) -> None:
    """Renew the lease until `stop`, or until it is another's; a renewal that fails is tried again at the next turn."""
    while not stop.wait(SECONDS / 4):
        with (
            contextlib.suppress(psycopg.Error, UserError),
            session.connect(
                url, application_name="migrate-lease", autocommit=True, lock_timeout=1, pooler=False
            ) as conn,
        ):
            if not stop.is_set() and not _renew(conn, fence):
                return


def _renew(conn: psycopg.Connection[Any], fence: int, progress: dict[str, Any] | None = None) -> bool:
    shown = json.dumps(progress) if progress else None
    return bool(ledger.rows(conn, "renew_lease", fence=fence, seconds=SECONDS, progress=shown))


def _take(conn: psycopg.Connection[Any], holder: str) -> int:
    """Return the new fencing token, 0 when the lease is held (a running batch holds the row for its transaction)."""
    try:
        with conn.transaction():
            conn.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
            # A runner's transaction holds the row FOR KEY SHARE: its timer may renew meanwhile, nobody may take over.
            conn.execute("SELECT 1 FROM dxy.migration_lease FOR UPDATE")
            got = ledger.rows(conn, "take_lease", holder=holder, seconds=SECONDS)
    except RETRIED:
        return 0
    return int(got[0]["fence"]) if got else 0

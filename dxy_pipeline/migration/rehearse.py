"""rehearse: the whole migration on a restored copy in the embedded server, forward, back and forward, with timings.

The desk's database is only read, by pg_dump. The copy is dropped afterwards.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from dxy_pipeline.core.clock import Clock
from dxy_pipeline.db import session
from dxy_pipeline.migration import backup, scratch

OPTIONS = {"health_minutes": 0}
_PREFIX = "dxy_rehearsal_"


def run(
    url: str,
    scratch_url: str,
    make: Callable[[str, Path], Any],
    files: Path,
    *,
    clock: Clock,
    note: Callable[[str], None],
    policy: str = "stop",
) -> list[dict[str, Any]]:
    """Return one row for each phase: name, seconds, result. `make(url, files)` builds the migration of the copy."""
    from dxy_pipeline.db import schema  # noqa: PLC0415 - Alembic takes a second to import

    timings: list[dict[str, Any]] = []

    def timed(phase: str, work: Callable[[], Any]) -> None:
        note(f"rehearsal: {phase}")
        began = time.monotonic()
        result = work()
        shown = {k: v for k, v in result.items() if k in _SHOWN} if isinstance(result, dict) else {}
        timings.append({"phase": phase, "seconds": round(time.monotonic() - began, 2), "result": shown})

    with (
        scratch.directory(files, _PREFIX) as place,
        scratch.database(scratch_url, _PREFIX) as copy_url,
    ):
        path = place / "copy.dump"
        with session.connect(url, application_name="rehearse", autocommit=True, read_only=True,
                             statement_timeout=0, pooler=False) as conn:  # fmt: skip
            timed("dump", lambda: backup.dump(conn, url, path))
        timed("restore", lambda: backup.restore_copy(path, copy_url))
        with psycopg.connect(copy_url, autocommit=True, options="-c TimeZone=UTC") as conn:
            timed("db upgrade", lambda: schema.upgrade(conn))
        migration = make(copy_url, place)
        prepare = {"accept_native": True, "accept_rounding": True, "options": OPTIONS}
        for cycle in (" (forward)", " (again)"):
            timed(f"prepare{cycle}", lambda: migration.prepare(**prepare))
            timed(f"dual-write{cycle}", lambda: migration.dual_write(readers_moved=True))
            timed(f"backfill{cycle}", lambda: migration.backfill(policy=policy))
            timed(f"verify{cycle}", migration.verify)
            timed(f"cutover{cycle}", migration.cutover)
            timed(f"retire{cycle}", migration.retire)
            if cycle == " (forward)":
                timed("rollback", migration.rollback)
    return timings


_SHOWN = ("state", "days", "scanned", "inserted", "unverifiable", "conflict", "ok", "retired", "un-deleted")

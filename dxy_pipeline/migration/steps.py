"""Every point at which a run can be cut off, named in one place, with a hook at each.

The hook does nothing unless a test installed one. The kill matrix runs over STEPS, so a step that is added here and not
reached, or reached and not listed, fails a test. A step marked `!` lies inside a transaction that is not committed yet.
"""

from collections.abc import Callable
from typing import Any, Final

import psycopg

STEPS: Final[dict[str, tuple[str, ...]]] = {
    "prepare": (
        "prepare.begun",
        "prepare.dumped",
        "prepare.restored",
        "prepare.proved",
        "prepare.snapshot",
        "prepare.baseline",
        "prepare.definitions",
        "prepare.widening",
        "prepare.widened",
        "prepare.objects",
        "prepare.registry",
        "prepare.closing!",
        "prepare.done",
    ),
    "dual-write": ("dual-write.begun", "dual-write.attached!", "dual-write.recorded!", "dual-write.done"),
    "backfill": ("backfill.begun", "backfill.batch!", "backfill.committed", "backfill.done"),
    "verify": ("verify.begun", "verify.compared", "verify.recorded!", "verify.done"),
    "repair": ("repair.begun", "repair.batch!", "repair.committed"),
    "restore": ("restore.attached!", "restore.done"),
    "cutover": ("cutover.begun", "cutover.verified", "cutover.gate!", "cutover.flipped!", "cutover.done"),
    "retire": (
        "retire.begun",
        "retire.batch!",
        "retire.committed",
        "retire.closing!",
        "retire.closed",
        "retire.done",
    ),
    "rollback": (
        "rollback.begun",
        "rollback.reopened!",
        "rollback.unretire!",
        "rollback.opened!",
        "rollback.unretired",
        "rollback.proved",
        "rollback.readers!",
        "rollback.muted!",
        "rollback.undo!",
        "rollback.undone",
        "rollback.closing!",
        "rollback.done",
    ),
    "abandon": ("abandon.closing!", "abandon.done"),
}
ALL: Final = tuple(step for steps in STEPS.values() for step in steps)

Hook = Callable[[str, psycopg.Connection[Any]], None]
_hook: Hook | None = None


def install(hook: Hook | None) -> None:
    """Set (or with None remove) the hook of this process. Tests only."""
    global _hook  # noqa: PLW0603 - one hook for the process, like a breakpoint
    _hook = hook


def reached(step: str, conn: psycopg.Connection[Any]) -> None:
    """Tell the hook, if there is one, that `step` was reached."""
    if _hook is not None:
        _hook(step, conn)

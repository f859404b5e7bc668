"""--dry-run: what a command would do and what is in its way, found on a read-only connection. Changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import psycopg

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import dual_write, health, ledger, objects, plan, states, status, steps, verify
from dxy_pipeline.migration.ledger import Control
from dxy_pipeline.migration.states import State

_STEPS_OF: Final = {"pause": "", "resume": "backfill"}
_STAYING: Final = frozenset({"backfill", "pause", "resume", "watch", "sign"})


def preview(conn: psycopg.Connection[Any], action: str, now: datetime, **flags: Any) -> dict[str, Any]:
    """Return the states from and to, the steps, and what is in the way (empty: the command would go on).

    `flags` are the command's own.
    """
    ledger.require(conn)
    control = ledger.control(conn)
    obstacles: list[str] = []
    if control.direction == "rollback" and action not in {"rollback", "watch", "sign", "pause", "resume"}:
        obstacles.append("a rollback has begun and is not finished")
    target = _target(action, control, obstacles)
    if look := _LOOKS.get(action):
        obstacles += look(conn, control, now, flags)
    report = {
        "dry run": True,
        "action": action,
        "from": control.state.value,
        "to": target,
        "in the way": obstacles,
        "steps": list(steps.STEPS.get(_STEPS_OF.get(action, action), ())),
        "rows": ledger.counts(conn),
    }
    if action == "watch":
        report["would enter"] = health.check(conn, control, now)
    return report


def _target(action: str, control: Control, obstacles: list[str]) -> str:
    state = control.state
    if action in _STAYING:
        return state.value
    if action == "rollback":
        if state not in {State.NONE, State.LEGACY, State.ROLLED_BACK}:
            return State.ROLLED_BACK.value
        if not control.preparing:  # else a prepare that was cut off is abandoned
            obstacles.append(f"there is nothing to roll back in state {state}")
        return state.value
    if action == "dual-write" and state in states.DUAL:
        return state.value  # it restores missing triggers
    try:
        return states.target(action, state).value
    except UserError as error:
        obstacles.append(str(error))
        return state.value


Flags = dict[str, Any]
Look = Callable[[psycopg.Connection[Any], Control, datetime, Flags], list[str]]


def _prepare(conn: psycopg.Connection[Any], _control: Control, _now: datetime, flags: Flags) -> list[str]:
    accepted = {name: bool(flags.get(name)) for name in ("accept_native", "accept_rounding")}
    return plan.blockers(conn, **accepted)


def _dual_write(conn: psycopg.Connection[Any], _control: Control, _now: datetime, flags: Flags) -> list[str]:
    return [] if flags.get("readers_moved") else [dual_write.readers_in_the_way(conn)]


def _backfill(conn: psycopg.Connection[Any], control: Control, _now: datetime, _flags: Flags) -> list[str]:
    if control.state not in {State.DUAL_WRITE, State.VERIFIED}:
        return [f"backfill needs the state dual_write; the migration is in state {control.state}"]
    return _triggers(conn, control) + (["it is paused; `dxy migrate resume` goes on"] if control.paused else [])


def _verify(conn: psycopg.Connection[Any], control: Control, _now: datetime, flags: Flags) -> list[str]:
    pending = control.state in {State.DUAL_WRITE, State.VERIFIED} and not flags.get("repair")
    days = verify.days_missing(conn) if pending else ""
    return _triggers(conn, control) + ([days] if days else [])


def _cutover(conn: psycopg.Connection[Any], control: Control, _now: datetime, _flags: Flags) -> list[str]:
    if control.state is not State.VERIFIED:
        return []
    found = verify.compare(conn)
    return [
        *_triggers(conn, control),
        *([f"{found.differing} minutes differ"] if found.failures else []),
        *(["there was a repair after the last clean verification"] if control.repaired_after else []),
    ]


def _retire(conn: psycopg.Connection[Any], control: Control, now: datetime, _flags: Flags) -> list[str]:
    if control.state is not State.CUT_OVER:
        return []
    window = health.window(conn, control, now)
    return _triggers(conn, control) + ([] if window.green else [f"the health window is not green: {window.missing}"])


def _sign(_conn: psycopg.Connection[Any], _control: Control, _now: datetime, flags: Flags) -> list[str]:
    try:
        status.signable(str(flags.get("item", "")), str(flags.get("operator", "")))
    except UserError as error:
        return [str(error)]
    return []


def _triggers(conn: psycopg.Connection[Any], control: Control) -> list[str]:
    missing = objects.missing_triggers(conn) if control.state in states.DUAL else []
    return [f"the trigger {name} is missing or disabled" for name in missing]


_LOOKS: Final[dict[str, Look]] = {
    "prepare": _prepare,
    "dual-write": _dual_write,
    "backfill": _backfill,
    "resume": lambda conn, control, now, flags: _backfill(conn, replace(control, paused=False), now, flags),
    "verify": _verify,
    "cutover": _cutover,
    "retire": _retire,
    "sign": _sign,
}

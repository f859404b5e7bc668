"""--dry-run: what a command would do and what is in its way, found on a read-only connection. Changes nothing."""

from datetime import datetime
from typing import Any

import psycopg

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import health, ledger, objects, plan, states, steps, verify
from dxy_pipeline.migration.states import State

_STEPS_OF = {"dual-write": "dual-write", "pause": "", "resume": "backfill"}


def preview(conn: psycopg.Connection[Any], action: str, now: datetime, **flags: bool) -> dict[str, Any]:
    """Return the states from and to, the steps, and what is in the way (empty: the command would go on)."""
    ledger.require(conn)
    control = ledger.control(conn)
    obstacles: list[str] = []
    if control.direction == "rollback" and action != "rollback":
        obstacles.append("a rollback has begun and is not finished")
    target = _target(action, control.state, obstacles)
    if action == "prepare":
        obstacles += plan.blockers(
            conn, accept_native=flags.get("accept_native", False), accept_rounding=flags.get("accept_rounding", False)
        )
    if control.state in states.DUAL and action in {"backfill", "verify", "cutover", "retire"}:
        obstacles += [f"the trigger {name} is missing or disabled" for name in objects.missing_triggers(conn)]
    if action == "cutover" and control.state is State.VERIFIED:
        found = verify.compare(conn)
        obstacles += [f"{found.differing} minutes differ"] if found.failures else []
        obstacles += ["there was a repair after the last clean verification"] if control.repaired_after else []
    if action == "retire" and control.state is State.CUT_OVER:
        window = health.window(conn, control, now)
        obstacles += [] if window.green else [f"the health window is not green: {window.missing}"]
    return {
        "dry run": True,
        "action": action,
        "from": control.state.value,
        "to": target,
        "in the way": obstacles,
        "steps": list(steps.STEPS.get(_STEPS_OF.get(action, action), ())),
        "rows": ledger.counts(conn),
    }


def _target(action: str, state: State, obstacles: list[str]) -> str:
    if action in {"backfill", "pause", "resume"}:
        if action == "backfill" and state not in {State.DUAL_WRITE, State.VERIFIED}:
            obstacles.append(f"backfill needs the state dual_write; the migration is in state {state}")
        return state.value
    if action == "rollback":
        if state in {State.NONE, State.LEGACY, State.ROLLED_BACK}:
            obstacles.append(f"there is nothing to roll back in state {state}")
        return State.ROLLED_BACK.value
    try:
        return states.target(action, state).value
    except UserError as error:
        obstacles.append(str(error))
        return state.value

"""The states of the migration and the moves between them, in this one place. No SQL here."""

from enum import StrEnum
from typing import Final

from dxy_pipeline.errors import UserError


class State(StrEnum):
    """Where the move stands; what is true of each state is in docs/migration.md."""

    NONE = "none"
    LEGACY = "legacy"
    PREPARED = "prepared"
    DUAL_WRITE = "dual_write"
    VERIFIED = "verified"
    CUT_OVER = "cut_over"
    RETIRED = "retired"
    ROLLED_BACK = "rolled_back"


# action -> from -> to
MOVES: Final[dict[str, dict[State, State]]] = {
    "prepare": {
        State.NONE: State.PREPARED,
        State.LEGACY: State.PREPARED,
        State.ROLLED_BACK: State.PREPARED,
    },
    "dual-write": {State.PREPARED: State.DUAL_WRITE},
    "verify": {State.DUAL_WRITE: State.VERIFIED, State.VERIFIED: State.VERIFIED},
    "unverify": {State.VERIFIED: State.DUAL_WRITE},
    "cutover": {State.VERIFIED: State.CUT_OVER},
    "retire": {State.CUT_OVER: State.RETIRED},
    "reopen": {State.RETIRED: State.CUT_OVER},
    "readers-back": {State.CUT_OVER: State.DUAL_WRITE, State.VERIFIED: State.DUAL_WRITE},
    "rollback": {State.DUAL_WRITE: State.ROLLED_BACK, State.PREPARED: State.ROLLED_BACK},
}
DUAL: Final = frozenset({State.DUAL_WRITE, State.VERIFIED, State.CUT_OVER})
NEXT: Final[dict[State, str]] = {
    State.NONE: "prepare",
    State.LEGACY: "prepare",
    State.ROLLED_BACK: "prepare",
    State.PREPARED: "dual-write",
    State.DUAL_WRITE: "backfill, then verify",
    State.VERIFIED: "cutover",
    State.CUT_OVER: "retire (after the health window)",
    State.RETIRED: "nothing; rollback is possible",
}


def parse(text: str) -> State:
    """Return the state of that name. Raises UserError for one that this code does not know."""
    try:
        return State(text)
    except ValueError:
        raise UserError(
            f"the migration's ledger says {text!r}, a state this code does not know",
            hint="install the version of dxy_pipeline that wrote it; `dxy migrate audit` shows which",
        ) from None


def target(action: str, state: State) -> State:
    """Return where `action` leads from `state`. Raises UserError that names the command which comes next."""
    moves = MOVES[action]
    if state not in moves:
        wanted = " or ".join(moves)
        raise UserError(
            f"{action} needs the state {wanted}; the migration is in state {state}",
            hint=f"next here: dxy migrate {NEXT[state]}",
        )
    return moves[state]


def replay(audit: list[tuple[str, str]]) -> State | None:
    """Return the state that a list of (from, to) leads to; raises ValueError where one does not follow on another."""
    state: str | None = None
    for before, after in audit:
        if state is not None and before != state:
            raise ValueError(f"the audit goes from {state} to an entry that begins in {before}")
        state = after
    return State(state) if state else None

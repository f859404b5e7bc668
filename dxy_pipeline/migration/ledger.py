"""The control row and the audit: reading them, and moving from state to state in one conditional statement.

What a phase does between two states does not belong here.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dxy_pipeline.db import contract
from dxy_pipeline.db.constants import sql_constants
from dxy_pipeline.db.shape import inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import states
from dxy_pipeline.migration.states import State
from dxy_pipeline.sql import load, render, trusted

Row = dict[str, Any]


@dataclass(frozen=True)
class Control:
    """The one row that says where the migration stands."""

    state: State
    migration_id: int
    read_from: str
    direction: str
    preparing: bool
    paused: bool
    muted: bool
    verified_by: int | None
    repaired_after: bool
    cut_over_at: datetime | None
    options: dict[str, Any]


def constants() -> dict[str, str]:
    """The placeholders of sql/migration."""
    base = sql_constants()
    floats = base["pivot_closes"].replace("b.close)", "b.close::double precision)")
    return {**base, "pivot_closes_float": floats}


def rows(conn: psycopg.Connection[Any], name: str, fills: dict[str, str] | None = None, **values: Any) -> list[Row]:
    """Run sql/migration/<name>.sql and return its rows as mappings (none for a statement without a result)."""
    text = trusted(render(f"migration/{name}", {**constants(), **(fills or {})}))
    with conn.cursor(row_factory=dict_row) as cur:
        cur.execute(text, values)
        return cur.fetchall() if cur.description else []


def one(conn: psycopg.Connection[Any], name: str, **values: Any) -> Row:
    """Run a query that returns exactly one row."""
    return rows(conn, name, **values)[0]


def control(conn: psycopg.Connection[Any]) -> Control:
    """Return the control row. Raises UserError where the ledger is missing or holds what this code does not know."""
    with conn.cursor(row_factory=dict_row) as cur:
        row = cur.execute("SELECT * FROM dxy.migration_control").fetchone()
    if row is None:
        raise UserError("this database has no migration ledger", hint='run "dxy db upgrade" first')
    known: dict[str, Any] = {name: row[name] for name in Control.__dataclass_fields__}
    known["state"] = states.parse(row["state"])
    return Control(**known)


def counts(conn: psycopg.Connection[Any]) -> Row:
    """Rows of DXY 1m in both tables, dead ones apart."""
    return one(conn, "counts")


def move(
    conn: psycopg.Connection[Any],
    who: "Actor",
    action: str,
    before: Control,
    *,
    sets: dict[str, Any] | None = None,
    details: Row | None = None,
    counted: Row | None = None,
    after: Row | None = None,
) -> State:
    """Go to the state that `action` leads to, and write the audit, in the caller's transaction.

    `after`: the counts for the audit, when the caller took them before it locked the tables (counting reads them whole).
    Conditional on state, direction, verification and repairs being what `before` says: of two racing runners one wins.
    """
    target = states.target(action, before.state)
    values = {"state": target.value, "changed_at": who.at, **(sets or {})}
    assignments = ", ".join(f"{name} = %({name})s" for name in values)
    done = conn.execute(
        trusted(
            # the names are this package's own
            f"UPDATE dxy.migration_control SET {assignments} WHERE state = %(was_state)s AND direction = %(was_direction)s"  # noqa: S608
            " AND verified_by IS NOT DISTINCT FROM %(was_verified)s AND repaired_after = %(was_repaired)s"
        ),
        {
            **values,
            "was_state": before.state.value,
            "was_direction": before.direction,
            "was_verified": before.verified_by,
            "was_repaired": before.repaired_after,
        },
    )
    if done.rowcount != 1:
        raise UserError(f"{action}: another runner changed the migration meanwhile", hint="see `dxy migrate status`")
    migration_id = (sets or {}).get("migration_id", before.migration_id)
    note(conn, who, action, before.state, target, migration_id, details=details, counted=counted, after=after)
    contract.record_migration(conn)
    return target


@dataclass(frozen=True)
class Actor:
    """Who does it, when by the injected clock, why, and with which code."""

    name: str
    at: datetime
    reason: str
    code_version: str


def note(
    conn: psycopg.Connection[Any],
    who: Actor,
    action: str,
    before: State,
    target: State,
    migration_id: int,
    *,
    details: Row | None = None,
    counted: Row | None = None,
    after: Row | None = None,
) -> None:
    """Append one line to the audit; `counted` are the counts before, those `after` are taken now unless given."""
    rows(
        conn,
        "audit",
        migration_id=migration_id,
        at=who.at,
        actor=who.name,
        code_version=who.code_version,
        action=action,
        from_state=before.value,
        to_state=target.value,
        reason=who.reason,
        details=json.dumps(details or {}, default=str),
        counts_before=json.dumps(counted or {}),
        counts_after=json.dumps(after or counts(conn)),
    )


def require(conn: psycopg.Connection[Any]) -> None:
    """Raise UserError unless the database has this code's ledger."""
    from dxy_pipeline.db.schema import require_head  # noqa: PLC0415 - Alembic takes a second to import

    require_head(conn)


def is_member(conn: psycopg.Connection[Any]) -> list[str]:
    """Tables whose owner the current user is not: nothing can be migrated then."""
    return [t.name for t in inspect(conn).tables.values() if not t.can_alter]


__all__ = ["Actor", "Control", "constants", "control", "counts", "is_member", "load", "move", "note", "one", "rows"]

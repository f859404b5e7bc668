"""The schema contract: what was deployed is remembered, compared, and restored by the next upgrade.

Ours (schema dxy, our functions, triggers and policies, the three tables where we made them) is put back to what was
deployed; what cannot be put back without touching data is refused with what to do. What is a desk's own is remembered as
it is now, and said. Nothing that was damaged is ever taken for the deployed state.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from dxy_pipeline.db.widen import Step
from dxy_pipeline.errors import UserError
from dxy_pipeline.sql import load, trusted


@dataclass(frozen=True)
class Change:
    """One object that is not as deployed; `found` is None when it is gone, `remedy` None when nothing restores it."""

    object: str
    deployed: str
    found: str | None
    is_own: bool
    remedy: str | None

    @property
    def words(self) -> str:
        """What happened to it."""
        if self.object.startswith("routine "):
            return f"{self.object} was changed by hand" if self.found else f"{self.object} is missing"
        return f"{self.object}, deployed as {self.deployed}, is {f'now {self.found}' if self.found else 'missing'}"


def changes(conn: psycopg.Connection) -> list[Change]:
    """Return what is not as deployed, in the order in which it can be restored; empty before the first upgrade."""
    row = conn.execute("SELECT to_regclass('dxy.deployed_object') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return []
    with _spelled(conn), conn.cursor(row_factory=class_row(Change)) as cur:
        return cur.execute(_composed("contract_changes")).fetchall()


def refusals(found: list[Change]) -> list[str]:
    """Return why an upgrade cannot restore the contract, each with what to do."""
    return [f"{c.words}; {_advice(c)}" for c in found if c.is_own and c.remedy is None]


def steps(found: list[Change]) -> list[Step]:
    """Return what puts our own objects back; grants and owners are only cleared here, `roles.apply` sets them."""
    return [
        Step(f"restore {c.object}", trusted(c.remedy), "ACCESS EXCLUSIVE on that object for an instant")
        for c in found
        if c.is_own and c.remedy
    ]


def accepted(found: list[Change]) -> list[str]:
    """Return what a desk changed on its own tables, which the upgrade remembers as it is now."""
    return [f"accept as it is: {c.words}" for c in found if not c.is_own]


def require_restored(conn: psycopg.Connection, *, owners: bool = False) -> None:
    """Raise UserError when something of ours is not as deployed after its steps.

    Grants are not looked at, and owners (`owners`) only after `roles.apply`, which sets both.
    """
    wrong = [c for c in changes(conn) if c.is_own and not c.object.startswith("grants ")]
    if left := [c.words for c in wrong if c.object.startswith("owner ") is owners]:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise UserError(f"{left[0]}{more}; it could not be restored", hint='see "dxy db plan"; nothing else was done')


def record(conn: psycopg.Connection) -> None:
    """Remember every object as it is now: the last step of an upgrade."""
    with _spelled(conn):
        conn.execute(_composed("contract_record"))


def record_migration(conn: psycopg.Connection, routines: list[str] | None = None) -> None:
    """Remember what a step of the migration made, in the caller's transaction if there is one.

    New objects, the widened CHECK on source, the CHECK of a retired table, and the functions named in `routines`;
    what else is not as deployed stays so.
    """
    with _spelled(conn):
        conn.execute(_composed("contract_record_migration"), {"routines": routines or []})


@contextmanager
def _spelled(conn: psycopg.Connection) -> Generator[None]:
    """A transaction in which the catalog spells names as the contract remembers them: by the search path."""
    set_path = "SELECT set_config('search_path', %s, true)"
    with conn.transaction():
        before = conn.execute("SELECT current_setting('search_path')").fetchone()
        conn.execute(set_path, ("pg_catalog, pg_temp",))
        yield
        conn.execute(set_path, before)


def _composed(name: str) -> sql.Composed:
    return sql.SQL(load(f"checks/{name}")).format(contract_objects=sql.SQL(load("checks/contract_objects")))


def _advice(change: Change) -> str:
    kind, _, name = change.object.partition(" ")
    table, _, column = name.rpartition(".")
    if kind == "column" and change.found:
        return f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {change.deployed}"
    return f"restore {name} from a backup"

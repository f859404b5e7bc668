"""Online DDL on the desk's three tables: what they lack for holding DXY bars.

Used by `schema.upgrade` on a database without legacy DXY rows, and by the migration's prepare on one that has them.
Every step is short, runs in its own transaction under `lock_timeout` with retries, and is skipped when already true.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from dxy_pipeline.db.fitness import WANTED_COLUMNS, accepts
from dxy_pipeline.db.shape import BARS, Check, Database, Table
from dxy_pipeline.errors import UserError
from dxy_pipeline.sql import load, trusted


@dataclass(frozen=True)
class Step:
    """One change: what it does, the statement, the lock it takes and how long it holds it."""

    title: str
    statement: sql.SQL | sql.Composed
    lock: str
    concurrent: bool = False
    undo: sql.SQL | None = None


def steps(conn: psycopg.Connection, db: Database) -> list[Step]:
    """The steps that are still to do, in order. Reads only."""
    return [*_column_steps(db), *_check_steps(conn, db), *_index_steps(db), *_trigger_steps(conn, db)]


def apply(
    conn: psycopg.Connection,
    todo: list[Step],
    note: Callable[[str], None] = lambda _: None,
    guard: Callable[[], None] = lambda: None,
) -> None:
    """Run the steps on an autocommit connection; each waits at most 2 s for its lock and is tried ten times.

    `guard` is called before each, in its transaction: it raises when the caller may not change anything any more.
    Raises UserError when a lock never comes; what is done so far stays and the next call goes on from there.
    """
    for step in todo:
        note(step.title)
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(psycopg.errors.LockNotAvailable),
                stop=stop_after_attempt(10),
                wait=wait_exponential(0.2, max=5),
                reraise=True,
            ):
                with attempt:
                    _run(conn, step, guard)
        except psycopg.errors.CheckViolation:
            # the desk left its own CHECK NOT VALID, and old rows break it: new rows are held to it all the same
            note(f"{step.title}: rows of the desk break it; it stays NOT VALID")
        except psycopg.errors.UniqueViolation as error:
            raise UserError(
                f"{step.title}: two rows share one (canonical_symbol, timeframe, ts_utc)",
                hint="remove the second of each, then run the same command again",
            ) from error
        except psycopg.errors.LockNotAvailable as error:
            raise UserError(
                f"could not get the lock for: {step.title}",
                hint="another session holds the table; find it in pg_stat_activity, then run the same command again",
            ) from error


def _run(conn: psycopg.Connection, step: Step, guard: Callable[[], None]) -> None:
    """Run one step; what reads a whole table may take longer than the load budget of a statement."""
    if not step.concurrent:
        with conn.transaction():
            guard()
            conn.execute("SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = 0")
            conn.execute(step.statement)
        return
    guard()
    before = conn.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')").fetchone()
    try:
        conn.execute("SELECT set_config('lock_timeout', '60s', false), set_config('statement_timeout', '0', false)")
        if step.undo is not None:  # a build that was cut short leaves an invalid index of this name behind
            conn.execute(step.undo)
        conn.execute(step.statement)
    finally:
        conn.execute("SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)", before)


def _narrow_source_checks(conn: psycopg.Connection, table: Table) -> list[Check]:
    return [c for c in table.checks if c.columns == ("source",) and not accepts(conn, table, c)]


def _column_steps(db: Database) -> Iterator[Step]:
    for name, wanted in WANTED_COLUMNS.items():
        missing = [c for c in wanted if c not in db.tables[name].columns]
        if missing:
            adds = sql.SQL(", ").join(
                sql.SQL("ADD COLUMN IF NOT EXISTS {} {}").format(
                    sql.Identifier(c),
                    trusted(wanted[c]),
                )
                for c in missing
            )
            yield Step(
                f"add {', '.join(missing)} to {name}",
                sql.SQL("ALTER TABLE public.{} {}").format(sql.Identifier(name), adds),
                "ACCESS EXCLUSIVE for an instant (no rewrite: constant defaults)",
            )


def _check_steps(conn: psycopg.Connection, db: Database) -> Iterator[Step]:
    table = sql.Identifier("public", BARS)
    for check in _narrow_source_checks(conn, db.tables[BARS]):
        name = sql.Identifier(check.name)
        yield Step(
            f"widen the CHECK {check.name} by 'synthetic'",
            sql.SQL(
                "ALTER TABLE {} DROP CONSTRAINT {}, ADD CONSTRAINT {} CHECK ({} OR source = 'synthetic') NOT VALID"
            ).format(
                table,
                name,
                name,
                trusted(check.expression),
            ),
            "ACCESS EXCLUSIVE for an instant",
        )
        yield _validate_step(check.name)
    for check in db.tables[BARS].checks:
        if check.columns == ("source",) and not check.validated and "'synthetic'" in check.expression:
            yield _validate_step(check.name)


def _validate_step(name: str) -> Step:
    return Step(
        f"validate the CHECK {name}",
        sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(sql.Identifier("public", BARS), sql.Identifier(name)),
        "SHARE UPDATE EXCLUSIVE while it reads the table; reads and writes go on",
    )


def _index_steps(db: Database) -> Iterator[Step]:
    bars = db.tables[BARS]
    if bars.key_index() is not None:
        return
    invalid = any(index.name == "data_bars_unique_idx" for index in bars.indexes)
    yield Step(
        f"build the unique index data_bars_unique_idx{' anew, the one there is invalid' if invalid else ''}",
        sql.SQL(
            "CREATE UNIQUE INDEX CONCURRENTLY data_bars_unique_idx"
            " ON public.data_bars (canonical_symbol, timeframe, ts_utc)"
        ),
        "SHARE UPDATE EXCLUSIVE while it reads the table; reads and writes go on",
        concurrent=True,
        undo=sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS public.data_bars_unique_idx"),
    )


def _trigger_steps(conn: psycopg.Connection, db: Database) -> Iterator[Step]:
    if not (db.has_own_schema and conn.execute(load("queries/has_touch_triggers")).fetchone()):
        yield touch_step()


def touch_step() -> Step:
    """The step that also tables of our own need."""
    return Step(
        "log touched minutes by triggers on data_bars",
        sql.SQL(load("schema/touch_triggers")),
        "SHARE ROW EXCLUSIVE for an instant; readers are not held up",
    )

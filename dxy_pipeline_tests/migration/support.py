"""What the migration's tests share: databases staged at each state, fingerprints, and a migration that is ready to run.

A staged database is built once a session for each server, shape and state, and cloned for each test.
"""

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.db import schema
from dxy_pipeline.migration import steps
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline_tests import shapes
from dxy_pipeline_tests.pg_server import Cluster

NOW = datetime(2024, 6, 12, 3, 0, tzinfo=UTC)
OPTIONS = {"health_minutes": 0}
# The command that enters each state, in order.
PATH = ("legacy", "prepared", "dual_write", "backfilled", "verified", "cut_over", "retired")


def enter(migration: Migration, state: str) -> None:
    """Run the command that leads into `state` from the one before it."""
    match state:
        case "prepared":
            migration.prepare(accept_native=True, options=OPTIONS)
        case "dual_write":
            migration.dual_write(readers_moved=True)
        case "backfilled":
            migration.backfill()
        case "verified":
            assert migration.verify()["ok"]
        case "cut_over":
            migration.cutover()
        case "retired":
            migration.retire()


def build(conn: psycopg.Connection, shape: str) -> None:
    """Build one of the shapes (`S`, `Sfull`: a key unique over dead rows too, `P`, `E`) with the schema at head."""
    match shape:
        case "S":
            shapes.build_shape_s(conn)
        case "Sfull":
            shapes.build_shape_s(conn, partial_index=False)
        case "P":
            shapes.build_shape_p(conn)
    schema.upgrade(conn)
    if shape == "E":
        shapes.fill_bars(conn, "E")
        shapes.fill_dead(conn)
        shapes.fill_natives(conn, "E")


@dataclass
class Staged:
    """A database of one test, with its migration."""

    url: str
    migration: Migration
    conn: psycopg.Connection


@dataclass
class Stage:
    """Builds and clones staged databases on one server."""

    cluster: Cluster
    scratch: Callable[[], str]
    files: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="dxy-migration-files-")))
    made: dict[tuple[str, str], str] = field(default_factory=dict)

    def template(self, shape: str, state: str) -> str:
        """The name of the database that stands at `state`; built on first use."""
        if (shape, state) not in self.made:
            name = f"stage_{shape.lower()}_{state}_{secrets.token_hex(3)}"
            place = PATH.index(state)
            source = "template0" if place == 0 else self.template(shape, PATH[place - 1])
            self._create(name, source)
            if place == 0:
                with psycopg.connect(self.cluster.url(name), autocommit=True, options="-c TimeZone=UTC") as conn:
                    build(conn, shape)
                    conn.execute("ANALYZE")
            else:
                enter(self.migration(self.cluster.url(name)), state)
            self.made[shape, state] = name
        return self.made[shape, state]

    def migration(self, url: str, **more: Any) -> Migration:
        """A migration of the database at `url` on the tests' clock."""
        values: dict[str, Any] = {"clock": FixedClock(NOW), "actor": "tester", "files": self.files, "patience": 10.0}
        return Migration(url, scratch_url=self.scratch, **{**values, **more})

    @contextlib.contextmanager
    def at(self, shape: str, state: str, **more: Any) -> Iterator[Staged]:
        """A clone of the database at `state`, dropped afterwards."""
        name = f"t_{secrets.token_hex(6)}"
        self._create(name, self.template(shape, state))
        url = self.cluster.url(name)
        try:
            with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as conn:
                yield Staged(url, self.migration(url, **more), conn)
        finally:
            steps.install(None)
            self.cluster.drop(url)

    @contextlib.contextmanager
    def changed(self, shape: str, *statements: str, natives: bool = True, **more: Any) -> Iterator[Staged]:
        """A shape (`S` or `P`) that `statements` changed before anything of ours came."""
        name = f"t_{secrets.token_hex(6)}"
        self._create(name, "template0")
        url = self.cluster.url(name)
        try:
            with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as conn:
                (shapes.build_shape_s if shape == "S" else shapes.build_shape_p)(conn, natives=natives)
                for statement in statements:
                    conn.execute(statement)
                schema.upgrade(conn)
                yield Staged(url, self.migration(url, **more), conn)
        finally:
            steps.install(None)
            self.cluster.drop(url)

    def _create(self, name: str, source: str) -> None:
        with psycopg.connect(self.cluster.url(), autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log").format(
                    sql.Identifier(name), sql.Identifier(source)
                )
            )


def content(conn: psycopg.Connection, columns: dict[str, str] | None = None) -> dict[str, str]:
    """Content hash of the three tables, every column that the desk had (`columns`: those of an earlier moment)."""
    columns = columns or desk_columns(conn)
    found = {}
    for table, names in columns.items():
        row = conn.execute(
            f"SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM (SELECT {names} FROM public.{table}) AS t"
        ).fetchone()
        assert row is not None
        found[table] = row[0]
    return found


def desk_columns(conn: psycopg.Connection) -> dict[str, str]:
    """The columns of the three tables as they are now, ours left out."""
    tables = ("data_bars", "derived_data_bars", "core_asset_registry_all")
    return {
        table: ", ".join(
            f'"{row[0]}"'
            for row in conn.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
                " AND NOT starts_with(attname, 'dxy_') ORDER BY attnum",
                (f"public.{table}",),
            ).fetchall()
        )
        for table in tables
    }


# A row without its id (that of a mirrored row is nobody's promise); times are those of the staged rows, or "now".
_STEADY = (
    "(SELECT jsonb_object_agg(e.key, CASE WHEN e.key IN ('created_at', 'updated_at', 'deleted_at', 'ingested_at')"
    " AND e.value #>> '{{}}' >= '2025' THEN '\"now\"' ELSE e.value END) FROM jsonb_each(to_jsonb({}) - 'id') AS e)"
)
_FINGERPRINT = {
    "control": "SELECT state, migration_id, read_from, direction, preparing, paused, repaired_after,"
    " verified_by IS NULL, cut_over_at IS NULL FROM dxy.migration_control",
    "units": "SELECT day, state, scanned, inserted, identical, reconciled, superseded, unverifiable, conflict"
    " FROM dxy.migration_unit ORDER BY migration_id, day",
    "triggers": "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    "checks": "SELECT conrelid::regclass::text, conname, convalidated FROM pg_constraint"
    " WHERE contype = 'c' AND connamespace = 'public'::regnamespace ORDER BY 1, 2",
    "registry": "SELECT canonical_symbol, to_jsonb(r) - 'updated_at' - 'created_at'"
    " FROM public.core_asset_registry_all AS r ORDER BY 1",
    "data_bars": "SELECT md5(string_agg(x.row::text, ' ' ORDER BY x.row::text))"
    f" FROM (SELECT {_STEADY.format('d')} AS row FROM public.data_bars AS d) AS x",
    "legacy": "SELECT md5(string_agg(x.row::text, ' ' ORDER BY x.row::text))"
    f" FROM (SELECT {_STEADY.format('d')} AS row FROM public.derived_data_bars AS d) AS x",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "moves": "SELECT from_state, to_state FROM dxy.migration_audit WHERE from_state <> to_state ORDER BY id",
    "ledger": "SELECT (SELECT count(*) FROM dxy.migration_native), (SELECT count(*) FROM dxy.migration_direct),"
    " (SELECT count(*) FROM dxy.migration_snapshot), (SELECT count(*) FROM dxy.migration_baseline)",
    "native": "SELECT n.ts_utc, n.had_legacy, n.row_hash FROM dxy.migration_native AS n ORDER BY 1",
    "direct": "SELECT w.ts_utc FROM dxy.migration_direct AS w ORDER BY 1",
    "left": "SELECT f.ts_utc FROM dxy.migration_left AS f ORDER BY 1",
    "retired": "SELECT r.day, r.tagged FROM dxy.migration_retired AS r ORDER BY 1",
    "repaired": "SELECT r.ts_utc, r.overwritten FROM dxy.migration_repair AS r ORDER BY 1, r.id",
}


def fingerprint(conn: psycopg.Connection) -> dict[str, Any]:
    """All that must be equal after a run that was cut off and run again: rows, ledger, triggers, constraints."""
    found = {name: conn.execute(query).fetchall() for name, query in _FINGERPRINT.items()}
    if conn.execute("SELECT 1 WHERE to_regclass('dxy.migration_undo') IS NOT NULL").fetchone():
        undo = f"SELECT u.ts_utc, {_STEADY.format('u.before')} FROM dxy.migration_undo AS u ORDER BY 1"
        found["undo"] = conn.execute(undo).fetchall()
    return found


def mirror_differs(conn: psycopg.Connection) -> int:
    """How many minutes differ between the two tables, native ones that legacy never had left out."""
    row = conn.execute(
        "SELECT count(*) FROM dxy.legacy_image AS l FULL JOIN dxy.bars_image AS b ON b.ts_utc = l.ts_utc"
        " WHERE l IS DISTINCT FROM b AND NOT (l.ts_utc IS NULL AND b.ts_utc IN"
        " (SELECT n.ts_utc FROM dxy.migration_native AS n WHERE NOT n.had_legacy))"
    ).fetchone()
    assert row is not None
    return int(row[0])

"""Bad input and trouble: each ends in a clear message, the last good state, and a command that goes on from there."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import backup, steps
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline_tests import shapes
from dxy_pipeline_tests.migration.support import OPTIONS, Stage, build, content, enter


def state(db: Any) -> str:
    row = db.conn.execute("SELECT state FROM dxy.migration_control").fetchone()
    return str(row[0])


def test_an_unknown_state(stage: Stage) -> None:
    with stage.at("P", "prepared") as db:
        db.conn.execute("ALTER TABLE dxy.migration_control DROP CONSTRAINT migration_control_state_check")
        db.conn.execute("UPDATE dxy.migration_control SET state = 'teleported'")
        with pytest.raises(UserError, match="'teleported', a state this code does not know"):
            db.migration.status()
        with pytest.raises(UserError, match="does not know"):
            db.migration.dual_write(readers_moved=True)


def test_a_ledger_newer_than_the_code(stage: Stage) -> None:
    with stage.at("P", "prepared") as db:
        db.conn.execute("UPDATE dxy.dxy_alembic_version SET version_num = '9999'")
        with pytest.raises(UserError, match="newer than this code"):
            db.migration.dual_write(readers_moved=True)
        assert state(db) == "prepared"


@pytest.mark.parametrize(
    "how", ["DISABLE TRIGGER dxy_mirror_insert", "DISABLE TRIGGER ALL", "ENABLE TRIGGER dxy_mirror_update"]
)
def test_a_missing_or_disabled_trigger(stage: Stage, how: str) -> None:
    with stage.at("P", "verified") as db:
        db.conn.execute(f"ALTER TABLE public.derived_data_bars {how}")
        with pytest.raises(UserError, match="missing or disabled") as caught:
            db.migration.cutover()
        assert "dxy migrate dual-write --readers-moved" in caught.value.hint
        assert db.migration.dual_write(readers_moved=True)["restored"]
        with pytest.raises(UserError, match="repair after the last clean verification"):
            db.migration.cutover()
        assert db.migration.verify()["ok"]
        assert db.migration.cutover()["state"] == "cut_over"


def test_an_index_of_the_right_name_and_the_wrong_definition(stage: Stage) -> None:
    with stage.at("S", "legacy") as db:
        db.conn.execute("DROP INDEX public.data_bars_unique_idx")
        db.conn.execute("CREATE UNIQUE INDEX data_bars_unique_idx ON public.data_bars (canonical_symbol, ts_utc)")
        with pytest.raises(UserError, match="data_bars_unique_idx is not what its name says"):
            enter(db.migration, "prepared")
        assert state(db) == "legacy"
        db.conn.execute("DROP INDEX public.data_bars_unique_idx")
        enter(db.migration, "prepared")
        assert state(db) == "prepared"


def test_an_invalid_index_after_a_failed_concurrent_build(stage: Stage) -> None:
    with stage.at("S", "legacy") as db:
        db.conn.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.data_bars_unique_idx'::regclass"
        )
        planned = [row["statement"] for row in db.migration.plan()["ddl"]]
        assert any("data_bars_unique_idx" in line and "invalid" in line for line in planned)
        enter(db.migration, "prepared")
        row = db.conn.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'public.data_bars_unique_idx'::regclass"
        ).fetchone()
        assert row == (True,)


def test_a_check_of_another_name(stage: Stage, server: Any, new_database: Any) -> None:
    url = new_database(server, head=False)
    with psycopg.connect(url, autocommit=True) as conn:
        shapes.build_shape_s(conn, check_name="only_known_sources")
        from dxy_pipeline.db import schema

        schema.upgrade(conn)
        migration = stage.migration(url)
        for place in ("prepared", "dual_write", "backfilled"):
            enter(migration, place)
        row = conn.execute(
            "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conname = 'only_known_sources'"
        ).fetchone()
        assert row is not None
        assert "synthetic" in row[0]
        assert row[1]


def test_missing_privileges(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        db.conn.execute("DROP ROLE IF EXISTS somebody")
        db.conn.execute("CREATE ROLE somebody LOGIN")
        db.conn.execute("GRANT USAGE ON SCHEMA dxy TO somebody")
        db.conn.execute("GRANT SELECT, UPDATE, INSERT ON ALL TABLES IN SCHEMA dxy, public TO somebody")
        try:
            other = stage.migration(db.url.replace("postgres@", "somebody@"))
            with pytest.raises(UserError, match=r"user somebody|permission"):
                other.prepare(accept_native=True)
            assert state(db) == "legacy"
        finally:
            db.conn.execute("DROP OWNED BY somebody")
            db.conn.execute("DROP ROLE somebody")


def test_disk_full_during_the_backup(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = backup.dump
    with stage.at("P", "legacy") as db:
        monkeypatch.setattr(backup, "dump", lambda conn, url, _: real(conn, url, Path("/dev/full")))
        with pytest.raises(UserError, match=r"the backup failed: .*No space left on device"):
            enter(db.migration, "prepared")
        assert state(db) == "legacy"
        monkeypatch.undo()
        enter(db.migration, "prepared")
        assert state(db) == "prepared"


def test_a_backup_that_does_not_restore(stage: Stage) -> None:
    def damage(step: str, _: Any) -> None:
        if step == "prepare.dumped":
            (part,) = (p for p in stage.files.rglob("*.part") if str(os.getpid()) in p.name)
            part.write_bytes(part.read_bytes()[:4000])

    with stage.at("P", "legacy") as db:
        steps.install(damage)
        with pytest.raises(UserError, match="the backup does not restore"):
            enter(db.migration, "prepared")
        steps.install(None)
        assert state(db) == "legacy"
        assert db.conn.execute("SELECT count(*) FROM dxy.migration_backup").fetchone() == (0,)
        assert [p for p in stage.files.rglob("*.part") if str(os.getpid()) in p.name] == [], "its bytes are freed"
        enter(db.migration, "prepared")
        assert db.conn.execute("SELECT count(*) FROM dxy.migration_backup").fetchone() == (1,)


def test_a_backup_that_restores_to_something_else(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = backup.dump

    def miscounted(*args: Any) -> dict[str, Any]:
        figures = real(*args)
        figures["data_bars"]["content"] += 1
        return figures

    with stage.at("P", "legacy") as db:
        monkeypatch.setattr(backup, "dump", miscounted)
        with pytest.raises(UserError, match="restores to something else than was there: data_bars"):
            enter(db.migration, "prepared")
        assert state(db) == "legacy"


def test_a_lock_that_never_comes(stage: Stage) -> None:
    with stage.at("P", "prepared", patience=0.5) as db, psycopg.connect(db.url) as reader:
        reader.execute("LOCK TABLE public.data_bars IN ROW EXCLUSIVE MODE")
        with pytest.raises(UserError, match="dual write: a lock never came") as caught:
            db.migration.dual_write(readers_moved=True)
        assert "pg_stat_activity" in caught.value.hint
        assert state(db) == "prepared"
        reader.rollback()
        enter(db.migration, "dual_write")


def test_truncate_is_refused_in_flight_and_allowed_after_a_rollback(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db:
        for table in ("data_bars", "derived_data_bars"):
            with pytest.raises(psycopg.errors.ObjectInUse, match="is refused while the DXY migration is in flight"):
                db.conn.execute(f"TRUNCATE public.{table} CASCADE")
        db.migration.rollback()
        db.conn.execute("TRUNCATE public.derived_data_bars")


def test_a_native_row_needs_to_be_accepted_and_readers_to_be_moved(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        with pytest.raises(UserError, match="20 DXY minutes that legacy does not have"):
            db.migration.prepare()
        enter(db.migration, "prepared")
        db.conn.execute(
            "CREATE VIEW public.all_dxy AS SELECT ts_utc, close FROM public.data_bars WHERE canonical_symbol = 'DXY'"
            " UNION ALL SELECT ts_utc, close FROM public.derived_data_bars WHERE deleted_at IS NULL"
        )
        assert [r["name"] for r in db.migration.plan()["readers to move"]] == ["all_dxy"]
        with pytest.raises(UserError, match=r"count each DXY minute twice .*all_dxy"):
            db.migration.dual_write()
        assert state(db) == "prepared"


def test_a_command_out_of_order_says_what_comes_next(stage: Stage) -> None:
    with stage.at("P", "prepared") as db:
        for command in (db.migration.cutover, db.migration.retire, db.migration.verify, db.migration.backfill):
            with pytest.raises(UserError, match="prepared") as caught:
                command()
            assert "dual-write" in caught.value.hint


def test_the_health_window_holds_the_retirement_back(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        db.migration.prepare(accept_native=True, options={**OPTIONS, "health_minutes": 60})
        for place in ("dual_write", "backfilled", "verified", "cut_over"):
            enter(db.migration, place)
        with pytest.raises(UserError, match="the health window is not green: 0 of 60 open minutes"):
            db.migration.retire()


def test_the_audit_is_append_only(stage: Stage) -> None:
    with stage.at("P", "prepared") as db:
        for statement in (
            "UPDATE dxy.migration_audit SET actor = 'x'",
            "DELETE FROM dxy.migration_audit",
            "TRUNCATE dxy.migration_audit",
        ):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="append-only"):
                db.conn.execute(statement)


def test_row_security_that_would_hide_rows_is_an_error(stage: Stage) -> None:
    """A comparison of nothing with nothing would be clean."""
    with stage.at("P", "verified") as db:
        db.conn.execute("ALTER TABLE public.derived_data_bars FORCE ROW LEVEL SECURITY")
        db.conn.execute("DROP ROLE IF EXISTS blind")
        db.conn.execute("CREATE ROLE blind LOGIN")
        db.conn.execute("GRANT USAGE ON SCHEMA dxy TO blind")
        db.conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA dxy, public TO blind")
        for view in ("legacy_mapped", "legacy_source", "legacy_image"):
            db.conn.execute(f"ALTER VIEW dxy.{view} OWNER TO blind")
        try:
            with pytest.raises(UserError, match=r"row-level security|permission"):
                stage.migration(db.url.replace("postgres@", "blind@")).compare()
        finally:
            db.conn.execute("DROP OWNED BY blind CASCADE")
            db.conn.execute("DROP ROLE blind")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that this test may kill."""
    one = EmbeddedServer(tmp_path, settings={"shared_buffers": "32MB"})
    one.start()
    yield one
    one.stop()


def test_a_server_restart_in_the_middle(own_server: EmbeddedServer, stage: Stage, tmp_path: Path) -> None:
    own_server.ensure_database("desk")
    url = own_server.url("desk")
    with psycopg.connect(url, autocommit=True) as conn:
        build(conn, "P")
    migration = Migration(url, scratch_url=own_server.url, files=tmp_path / "files", actor="tester")
    enter(migration, "prepared")
    enter(migration, "dual_write")

    def crash(step: str, _: Any) -> None:
        if step == "backfill.committed":
            steps.install(None)
            pid = int((own_server.cluster / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGQUIT)  # an immediate shutdown: recovery follows
            deadline = time.monotonic() + 20
            while own_server.running() and time.monotonic() < deadline:
                time.sleep(0.05)

    steps.install(crash)
    with pytest.raises((UserError, psycopg.OperationalError)):
        migration.backfill()
    own_server.start()
    assert migration.status()["days"] == {"done": 2, "pending": 2, "failed": 0}
    assert migration.backfill()["days"] == 2
    assert migration.verify()["ok"]


def test_the_password_is_not_in_the_process_list(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def spy(command: list[str], **_: Any) -> Any:
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(backup.subprocess, "run", spy)
    monkeypatch.setattr(backup, "find", lambda *_: type("B", (), {"bindir": Path("/bin")}))
    monkeypatch.setattr(Path, "exists", lambda _: True)
    backup._program("pg_dump", ["-Fc"], "postgresql://u:planted-secret@h/db", "x")
    assert "planted-secret" not in " ".join(map(str, seen[0]))


def test_plan_and_the_other_looking_commands_change_nothing(stage: Stage) -> None:
    """Schema and row hashes are equal before and after, and the connection is read-only."""
    catalog = (
        "SELECT md5(string_agg(x, ' ' ORDER BY x)) FROM (SELECT c.oid::text || c.relname || c.relfilenode FROM pg_class AS c"
        " UNION ALL SELECT t.oid::text || t.tgname FROM pg_trigger AS t UNION ALL SELECT p.oid::text || md5(p.prosrc)"
        " FROM pg_proc AS p UNION ALL SELECT a.attrelid::text || a.attname FROM pg_attribute AS a) AS s (x)"
    )
    from datetime import timedelta

    with stage.at("P", "legacy") as db:
        before = (content(db.conn), db.conn.execute(catalog).fetchone())
        found = db.migration.plan()
        assert found["shape"] == "P"
        assert found["rows"]["unverifiable"] == 10
        shadow = db.migration.shadow(shapes.START, shapes.START + timedelta(days=3))
        assert shadow["verdicts"]["equal"] == 437
        assert shadow["differences"] == []
        assert db.migration.preview("prepare", accept_native=True)["in the way"] == []
        db.migration.status()
        db.migration.checklist()
        assert (content(db.conn), db.conn.execute(catalog).fetchone()) == before
        with db.migration._reading() as conn, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("CREATE TABLE x ()")


def test_an_autovacuum_gives_way(stage: Stage, tmp_path: Path) -> None:
    """It surely runs after a backfill of millions of rows, and its lock keeps a trigger or a cutover off for minutes."""
    server = EmbeddedServer(tmp_path, settings={"shared_buffers": "32MB", "autovacuum_naptime": "1s", "fsync": "off"})
    server.start()
    try:
        server.ensure_database("desk")
        url = server.url("desk")
        with psycopg.connect(url, autocommit=True) as conn:
            build(conn, "P")
            migration = Migration(url, scratch_url=server.url, files=tmp_path / "files", actor="tester", patience=8.0)
            enter(migration, "prepared")
            for place, table in (
                ("dual_write", "data_bars"),
                ("cut_over", "derived_data_bars"),
                ("retired", "data_bars"),
            ):
                for earlier in ("backfilled", "verified") if place == "cut_over" else ():
                    enter(migration, earlier)
                slow_vacuum_of(conn, table)
                enter(migration, place)
            migration.rollback()
    finally:
        server.stop()


def slow_vacuum_of(conn: psycopg.Connection, table: str) -> None:
    """Return when autovacuum is at work on the table; it would take minutes."""
    conn.execute(
        f"ALTER TABLE public.{table} SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
        " autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1,"
        " autovacuum_vacuum_insert_scale_factor = 0)"
    )
    conn.execute(f"UPDATE public.{table} SET vol = vol WHERE canonical_symbol <> 'DXY'")
    deadline = time.monotonic() + 60
    question = "SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = %s::regclass"
    while not conn.execute(question, (f"public.{table}",)).fetchone():
        assert time.monotonic() < deadline, "autovacuum did not come"
        time.sleep(0.05)

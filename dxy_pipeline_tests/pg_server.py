"""The tests' PostgreSQL clusters: which versions there are, databases cut from a template, leftovers swept.

Used by conftest.py only; tests take its fixtures. Clusters lie in /tmp under a name with our pid, so that the next run
can stop and remove what a killed run left behind.
"""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import psutil
import psycopg
from psycopg import conninfo, sql

from dxy_pipeline.db import schema
from dxy_pipeline.db.embedded import EmbeddedServer

OLD_MAJOR: Final = 15
PREFIX: Final = "dxy-tests-"
# Durability is not under test here (test_embedded.py starts servers of its own with fsync on).
FAST: Final = {"fsync": "off", "shared_buffers": "128MB", "max_connections": "60"}
TEMPLATE: Final = "head_template"


def old_bindir() -> Path | None:
    """Return the programs of PostgreSQL 15: DXY_TEST_PG_BINDIR, else Debian's place; None when not installed."""
    named = os.environ.get("DXY_TEST_PG_BINDIR")
    bindir = Path(named) if named else Path(f"/usr/lib/postgresql/{OLD_MAJOR}/bin")
    return bindir if (bindir / "initdb").exists() else None


@cache
def reachable_bindir() -> Path:
    """Return PostgreSQL 18's programs where every user may run them, also when we are root in a closed checkout."""
    return EmbeddedServer(Path(tempfile.gettempdir())).binaries.bindir


def versions() -> list[int]:
    """Return the major versions that SQL tests run on. CI must have both: there the absent one fails, not vanishes."""
    return [18, OLD_MAJOR] if old_bindir() or os.environ.get("CI") == "true" else [18]


class Cluster:
    """One running server of the tests, with databases that are made from a template at head and dropped."""

    def __init__(self, major: int) -> None:
        self.major = major
        bindir = old_bindir() if major == OLD_MAJOR else None
        if major == OLD_MAJOR and bindir is None:
            raise RuntimeError("CI must run the SQL tests on PostgreSQL 15 too: install it or set DXY_TEST_PG_BINDIR")
        self.root = new_root()
        self.server = EmbeddedServer(self.root, bindir=bindir, settings=FAST)
        self.server.start()
        self._has_template = False

    def url(self, dbname: str = "postgres") -> str:
        """Return the URL of a database here."""
        return self.server.url(dbname)

    def create(self, *, head: bool) -> str:
        """Create a database, empty or at the schema's head, and return its URL."""
        if head:
            self._ensure_template()
        name = f"t_{secrets.token_hex(6)}"
        # WAL_LOG needs no checkpoint: for a template of this size as fast as FILE_COPY on 18, twice as fast on 15.
        self._run(
            sql.SQL("create database {} template {} strategy wal_log").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE if head else "template0")
            )
        )
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, ending whatever still works in it."""
        name = conninfo.conninfo_to_dict(url)["dbname"]
        self._run(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(str(name))))

    def close(self) -> None:
        """Stop the server and remove its files."""
        self.server.stop()
        remove(self.root)

    def _ensure_template(self) -> None:
        if not self._has_template:
            self._run(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
            with psycopg.connect(self.url(TEMPLATE), autocommit=True) as conn:
                schema.upgrade(conn)
            self._has_template = True

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(statement)


def new_root() -> Path:
    """Return a new directory that every user may enter (as root the server runs as nobody), found by `sweep`."""
    root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    root.chmod(0o755)
    return root


def sweep() -> None:
    """Stop and remove the clusters of test runs that were killed."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = root.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):  # another worker may be sweeping too
            if root.stat().st_uid == os.geteuid() and not (pid.isdigit() and psutil.pid_exists(int(pid))):
                remove(root)


def remove(root: Path) -> None:
    """End the servers that run in `root`, at whatever depth and however they were started, and remove it."""
    for pid_file in root.rglob("postmaster.pid"):
        with contextlib.suppress(ValueError, IndexError, OSError, psutil.Error):
            process = psutil.Process(int(pid_file.read_text().split()[0]))
            if process.name() == "postgres" and Path(process.cwd()) == pid_file.parent:
                process.send_signal(signal.SIGQUIT)
                process.wait(30)
    shutil.rmtree(root, ignore_errors=True)

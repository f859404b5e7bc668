"""The tests' PostgreSQL clusters: which versions there are, databases cut from a template, leftovers swept.

Used by conftest.py only; tests take its fixtures. Clusters lie in /tmp under a name with our pid, so that the next run
can stop and remove what a killed run left behind.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
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
        self.root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.root.chmod(0o755)  # as root the server runs as nobody
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
        shutil.rmtree(self.root, ignore_errors=True)

    def _ensure_template(self) -> None:
        if not self._has_template:
            self._run(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
            with psycopg.connect(self.url(TEMPLATE), autocommit=True) as conn:
                schema.upgrade(conn)
            self._has_template = True

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(statement)


def sweep() -> None:
    """Stop and remove the clusters of test runs that were killed."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = root.name.removeprefix(PREFIX).partition("-")[0]
        if root.stat().st_uid != os.geteuid() or (pid.isdigit() and psutil.pid_exists(int(pid))):
            continue
        for cluster in root.glob("pg*/PG_VERSION"):
            bindir = old_bindir() if cluster.read_text().strip() == str(OLD_MAJOR) else None
            with contextlib.suppress(Exception):  # whatever state it was left in, it is removed
                EmbeddedServer(root, bindir=bindir).stop()
        shutil.rmtree(root, ignore_errors=True)

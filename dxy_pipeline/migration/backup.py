"""The backup before anything changes: dumped, restored into a scratch database, compared by count and content.

The scratch database is on the embedded server, never on the desk's: a dump of the newest client does not restore into
an older server, and production is no scratch pad. Post-data DDL (triggers, foreign keys) is kept as text.
"""

import hashlib
import json
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import conninfo, sql

from dxy_pipeline.db.embedded import server_for
from dxy_pipeline.db.embedded_account import Account, shelter
from dxy_pipeline.db.embedded_binaries import find
from dxy_pipeline.db.session import read_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration.ledger import one
from dxy_pipeline.settings import Settings

_PROOF = "dxy_backup_proof_"
TABLES = ("data_bars", "derived_data_bars", "core_asset_registry_all")
_PG_ENV = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
           "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}  # fmt: skip


def default_scratch() -> str:
    """Start the embedded server and return the address of its maintenance database."""
    server = server_for(Settings.from_env())
    server.start()
    return server.url()


def dump(conn: psycopg.Connection[Any], url: str, path: Path) -> dict[str, Any]:
    """Dump the three tables into `path` and return their count and content as of the dump's own snapshot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        row = conn.execute("SELECT pg_export_snapshot()").fetchone()
        if row is None:
            raise UserError("the server exports no snapshot", hint="use a direct connection (DIRECT_URL), no pooler")
        tables = [part for name in TABLES for part in ("-t", f"public.{name}")]
        _program("pg_dump", ["-Fc", "--snapshot", row[0], "-f", str(path), *tables], url, "the backup failed")
        figures = one(conn, "figures")
    finally:
        conn.rollback()
    os.chmod(path, 0o600)  # noqa: PTH101
    return figures


def prove(path: Path, figures: dict[str, Any], scratch_url: str, restored: Callable[[], None]) -> str:
    """Restore `path` into a scratch database and compare with `figures`; returns the dump's post-data DDL.

    Raises UserError when it does not restore or is not equal. The scratch database is dropped in any case.
    """
    name = f"{_PROOF}{os.getpid()}_{secrets.token_hex(4)}"
    with psycopg.connect(scratch_url, autocommit=True) as admin:
        _sweep(admin)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            target = conninfo.make_conninfo(**{**read_url(scratch_url), "dbname": name})
            sections = ["--section=pre-data", "--section=data", "--no-owner", "--no-privileges", "--exit-on-error"]
            _program("pg_restore", [*sections, "-d", name, str(path)], scratch_url, "the backup does not restore")
            restored()
            with psycopg.connect(target, options="-c TimeZone=UTC") as conn:
                found = one(conn, "figures")
        finally:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    wrong = [table for table in TABLES if found[table] != figures[table]]
    if wrong:
        raise UserError(
            f"the backup {path} restores to something else than was there: {', '.join(wrong)}",
            hint="run `dxy migrate prepare` again; a new backup is made",
        )
    return _program("pg_restore", ["--section=post-data", "-f", "-", str(path)], scratch_url, "the backup is broken")


def _sweep(admin: psycopg.Connection[Any]) -> None:
    """Drop the scratch databases of runs that were killed."""
    for (left,) in admin.execute(
        "SELECT d.datname::text FROM pg_catalog.pg_database AS d WHERE starts_with(d.datname, %s)", (_PROOF,)
    ).fetchall():
        pid = left.removeprefix(_PROOF).partition("_")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(left)))


def restore_copy(path: Path, scratch_url: str, name: str) -> None:
    """Restore everything into database `name` for a rehearsal; what refers to objects outside the dump is left out.

    A trigger whose function is not in the dump cannot come along; the tables, their rows and their indexes must.
    """
    sections = ["--no-owner", "--no-privileges", "--section=pre-data", "--section=data", "--exit-on-error"]
    _program("pg_restore", [*sections, "-d", name, str(path)], scratch_url, "the copy does not restore")
    listed = _program("pg_restore", ["-l", "--section=post-data", str(path)], scratch_url, "the copy is broken")
    wanted = [
        line for line in listed.splitlines() if " INDEX " in line or (" CONSTRAINT " in line and " FK " not in line)
    ]
    listing = path.with_suffix(".list")
    listing.write_text("\n".join(wanted))
    try:
        arguments = ["--no-owner", "--no-privileges", "-L", str(listing), "-d", name, str(path)]
        _program("pg_restore", arguments, scratch_url, "the copy's indexes do not restore")
    finally:
        listing.unlink()


def record(conn: psycopg.Connection[Any], migration_id: int, path: Path, figures: dict[str, Any], post: str) -> None:
    """Enter a proved backup in the ledger."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    conn.execute(
        "INSERT INTO dxy.migration_backup (migration_id, path, sha256, bytes, figures, post_data)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (migration_id, str(path), digest, path.stat().st_size, json.dumps(figures, default=str), post),
    )


def _program(name: str, arguments: list[str], url: str, failure: str) -> str:
    """Run a client program. Its address and password go by environment: arguments are for everybody to see."""
    binaries = find(Account.current(), None, shelter)
    program = binaries.bindir / name
    if not program.exists():
        raise UserError(f"{name} is not among the programs in {binaries.bindir}", hint="install the PostgreSQL client")
    parts = read_url(url)
    env = {**os.environ, **{variable: str(parts[key]) for key, variable in _PG_ENV.items() if key in parts}}
    done = subprocess.run([program, *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{failure}: {said}", hint="mend it (disk space, rights, version), then run the command again")
    return done.stdout

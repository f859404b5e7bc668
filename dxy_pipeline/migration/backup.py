"""The backup before anything changes: dumped, restored into a scratch database, compared by count and content.

The scratch database is on the embedded server, never on the desk's: a dump of the newest client does not restore into
an older server, and production is no scratch pad. Post-data DDL (triggers, foreign keys) is kept as text.
"""

import hashlib
import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from dxy_pipeline.db.embedded import server_for
from dxy_pipeline.db.embedded_account import Account, shelter
from dxy_pipeline.db.embedded_binaries import find
from dxy_pipeline.db.session import read_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import scratch
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


def folder(conn: psycopg.Connection[Any], files: Path, migration_id: int) -> Path:
    """Where this migration of this database keeps its files: server, database and migration are in the path."""
    row = conn.execute("SELECT d.datname::text, d.oid FROM pg_catalog.pg_database AS d"
                       " WHERE d.datname = current_database()").fetchone()  # fmt: skip
    name, oid = row or ("", 0)
    return files / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)}_{_server(conn)}_{oid}" / f"migration_{migration_id}"


def _server(conn: psycopg.Connection[Any]) -> str:
    try:
        with conn.transaction():
            row = conn.execute("SELECT s.system_identifier FROM pg_catalog.pg_control_system() AS s").fetchone()
    except psycopg.errors.InsufficientPrivilege:  # some managed servers; a taken name is not written over anyway
        return f"{conn.info.host}-{conn.info.port}".replace("/", "_")
    return str(row[0]) if row else ""


def is_proved(conn: psycopg.Connection[Any], migration_id: int) -> bool:
    """Whether a proved backup of this migration lies where the ledger says, byte for byte."""
    rows = conn.execute(
        "SELECT b.path, b.sha256 FROM dxy.migration_backup AS b WHERE b.migration_id = %s", (migration_id,)
    ).fetchall()
    return any(Path(path).is_file() and _digest(Path(path)) == sha256 for path, sha256 in rows)


def keep(part: Path, folder: Path) -> Path:
    """Give a proved dump its lasting name, the first that is free: a backup is never written over."""
    for number in itertools.count(1):
        path = folder / ("before.dump" if number == 1 else f"before-{number}.dump")
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            continue
        return part.replace(path)
    raise AssertionError  # the numbers do not end


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dump(conn: psycopg.Connection[Any], url: str, path: Path) -> dict[str, Any]:
    """Dump the three tables into `path` and return their count and content as of the dump's own snapshot."""
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
    with scratch.database(scratch_url, _PROOF) as target:
        sections = ["--section=pre-data", "--section=data", "--no-owner", "--no-privileges", "--exit-on-error"]
        _restore(target, [*sections, str(path)], "the backup does not restore")
        restored()
        with psycopg.connect(target, options="-c TimeZone=UTC") as conn:
            found = one(conn, "figures")
    wrong = [table for table in TABLES if found[table] != figures[table]]
    if wrong:
        raise UserError(
            f"the backup {path} restores to something else than was there: {', '.join(wrong)}",
            hint="run `dxy migrate prepare` again; a new backup is made",
        )
    return _program("pg_restore", ["--section=post-data", "-f", "-", str(path)], scratch_url, "the backup is broken")


def restore_copy(path: Path, target: str) -> None:
    """Restore everything into database `target` for a rehearsal; what refers to objects outside the dump is left out.

    A trigger whose function is not in the dump cannot come along; the tables, their rows and their indexes must.
    """
    sections = ["--no-owner", "--no-privileges", "--section=pre-data", "--section=data", "--exit-on-error"]
    _restore(target, [*sections, str(path)], "the copy does not restore")
    listed = _program("pg_restore", ["-l", "--section=post-data", str(path)], target, "the copy is broken")
    wanted = [
        line for line in listed.splitlines() if " INDEX " in line or (" CONSTRAINT " in line and " FK " not in line)
    ]
    listing = path.with_suffix(".list")
    listing.write_text("\n".join(wanted))
    try:
        arguments = ["--no-owner", "--no-privileges", "-L", str(listing), str(path)]
        _restore(target, arguments, "the copy's indexes do not restore")
    finally:
        listing.unlink()


def _restore(target: str, arguments: list[str], failure: str) -> None:
    _program("pg_restore", ["-d", str(read_url(target)["dbname"]), *arguments], target, failure)


def record(conn: psycopg.Connection[Any], migration_id: int, path: Path, figures: dict[str, Any], post: str) -> None:
    """Enter a proved backup in the ledger."""
    conn.execute(
        "INSERT INTO dxy.migration_backup (migration_id, path, sha256, bytes, figures, post_data)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (migration_id, str(path), _digest(path), path.stat().st_size, json.dumps(figures, default=str), post),
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

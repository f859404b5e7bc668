"""Scratch databases and half-written files: named after the process that made them, swept once that one is gone.

A run that fails cleans up behind itself; one that was killed cannot, so the next run does it.
"""

import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import conninfo, sql

from dxy_pipeline.db.session import read_url


@contextmanager
def database(scratch_url: str, prefix: str) -> Generator[str, None, None]:
    """Create an empty database `<prefix><process>_…` on that server and yield its address; dropped in any case.

    Those of the same prefix whose process is gone are dropped first.
    """
    name = f"{prefix}{os.getpid()}_{secrets.token_hex(4)}"
    with psycopg.connect(scratch_url, autocommit=True) as admin:
        for (left,) in admin.execute(
            "SELECT d.datname::text FROM pg_catalog.pg_database AS d WHERE starts_with(d.datname, %s)", (prefix,)
        ).fetchall():
            if _is_orphan(left.removeprefix(prefix).partition("_")[0]):
                _drop(admin, left)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield conninfo.make_conninfo(**{**read_url(scratch_url), "dbname": name})
        finally:
            _drop(admin, name)


@contextmanager
def file(folder: Path, stem: str) -> Generator[Path, None, None]:
    """Yield a path `<stem>.<process>.part` in `folder`; what is still there at the end is removed.

    What processes that are gone left is removed first (their pg_dump may still write to its own: hence one for each).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{stem}.*.part"):
        if _is_orphan(left.name.removeprefix(f"{stem}.").removesuffix(".part")):
            left.unlink(missing_ok=True)
    part = folder / f"{stem}.{os.getpid()}.part"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def directory(parent: Path, prefix: str) -> Generator[Path, None, None]:
    """Yield a new directory `<prefix><process>_…` in `parent`; removed with all in it, as are those of dead processes."""
    for left in parent.glob(f"{prefix}*_*"):
        if _is_orphan(left.name.removeprefix(prefix).partition("_")[0]):
            shutil.rmtree(left, ignore_errors=True)
    made = parent / f"{prefix}{os.getpid()}_{secrets.token_hex(4)}"
    made.mkdir(parents=True)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_orphan(pid: str) -> bool:
    return pid.isdigit() and not psutil.pid_exists(int(pid))


def _drop(admin: psycopg.Connection[Any], name: str) -> None:
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

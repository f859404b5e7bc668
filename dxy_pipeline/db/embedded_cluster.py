"""The server's data directory: making one so that it is there whole or not at all, and refusing one that is not ours.

A cluster is called `pg<major>`; beside it lie its lock file and its start-up messages.
"""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from dxy_pipeline.db.embedded_account import Account, os_refusal
from dxy_pipeline.db.embedded_binaries import Binaries
from dxy_pipeline.db.embedded_process import failure
from dxy_pipeline.errors import UserError


def refuse_foreign(cluster: Path, binaries: Binaries, account: Account) -> None:
    """Raise UserError for another version's or another user's data.

    A new, empty cluster beside the old version's would look like lost data, so it is not made.
    """
    home, major = cluster.parent, str(binaries.major)
    if (home / "PG_VERSION").exists():
        hint = "set DXY_DATA_DIR to another directory, or DATABASE_URL to reach that server"
        raise UserError(f"{home} is itself the data directory of a PostgreSQL server", hint=hint)
    found = {p.name: _version_of(p) for p in home.glob("pg*") if p.name.removeprefix("pg").isdigit()}
    wrong = {name: version for name, version in found.items() if version != major}
    if cluster.name in wrong or (wrong and cluster.name not in found):
        name = cluster.name if cluster.name in wrong else min(wrong)
        hint = f"set DXY_PG_BINDIR to the programs of version {wrong[name]}, or DXY_DATA_DIR to another directory"
        raise UserError(
            f"{home / name} holds data of PostgreSQL {wrong[name]}, the programs at hand are version {major}", hint=hint
        )
    if os.path.lexists(cluster):
        account.must_own(cluster)


def create(cluster: Path, binaries: Binaries, account: Account, *, durable: bool = True) -> None:
    """Make the cluster aside and rename it: a killed initdb leaves nothing that looks like a cluster.

    The caller holds the lock. A killed starter's initdb may still be at work, so each try has a name of its own.
    Raises UserError: disk full, no permission, initdb's own reason.
    """
    for leftover in cluster.parent.glob(f"{cluster.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside = cluster.with_name(f"{cluster.name}.new-{secrets.token_hex(4)}")
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", *([] if durable else ["--no-sync"])]
    try:
        account.own_directory(aside)
        done = subprocess.run(
            [binaries.program("initdb"), "-D", aside, *options],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            **account.run_as(),
        )
        if done.returncode:
            messages = done.stderr + done.stdout
            raise failure("the server's data directory could not be made", messages, cluster.parent)
        aside.rename(cluster)
    except OSError as error:
        raise os_refusal(f"cannot create {cluster}", error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # renamed by then if all went well


def _version_of(cluster: Path) -> str:
    try:
        return (cluster / "PG_VERSION").read_text().strip()
    except OSError:
        return cluster.name.removeprefix("pg")  # another user's: only the name can be read

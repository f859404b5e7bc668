"""The account that the embedded server runs under, and the directories that it may enter.

PostgreSQL refuses to run as root. Started by root, the server runs as `nobody`; started by anyone else, as that user.
A checkout under /root (mode 0700) is out of `nobody`'s reach, programs and data alike; then both live under a
world-traversable place, the shelter (`/var/lib/dxy_pipeline`), keyed by the data directory that was asked for.
"""

import errno
import hashlib
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dxy_pipeline.errors import UserError

SHELTERS: Final = (Path("/var/lib/dxy_pipeline"), Path("/var/tmp/dxy_pipeline"))  # noqa: S108 - ownership is checked
_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}  # not the caller's: PGDATA, PGPORT and secrets stay out


@dataclass(frozen=True)
class Account:
    """An operating-system user to run PostgreSQL's programs as."""

    name: str
    uid: int
    gid: int
    drop: bool
    """We are root and must become this user first."""

    @classmethod
    def current(cls) -> "Account":
        """Return the account for this process: its own user, or `nobody` for root."""
        uid = os.geteuid()
        if uid != 0:
            return cls(user_name(uid), uid, os.getegid(), drop=False)
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            raise UserError("PostgreSQL refuses to run as root and this system has no user nobody") from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, drop=True)

    def run_as(self) -> dict[str, Any]:
        """Return the arguments for subprocess that make a child run as this account, in a neutral environment."""
        neutral: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, "env": _ENVIRONMENT, "umask": 0o077}
        return neutral | ({"user": self.uid, "group": self.gid, "extra_groups": []} if self.drop else {})

    def can_enter(self, directory: Path) -> bool:
        """Whether this account can enter `directory`, or what exists of it: tried for real, so that ACLs count."""
        while not os.path.lexists(directory):
            directory = directory.parent
        command = ["/bin/sh", "-c", 'cd -- "$1"', "sh", directory]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, **self.run_as()).returncode == 0

    def own_directory(self, directory: Path) -> None:
        """Make `directory` a 0700 directory of this account. Raises UserError when it is another's or a link."""
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            if self.drop and directory.lstat().st_uid == 0 and not directory.is_symlink():
                os.chown(directory, self.uid, self.gid, follow_symlinks=False)
        except OSError as error:
            raise os_refusal(f"cannot create {directory}", error) from error
        self.must_own(directory)

    def must_own(self, directory: Path) -> None:
        """Raise UserError unless `directory` is a real directory of this account."""
        hint = "run this as the user who made it, or set DXY_DATA_DIR to another directory"
        found = directory.lstat()
        if found.st_uid != self.uid:
            owner = user_name(found.st_uid)
            raise UserError(f"{directory} belongs to user {owner}, the server would run as {self.name}", hint=hint)
        if not stat.S_ISDIR(found.st_mode):
            raise UserError(f"{directory} is not a directory", hint="move it away, or set DXY_DATA_DIR")


def home_for(account: Account, data_dir: Path) -> Path:
    """Return the directory that holds the cluster: `data_dir`, or its stand-in in the shelter for a dropped root."""
    if not account.drop or account.can_enter(data_dir):
        return data_dir
    key = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return shelter() / f"{data_dir.parent.name}-{key}"


def shelter() -> Path:
    """Return root's own directory that everyone may enter, created if need be. Only root asks for it."""
    for candidate in SHELTERS:
        try:
            candidate.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError:
            continue
        if not candidate.is_symlink() and candidate.stat().st_uid == os.geteuid():
            candidate.chmod(0o755)
            return candidate
    places = " or ".join(map(str, SHELTERS))
    raise UserError(f"root has no place for the server: {places} cannot be made", hint="set DXY_DATA_DIR outside /root")


def make_parents(directory: Path, account: Account) -> None:
    """Create `directory` and its parents; for a dropped root enterable by all, whatever the umask. Raises UserError."""
    missing, path = [], directory
    try:
        while not path.exists():
            missing.append(path)
            path = path.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            if account.drop:
                path.chmod(0o755)
    except OSError as error:
        raise os_refusal(f"cannot create {directory}", error) from error
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory", hint="set DXY_DATA_DIR to a directory")


def os_refusal(what: str, error: OSError) -> UserError:
    """Return the operating system's refusal as a UserError of one line."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError(f"{what}: the disk is full", hint="free space there and try again")
    return UserError(f"{what}: {error.strerror or error}", hint="set DXY_DATA_DIR to a directory you may write to")


def user_name(uid: int) -> str:
    """Return the name of a user id, or the number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

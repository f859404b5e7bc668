"""The server's main process: is it ours and alive, launch it, end it, say why it failed; and the lock around all that.

A `postmaster.pid` proves nothing: after a crash or a reboot its pid may be gone, a zombie or another program, another
cluster's server included. A process is ours when it is a postgres of the account that works in the cluster's directory.
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any, Final

import psutil

from dxy_pipeline.db.embedded_account import Account, os_refusal
from dxy_pipeline.errors import UserError

_children: Final[dict[Path, "subprocess.Popen[Any]"]] = {}  # what this process started: reaped, not left as zombies
_NOISE: Final = re.compile(
    r"^(?:\d{4}-\d\d-\d\d [\d:.]+ \w+ \[\d+\] )?(?P<level>FATAL|PANIC|ERROR|initdb: error):\s*(?P<text>.*)$"
)


class Postmaster:
    """The main process of the cluster in `cluster`, which runs as user `uid`."""

    def __init__(self, cluster: Path, uid: int) -> None:
        self.cluster = cluster
        self.uid = uid

    @property
    def pid_file(self) -> Path:
        """PostgreSQL's own lock file; its first line is the process id."""
        return self.cluster / "postmaster.pid"

    def process(self) -> psutil.Process | None:
        """Return the living main process, or None."""
        try:
            pid = int(self.pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        self._child_lives()
        try:
            process = psutil.Process(pid)
        except psutil.NoSuchProcess:
            return None
        return process if self._is_ours(process) else None

    def ready_at(self) -> Path | None:
        """Return the socket directory of a server that says it is ready, or None; it may not be where we look."""
        try:
            lines = self.pid_file.read_text().splitlines()
        except OSError:
            return None
        ready = len(lines) > 7 and lines[7].startswith("ready")
        return Path(lines[4]) if ready and self.process() else None

    def alive(self) -> bool:
        """Whether the main process lives: the one in the pid file, or one just launched that has not written it yet."""
        return self._child_lives() or self.process() is not None

    def launch(self, command: list[str], log: IO[bytes], account: Account) -> None:
        """Start the main process in a session of its own: neither Ctrl-C nor the starter's death reaches it."""
        _children[self.cluster] = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **account.run_as()
        )

    def clear(self, socket_dir: Path, progress: Callable[[str], None], *, limit: float = 60.0) -> None:
        """Remove what a killed server left: its pid file, its sockets, sessions that still work for it."""
        if not self.pid_file.exists():
            return
        self._end_orphans(progress, limit)
        for leftover in (self.pid_file, *socket_dir.glob(".s.PGSQL.*")):
            leftover.unlink(missing_ok=True)

    def stop(self, limit: float, progress: Callable[[str], None]) -> bool:
        """Ask for a fast shutdown and wait; after `limit` seconds for an immediate one. Returns whether it ran."""
        process = self.process()
        if process is None:
            return False
        for kind, patience in ((signal.SIGINT, limit), (signal.SIGQUIT, 30.0)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(kind)
            begun = said = time.monotonic()
            while time.monotonic() - begun < patience:
                if self.process() is None:
                    return True
                if time.monotonic() - said > 3:
                    said = time.monotonic()
                    progress(f"the server is writing its last checkpoint ({said - begun:.0f} s)")
                time.sleep(0.02)
        raise UserError(
            f"the server (process {process.pid}) does not stop", hint=f"see the log in {self.cluster / 'log'}"
        )

    def _child_lives(self) -> bool:
        child = _children.get(self.cluster)
        if child is not None and child.poll() is not None:  # poll() reaps it
            del _children[self.cluster]
            child = None
        return child is not None

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.uids().effective != self.uid:
                return False
            if not process.name().startswith("postgres"):  # a user's shell may stand in that directory
                return False
            return Path(process.cwd()) == Path(os.path.realpath(self.cluster))
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:  # a hardened container hides it even from root: better wait for it than start twice
            return True

    def _end_orphans(self, progress: Callable[[str], None], limit: float) -> None:
        """End the sessions of a killed main process: a new one refuses to start while they use the shared memory."""
        begun = time.monotonic()
        while orphans := [p for p in psutil.process_iter() if self._is_ours(p)]:
            age = time.monotonic() - begun
            if age > limit:
                raise UserError(
                    f"process {orphans[0].pid} of the killed server still runs", hint="end it and try again"
                )
            if age > 1:  # idle ones notice by themselves
                progress(f"ending {len(orphans)} process(es) of a killed server")
                for orphan in orphans:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        orphan.send_signal(signal.SIGTERM if age < 10 else signal.SIGQUIT)
            time.sleep(0.2)


@contextlib.contextmanager
def exclusive(lock: Path, limit: float, progress: Callable[[str], None]) -> Generator[None]:
    """Hold the lock file: one starter or stopper at a time; the lock dies with its holder. Raises UserError."""
    try:
        handle = lock.open("a")
    except OSError as error:
        raise os_refusal(f"cannot write to {lock.parent}", error) from error
    with handle:
        begun, said = time.monotonic(), False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - begun > limit:
                    raise UserError(f"another process holds {lock}", hint="end the other start or stop") from None
                if not said:
                    progress("waiting for another process that starts or stops this server")
                said = True
                time.sleep(0.05)
        yield


def failure(what: str, messages: str, where: Path, log: Path | None = None) -> UserError:
    """Return a UserError of one line from PostgreSQL's messages, the most telling of them last."""
    hint = f"see {log}" if log else f"is {where} writable, and a normal file system?"
    if re.search("No space left on device|Disk quota exceeded", messages):
        return UserError(f"{what}: the disk is full", hint=f"free space for {where} and try again; nothing was lost")
    if re.search("File too large|File size limit exceeded", messages):
        return UserError(
            f"{what}: a file may not grow that large here", hint="raise the limit (ulimit -f) and try again"
        )
    found = [match for line in messages.splitlines() if (match := _NOISE.match(line.strip()))]
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    reason = found[-1]["text"] if found else (lines or ["no message"])[-1]
    return UserError(f"{what}: {reason}", hint=hint)

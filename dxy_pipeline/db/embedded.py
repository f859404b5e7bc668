"""The embedded PostgreSQL server: start, stop, address. Data and server outlive the process that started them.

Belongs here: the life of one cluster in one data directory. Does not belong here: finding the programs
(`embedded_binaries`), accounts and permissions (`embedded_account`), making a cluster (`embedded_cluster`), processes
(`embedded_process`), our schema.

The server listens on a unix socket in a 0700 directory and nowhere else, so `trust` is limited to its owner and root.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql

from dxy_pipeline.db import embedded_binaries
from dxy_pipeline.db.embedded_account import Account, home_for, make_parents, os_refusal, shelter
from dxy_pipeline.db.embedded_cluster import create, refuse_foreign
from dxy_pipeline.db.embedded_process import Postmaster, exclusive, failure
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings

PORT: Final = 5432  # only part of the socket's name; named in the URL so that a caller's PGPORT does not count
START_LIMIT_S: Final = 900.0  # crash recovery of a large cluster takes minutes
SOCKET_PATH_LIMIT: Final = 85  # sun_path is 104 bytes on macOS, 108 on Linux, less "/.s.PGSQL.5432.lock"
PATH_LIMIT: Final = 900  # PostgreSQL cuts paths at 1024 bytes

SERVER_SETTINGS: Final[Mapping[str, str]] = {
    "cluster_name": "dxy_pipeline",
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # a backfill of years is not held up by checkpoints; PostgreSQL frees the space afterwards
    "timezone": "UTC",
    "log_timezone": "UTC",
    # One file for each hour of the day, truncated when its hour comes again: the log holds a day and no more.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "server-%H.log",
    "log_rotation_age": "60",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
}

Progress = Callable[[str], None]


def _silent(_line: str) -> None: ...


class EmbeddedServer:
    """One PostgreSQL cluster under `data_dir`, in a directory named after its major version (`pg18`).

    `settings` are server settings over `SERVER_SETTINGS`. `progress` is told what a long wait waits for.
    Any number of processes may hold an object for the same directory: a lock file orders starts and stops.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        bindir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        progress: Progress = _silent,
        start_limit: float = START_LIMIT_S,
    ) -> None:
        self.requested = Path(os.path.realpath(data_dir))  # one name for it, since the socket's name may hang on it
        self._bindir = bindir
        self._settings = {**SERVER_SETTINGS, **(settings or {})}
        self._progress = progress
        self._start_limit = start_limit
        self.account = Account.current()

    @cached_property
    def binaries(self) -> embedded_binaries.Binaries:
        """The programs, found once."""
        return embedded_binaries.find(self.account, self._bindir, shelter)

    @cached_property
    def home(self) -> Path:
        """The directory that holds the cluster, its lock and its start-up messages."""
        home = home_for(self.account, self.requested)
        if len(os.fsencode(home)) > PATH_LIMIT:
            raise UserError(f"the data directory's path is longer than {PATH_LIMIT} bytes", hint="set DXY_DATA_DIR")
        return home

    @cached_property
    def cluster(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / f"pg{self.binaries.major}"

    @cached_property
    def socket_dir(self) -> Path:
        """Where the socket is: in the cluster, or under /tmp (0700) when that path will not do for a socket."""
        if len(os.fsencode(self.cluster)) <= SOCKET_PATH_LIMIT and "," not in str(self.cluster):  # libpq: two hosts
            return self.cluster
        return Path("/tmp") / f"dxy-pg-{hashlib.sha256(os.fsencode(self.cluster)).hexdigest()[:16]}"  # noqa: S108

    @property
    def log_path(self) -> Path:
        """The log that was written last: a file of the cluster's `log` directory, or the start-up messages."""
        logs = [self._startup_log, *(self.cluster / "log").glob("*.log")]
        return max(
            (log for log in logs if log.exists()), key=lambda log: log.stat().st_mtime, default=self._startup_log
        )

    def url(self, dbname: str = "postgres") -> str:
        """Return the URL of a database on this server, running or not."""
        return (
            f"postgresql://postgres@/{quote(dbname, safe='')}?host={quote(str(self.socket_dir), safe='/')}&port={PORT}"
        )

    def running(self) -> bool:
        """Whether the server's main process lives (it may still be recovering)."""
        return self._postmaster.alive()

    def start(self) -> bool:
        """Start the server unless it runs, and wait until it takes connections. Returns whether it had to be started.

        Raises UserError when it cannot start: no permission, another version's or another user's data, disk full.
        """
        make_parents(self.home, self.account)
        refuse_foreign(self.cluster, self.binaries, self.account)
        with self._locked():
            if not self.cluster.exists():
                create(self.cluster, self.binaries, self.account, durable=self._settings.get("fsync") != "off")
            if self.socket_dir != self.cluster:
                self.account.own_directory(self.socket_dir)
            started = False
            while not self._answers(launched=started):
                self._launch()
                started = True
        return started

    def stop(self, *, limit: float = 120.0) -> bool:
        """Stop the server in order (a checkpoint, open sessions are ended). Returns whether it ran."""
        if not os.path.lexists(self.cluster):
            return False
        self.account.must_own(self.cluster)
        with self._locked():
            ran = self._postmaster.stop(limit, self._progress)
            if self.socket_dir != self.cluster:
                with contextlib.suppress(OSError):  # not there, or a killed server's sockets are still in it
                    self.socket_dir.rmdir()
            return ran

    def ensure_database(self, name: str) -> bool:
        """Create the database `name` unless it exists; returns whether it was created. The server must run."""
        if self.has_database(name):
            return False
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as conn:
            try:
                conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return False  # another process was first
        return True

    def has_database(self, name: str) -> bool:
        """Return whether there is a database `name`. The server must run."""
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as conn:
            return conn.execute("select 1 from pg_database where datname = %s", (name,)).fetchone() is not None

    @property
    def _postmaster(self) -> Postmaster:
        return Postmaster(self.cluster, self.account.uid)

    @property
    def _socket(self) -> Path:
        return self.socket_dir / f".s.PGSQL.{PORT}"

    @property
    def _startup_log(self) -> Path:
        return self.home / f"pg{self.binaries.major}.log"

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(self.home / f"pg{self.binaries.major}.lock", self._start_limit, self._progress)

    def _launch(self) -> None:
        self._postmaster.clear(self.socket_dir, self._progress)
        quoted = '"' + str(self.socket_dir).replace('"', '""') + '"'  # a list setting: blanks and commas need quotes
        wanted = {**self._settings, "unix_socket_directories": quoted, "port": str(PORT)}
        command = [self.binaries.program("postgres"), "-D", str(self.cluster)]
        command += [part for name, value in wanted.items() for part in ("-c", f"{name}={value}")]
        try:
            with self._startup_log.open("wb") as log:
                self._postmaster.launch(command, log, self.account)
        except OSError as error:
            raise os_refusal(f"cannot start the server in {self.cluster}", error) from error

    def _answers(self, *, launched: bool) -> bool:
        """Wait until the server takes connections; False when there is none, UserError when it was just launched."""
        begun = said = time.monotonic()
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return True
            except psycopg.OperationalError as error:
                reason = str(error).strip().splitlines()[-1].strip()
            if "too many clients" in reason or "connection slots" in reason:
                return True  # ready, and busy
            if (at := self._postmaster.ready_at()) and (at != self.socket_dir or not self._socket.exists()):
                raise UserError(
                    f"the server runs, but its socket is not in {self.socket_dir}",
                    hint="stop it with `dxy db stop` and start it again",
                )
            if not self._postmaster.alive():  # not there, or on its way out when we looked first
                if launched:
                    messages = "\n".join(_tail(log) for log in (self._startup_log, self.log_path))
                    raise failure("the server did not start", messages, self.cluster, self.log_path)
                return False
            now = time.monotonic()
            if now - begun > self._start_limit:
                raise UserError(
                    f"the server is not ready after {now - begun:.0f} s: {reason}",
                    hint=f"it goes on by itself; try again later, and see {self.log_path}",
                )
            if now - said >= 2:
                self._progress(f"the server is recovering ({now - begun:.0f} s): {_last_line(self.log_path)}")
                said = now
            time.sleep(0.02 if now - begun < 1 else 0.2)


def server_for(settings: Settings, *, progress: Progress = _silent) -> EmbeddedServer:
    """Return the embedded server of these settings (their data directory and programs); it is not started."""
    return EmbeddedServer(settings.data_dir, bindir=settings.pg_bindir, progress=progress)


def market_url(settings: Settings, *, dbname: str = "dxy", progress: Progress = _silent) -> str:
    """Return DATABASE_URL if it is set; else start the embedded server, ensure `dbname` there and return its URL."""
    if settings.database_url:
        return settings.database_url
    server = server_for(settings, progress=progress)
    server.start()
    server.ensure_database(dbname)
    return server.url(dbname)


def existing_url(settings: Settings, *, dbname: str = "dxy", progress: Progress = _silent) -> str:
    """Return the same for a command that only looks: a server that is stopped is started, nothing is created.

    Raises UserError when there is no embedded server yet, or no such database on it.
    """
    if settings.database_url:
        return settings.database_url
    hint = "run `dxy demo` or `dxy up`, or `dxy db start` for an empty one; or set DATABASE_URL"
    server = server_for(settings, progress=progress)
    if not server.cluster.exists():
        raise UserError(f"there is no embedded server in {settings.data_dir} yet", hint=hint)
    server.start()
    if not server.has_database(dbname):
        raise UserError(f"there is no database {dbname} on the embedded server yet", hint=hint)
    return server.url(dbname)


def _tail(path: Path, size: int = 8000) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - size))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


def _last_line(path: Path) -> str:
    return (_tail(path).strip().splitlines() or [""])[-1]

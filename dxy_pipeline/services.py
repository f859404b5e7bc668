"""What `dxy up` runs: PostgreSQL, the schema, Dagster's webserver and daemon; their start, watch and end.

Belongs here: processes, ports, the Dagster home and the environment they are given. Does not belong here: what is said
on the terminal (`cli/up.py`), the server itself (`db.embedded`), anything about bars.

Each service leads its own process group and writes to its own log. What a killed `dxy up` left behind is recognised by
a file with pid and start time, so that a reused pid is never mistaken for it, and ended before the new start.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from dxy_pipeline import bar_reads, bar_store
from dxy_pipeline.dagster_storage import DATABASE, psycopg2_url
from dxy_pipeline.db import embedded, schema, session
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings

MARKET = "dxy"
CHECKOUT: Final = Path(__file__).resolve().parent.parent
START_LIMIT_S, STOP_LIMIT_S = 120.0, 45.0
LOG_BYTES: Final = 10_000_000
Progress = Callable[[str], None]


@dataclass
class Services:
    """The services of one data directory. `start` returns when the UI answers; `stop` ends them in order."""

    settings: Settings
    progress: Progress = lambda _line: None
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _server: embedded.EmbeddedServer | None = None

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://{self.settings.host}:{self.settings.port}"

    @property
    def logs(self) -> Path:
        """The folder of the services' logs."""
        return self.settings.data_dir / "logs"

    def start(self) -> None:
        """Start what is not running. Raises UserError when a port is taken or a service does not come up."""
        self.settings.make_data_dir()
        self._end_leftovers()
        self._require_port()
        environment = self._databases()
        self._dagster_home()
        python = Path(sys.executable).parent
        workspace = ["-w", str(CHECKOUT / "workspace.yaml")]
        address = ["-h", self.settings.host, "-p", str(self.settings.port)]
        self._launch("daemon", [str(python / "dagster-daemon"), "run", *workspace], environment)
        self._launch("webserver", [str(python / "dagster-webserver"), *address, *workspace], environment)
        self._wait_until_ready()

    def watch(self) -> str | None:
        """Return the name of a service that has ended by itself, None while all run; keeps the logs small."""
        for name in self.running:
            rotate(self.logs / f"{name}.log")
        return next((name for name, process in self.running.items() if process.poll() is not None), None)

    def stop(self) -> None:
        """End daemon, webserver and then PostgreSQL, each given time to finish; safe to call twice."""
        for name in ("daemon", "webserver"):
            if process := self.running.pop(name, None):
                self.progress(f"stopping {name}")
                end_group(process.pid)
                process.wait()
                self._pid_file.unlink(missing_ok=True)
        if self._server is not None:
            self.progress("stopping PostgreSQL")
            self._server.stop()
            self._server = None

    @property
    def _pid_file(self) -> Path:
        return self.settings.data_dir / "services.json"

    def _databases(self) -> dict[str, str]:
        """Start PostgreSQL where it is ours, bring the schema to head; return the environment of the services."""
        settings = self.settings
        market, storage = settings.database_url, settings.dagster_pg_url
        created = False
        if not market or not storage:
            self._server = embedded.server_for(settings, progress=self.progress)
            self.progress("starting PostgreSQL")
            self._server.start()
            if not market:
                created = self._server.ensure_database(MARKET)
                market = self._server.url(MARKET)
            if not storage:
                self._server.ensure_database(DATABASE)
                storage = self._server.url(DATABASE)
        with (
            session.user_errors(),
            session.connect(market, application_name="up", autocommit=True, statement_timeout=0) as conn,
        ):
            if settings.database_url:
                schema.require_head(conn)  # a desk's database is upgraded by a person: `dxy db upgrade`
            else:
                self.progress("bringing the schema to head")
                schema.upgrade(conn)
                if created or not bar_reads.has_bars(conn):
                    bar_store.mark_created_by(conn, "up")
        return {
            **os.environ,
            "DATABASE_URL": market,
            "DXY_DAGSTER_PG_URL": psycopg2_url(storage),
            "DAGSTER_HOME": str(settings.dagster_home),
            "DXY_DATA_DIR": str(settings.data_dir),
            "PYTHONUNBUFFERED": "1",
        }

    def _dagster_home(self) -> None:
        """Put our dagster.yaml into the Dagster home, unless the one there is somebody's own."""
        home, ours = self.settings.dagster_home, CHECKOUT / "dagster.yaml"
        if not ours.is_file():
            raise UserError(f"{ours} is not there", hint="run `dxy up` from a source checkout")
        home.mkdir(parents=True, exist_ok=True)
        target, mark = home / "dagster.yaml", ours.read_text().splitlines()[0]
        if ours != target.resolve() and (not target.exists() or target.read_text().startswith(mark)):
            shutil.copyfile(ours, target)

    def _require_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.settings.host, self.settings.port))
            except OSError as error:
                holder = port_holder(self.settings.port)
                raise UserError(
                    f"port {self.settings.port} on {self.settings.host} is in use{holder}: {error.strerror}",
                    hint="end that process, or choose another port: DXY_PORT=3001 dxy up",
                ) from error

    def _launch(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        self.progress(f"starting {name}")
        self.logs.mkdir(parents=True, exist_ok=True)
        rotate(self.logs / f"{name}.log")
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=self.settings.dagster_home,
                start_new_session=True,
            )
        state = {n: [p.pid, psutil.Process(p.pid).create_time()] for n, p in self.running.items() if p.poll() is None}
        self._pid_file.write_text(json.dumps(state))

    def _end_leftovers(self) -> None:
        """End the services of a `dxy up` that was killed; refuse when one is alive."""
        try:
            left = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return
        for name, (pid, created) in left.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if abs(process.create_time() - created) > 1:
                    continue
                parent = process.parent()
                if parent is not None and parent.pid != 1 and "up" in parent.cmdline():
                    raise UserError(
                        f"`dxy up` already runs on this data directory (pid {parent.pid})",
                        hint="end it with Ctrl-C, or use another directory: DXY_DATA_DIR=… DXY_PORT=… dxy up",
                    )
                self.progress(f"ending the {name} that an earlier start left behind (pid {pid})")
                end_group(pid)
        self._pid_file.unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if dead := self.watch():
                self.stop()
                said = last_line(self.logs / f"{dead}.log")
                raise UserError(f"{dead} did not start: {said}", hint=f"see {self.logs}")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/server_info", timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
            time.sleep(0.2)
        self.stop()
        raise UserError(f"the UI did not answer within {START_LIMIT_S:.0f} s", hint=f"see {self.logs}")


def end_group(pid: int) -> None:
    """Ask the process group led by `pid` to end, wait, and kill what is left of it and its children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=STOP_LIMIT_S)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(alive, timeout=5)


def port_holder(port: int) -> str:
    """Return " by pid N (name)" for the process that listens on `port`, as far as we may know; else an empty text."""
    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.laddr and found.laddr.port == port and found.status == psutil.CONN_LISTEN and found.pid:
                return f" by pid {found.pid} ({psutil.Process(found.pid).name()})"
    return ""


def rotate(log: Path) -> None:
    """Keep one older copy once a log has grown too big. Copy and truncate: the service holds the file open."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def last_line(log: Path) -> str:
    """Return the last line of a log, for an error message."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].strip() if lines else "it wrote nothing"

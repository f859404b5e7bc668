"""The services of a soak under a supervisor that starts again what has died, as systemd would; and their memory.

PostgreSQL lies on a small file system where one may be mounted, so that its disk can be filled for real.
"""

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
import yaml

from dxy_pipeline import bar_store, live_state
from dxy_pipeline.db import schema
from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.errors import UserError
from dxy_pipeline.services import CHECKOUT, psycopg2_url
from dxy_pipeline_tests.soak.plan import START, Plan

SMALL_DISK = "700m"
SERVER = {"max_wal_size": "96MB", "min_wal_size": "32MB", "shared_buffers": "64MB", "restart_after_crash": "on"}
WARM_UP_S = 45.0  # imports and first uses are no growth
MARKET, STORAGE = "dxy", "dagster"


@dataclass
class Stack:
    """Everything that runs; `supervise` keeps it running until `stop`."""

    place: Path
    server: EmbeddedServer
    mounted: bool
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    memory: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    held: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def create(cls, port: int) -> Self:
        """Make a directory with a server on a small disk (where mountable) and both databases at head."""
        place = Path(tempfile.mkdtemp(prefix="dxy-soak-"))
        place.chmod(0o755)  # as root the server runs as nobody
        disk = place / "disk"
        disk.mkdir()
        mounted = small_disk(disk)
        server = EmbeddedServer(disk, settings=SERVER)
        server.start()
        for name in (MARKET, STORAGE):
            server.ensure_database(name)
        with psycopg.connect(server.url(MARKET), autocommit=True) as conn:
            schema.upgrade(conn)
            bar_store.mark_created_by(conn, "demo")
            live_state.note(conn, "simulated", START)
        return cls(place, server, mounted, port)

    @property
    def clock(self) -> str:
        """Where market time is kept."""
        return str(self.place / "clock.json")

    @property
    def orders(self) -> str:
        """Where the feed reads its orders."""
        return str(self.place / "orders.json")

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self, database: str = MARKET) -> psycopg.Connection:
        """Open an autocommit connection that is not cut by the soak's own cutting."""
        return psycopg.connect(
            self.server.url(database),
            autocommit=True,
            connect_timeout=5,
            options="-c TimeZone=UTC",
            application_name="soak observer",
        )

    def start(self, plan: Plan, **environment: str) -> None:
        """Start the services with this plan, and the supervisor."""
        home = self.place / "home"
        home.mkdir(exist_ok=True)
        instance = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())
        instance["run_monitoring"] |= {"poll_interval_seconds": 3, "start_timeout_seconds": 60}
        (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
        (home / "workspace.yaml").write_text(
            "load_from:\n  - python_module: {module_name: dxy_pipeline_tests.soak.location, location_name: soak}\n"
        )
        self.environment = {
            **os.environ,
            **plan.to_env(),
            "DATABASE_URL": self.server.url(MARKET),
            "DXY_DAGSTER_PG_URL": psycopg2_url(self.server.url(STORAGE)),
            "DAGSTER_HOME": str(home),
            "DXY_DATA_DIR": str(self.place),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONHASHSEED": "0",  # the feed's habits are the same in every process
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        for name in ("daemon", "webserver"):
            self.launch(name)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    def launch(self, name: str) -> None:
        """Start one Dagster service."""
        python, home = Path(sys.executable).parent, self.place / "home"
        address = ["-h", "127.0.0.1", "-p", str(self.port)]
        command = {
            "daemon": [str(python / "dagster-daemon"), "run"],
            "webserver": [str(python / "dagster-webserver"), *address],
        }[name]
        with (self.place / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*command, "-w", str(home / "workspace.yaml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self.environment, cwd=home,
                start_new_session=True,
            )  # fmt: skip

    def family(self, name: str) -> list[psutil.Process]:
        """Return a service's processes, itself first; none when it is dead."""
        with contextlib.suppress(psutil.Error, KeyError):
            leader = psutil.Process(self.running[name].pid)
            return [leader, *leader.children(recursive=True)]
        return []

    def stop(self) -> None:
        """End everything and remove what it wrote."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(60)
        for name, process in self.running.items():
            family = self.family(name)
            end_orphans(process.pid)  # nothing is learnt from an orderly end here
            process.wait()
            psutil.wait_procs(family, timeout=10)
        self.server.stop()
        if self.mounted:
            subprocess.run(["umount", str(self.place / "disk")], check=False, capture_output=True)
        if os.environ.get("DXY_SOAK_KEEP") != "1":
            shutil.rmtree(self.place, ignore_errors=True)

    def _supervise(self) -> None:
        while not self._over.wait(1.0):
            if "postgres" not in self.held and not self.server.running():
                self.restarts["postgres"] += 1
                with contextlib.suppress(UserError, psycopg.Error):  # a full disk: it is tried again
                    self.server.start()
            for name, process in list(self.running.items()):
                if name not in self.held and process.poll() is not None:
                    self.restarts[name] += 1
                    end_orphans(process.pid)
                    self.launch(name)
                self._weigh(name)

    def _weigh(self, name: str) -> None:
        for process in self.family(name):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                role = (
                    f"{name} code server" if "grpc" in words else name if process.pid == self.running[name].pid else ""
                )
                if role:
                    self.memory[role, process.pid].append((time.monotonic(), process.memory_info().rss / 2**20))

    def growth(self, least_life: float) -> dict[str, tuple[float, float]]:
        """Return the worst (early, late) memory in MiB of each role, over processes that lived long enough."""
        worst: dict[str, tuple[float, float]] = {}
        for (role, _), samples in self.memory.items():
            warm = [size for at, size in samples if at - samples[0][0] > WARM_UP_S]
            if samples[-1][0] - samples[0][0] < WARM_UP_S + least_life or not warm:
                continue
            quarter = max(1, len(warm) // 4)
            early, late = statistics.median(warm[:quarter]), statistics.median(warm[-quarter:])
            if role not in worst or late - early > worst[role][1] - worst[role][0]:
                worst[role] = (early, late)
        return worst


def small_disk(place: Path) -> bool:
    """Mount a small file system there; returns whether this user on this machine may."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=755", "tmpfs", str(place)]
    return os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0


def end_orphans(group: int) -> None:
    """End what a killed service left of its process group: systemd would end the whole unit."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def code_servers(stack: Stack) -> list[psutil.Process]:
    """Return the daemon's code servers; of a process that ends meanwhile nothing is said."""
    found = []
    for process in stack.family("daemon"):
        with contextlib.suppress(psutil.Error):
            if "grpc" in process.cmdline():
                found.append(process)
    return found


def run_workers(stack: Stack) -> list[psutil.Process]:
    """Return the processes that execute runs now: children of the daemon's code server."""
    found = []
    for server in code_servers(stack):
        with contextlib.suppress(psutil.Error):
            found += [child for child in server.children() if "resource_tracker" not in " ".join(child.cmdline())]
    return found


def graphql(stack: Stack, query: str) -> Any:
    """Return the data of a GraphQL question to the soak's webserver. Raises OSError while it is down."""
    request = urllib.request.Request(
        f"{stack.url}/graphql", json.dumps({"query": query}).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["data"]

"""`dxy up` as a process: it starts, it is killed, it is started again, it ends with everything it started."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dxy_pipeline.automation.jobs import LATE_JOB
from dxy_pipeline.dagster_storage import psycopg2_url
from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.services import rotate
from dxy_pipeline_tests.benchmarks import latency
from dxy_pipeline_tests.ui.dagster_ui import Up, free_port, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dxy-up-") as directory:
        Path(directory).chmod(0o755)  # as root the server runs as nobody
        yield Path(directory) / "data"
        EmbeddedServer(Path(directory) / "data").stop()


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process that works on this data directory, by its environment or its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join(process.cmdline()) + process.environ().get("DXY_DATA_DIR", "")
        except psutil.Error:
            continue
        if str(data_dir) in text and process.pid != os.getpid():
            found.append(process)
    return found


def refused(data_dir: Path, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", "up"],
        env={**os.environ, "DXY_DATA_DIR": str(data_dir), "DXY_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_killed_and_started_again_it_recovers_and_ends_everything(data_dir: Path) -> None:
    """kill -9 leaves services behind; the second start ends them, keeps the data, and Ctrl-C leaves no process."""
    first = Up.start(data_dir)
    left = [int(pid) for pid in (p.pid for p in processes_of(data_dir)) if pid != first.process.pid]
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert any(psutil.pid_exists(pid) for pid in left), "the services outlive a killed starter"

    second = Up.start(data_dir, first.port)
    servers = {p.pid for p in processes_of(data_dir) if any("dagster" in part for part in p.cmdline()[:3])}
    assert not servers & set(left), "the daemon and the UI that were left behind are gone"
    assert second.ask("{version}")["version"]

    again = refused(data_dir, free_port())
    assert again.returncode == 2
    assert f"(pid {second.process.pid})" in again.stderr
    assert second.ask("{version}")["version"], "the one that runs is not touched"

    assert second.stop() == 0
    wait_for("all processes end", lambda: not processes_of(data_dir), limit=30)
    assert second.process.stdout is not None


def test_the_sixth_bar_of_another_worker_reaches_every_timeframe(data_dir: Path) -> None:
    """By the sensor for late data, within seconds: `make bench` says how many, here only that nobody waits for long."""
    up = Up.start(data_dir, DXY_FX_SOURCE="external")
    taken = latency.external(up, samples=1)
    late = [run["status"] for run in up.runs() if run["jobName"] == LATE_JOB]
    assert up.stop() == 0
    assert len(taken) == 1
    assert taken[0] < 60
    assert "SUCCESS" in late


def test_a_port_in_use_is_one_line_that_names_it(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = refused(data_dir, port)
    assert done.returncode == 2
    (error, hint) = [line for line in done.stderr.splitlines() if line.startswith(("error:", "hint:"))]
    assert f"port {port} on 127.0.0.1 is in use by pid {os.getpid()}" in error
    assert "DXY_PORT" in hint
    assert "Traceback" not in done.stderr
    assert not data_dir.joinpath("services.json").exists()


def test_logs_are_kept_small(tmp_path: Path) -> None:
    """The service holds its log open for appending: the file is copied and cut, and goes on being written."""
    log = tmp_path / "daemon.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 10_000_001)
        rotate(log)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "daemon.log.1").stat().st_size == 10_000_001


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("postgresql://a@/d?host=/x", "postgresql+psycopg2://a@/d?host=/x"),
        ("postgres://a@h/d", "postgresql+psycopg2://a@h/d"),
        ("postgresql+psycopg2://a@h/d", "postgresql+psycopg2://a@h/d"),
    ],
)
def test_dagsters_storage_is_given_its_driver(given: str, wanted: str) -> None:
    assert psycopg2_url(given) == wanted

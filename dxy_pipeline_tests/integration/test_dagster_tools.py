"""Dagster's own tools on this project, as the README shows them: dagster dev, dg, dagster definitions validate."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def tools(place: Path) -> Iterator[dict[str, str]]:
    """A user's environment with a data directory of its own; the server that the tools start there is stopped."""
    env = {**os.environ, "DXY_DATA_DIR": str(place / "data"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    yield env
    stop = [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", "db", "stop"]
    subprocess.run(stop, env=env, capture_output=True, timeout=120, check=True)


@pytest.mark.services
def test_dg_and_dagster_dev(tools: dict[str, str]) -> None:
    listed = subprocess.run(
        ["dg", "list", "defs"], cwd=ROOT, env=tools, capture_output=True, text=True, timeout=120, check=False
    )
    assert listed.returncode == 0, listed.stderr[-2000:]
    for name in ("fx_1m", "dxy_1m", "dxy_5m", "dxy_1h"):
        assert name in listed.stdout

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, env=tools, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as dev:
        try:
            assert _answers(f"http://127.0.0.1:{port}/server_info", dev), "dagster dev did not come up"
        finally:
            children = psutil.Process(dev.pid).children(recursive=True)
            dev.send_signal(signal.SIGINT)
            _, alive = psutil.wait_procs([psutil.Process(dev.pid), *children], timeout=60)
            for process in alive:
                process.kill()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    return False


def test_definitions_validate(tmp_path: Path) -> None:
    """From any folder; the tool makes its temporary home there."""
    command = ["dagster", "definitions", "validate", "-m", "dxy_pipeline.definitions"]
    env = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]

"""Scale-out for real: redis, a Celery worker by deploy/celery, and the services of `dxy up` with that instance."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.services import psycopg2_url
from dxy_pipeline_tests.ui.dagster_ui import Up, free_port, wait_for

CELERY = Path(__file__).resolve().parents[2] / "deploy" / "celery"
BIN = Path(sys.executable).parent
TASK = "dagster-celery/task_id"
RUN = """
query ($id: ID!) { runOrError(runId: $id) { ... on Run {
    status tags { key value } startTime updateTime
    events: eventConnection(limit: 1000) { events { __typename ... on MessageEvent { message timestamp } } } } } }
"""
LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""

pytestmark = pytest.mark.services


@dataclass
class ScaleOut:
    """The services, and the two processes beside them."""

    up: Up
    worker: subprocess.Popen[bytes]
    redis_port: int

    def launch(self, day: str) -> str:
        """Ask for one day of all four assets as the UI does; returns the run's id."""
        selector = {
            "repositoryLocationName": "dxy_pipeline",
            "repositoryName": "__repository__",
            "jobName": "materialize_range",
        }
        tags = [{"key": "dagster/partition", "value": day}]
        said = self.up.ask(LAUNCH, params={"selector": selector, "executionMetadata": {"tags": tags}})
        assert said["launchRun"]["__typename"] == "LaunchRunSuccess", said
        return said["launchRun"]["run"]["runId"]

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait for a run to end and return it."""

        def probe() -> dict[str, Any] | None:
            run = self.up.ask(RUN, id=run_id)["runOrError"]
            return run if run["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else None

        return wait_for(f"the run {run_id} ends", probe)


@pytest.fixture(scope="module")
def scale_out(_own_environment: None) -> Iterator[ScaleOut]:
    redis = shutil.which("redis-server")
    assert redis, "redis-server is not installed: the Celery launcher cannot be tested (Debian: redis-server)"
    with tempfile.TemporaryDirectory(prefix="dxy-celery-") as directory:
        place, port = Path(directory), free_port()
        place.chmod(0o755)  # as root the server runs as nobody
        home = place / "data" / "dagster_home"
        home.mkdir(parents=True)
        shutil.copy(CELERY / "dagster.yaml", home)
        broker = {"DXY_CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
        command = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place)]
        with (place / "redis.log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            up = Up.start(place / "data", **broker)
            services = ScaleOut(up, start_worker(place, broker), port)
            yield services
            end_tree(services.worker)
            assert up.stop() == 0
        finally:
            server.terminate()
            server.wait(30)


def start_worker(place: Path, broker: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker as dxy-worker.service does and wait until it listens."""
    database = EmbeddedServer(place / "data")
    environment = {
        **os.environ,
        **broker,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DAGSTER_HOME": str(place / "data" / "dagster_home"),
        "DXY_DATA_DIR": str(place / "data"),
        "DATABASE_URL": database.url("dxy"),
        "DXY_DAGSTER_PG_URL": psycopg2_url(database.url("dagster")),
    }
    command = [str(BIN / "dagster-celery"), "worker", "start", "-A", "dagster_celery.app", "-q", "dagster"]
    command += ["-y", str(CELERY / "worker.yaml"), "--", "--concurrency", "1"]
    log = place / "worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, cwd=place)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        return " ready." in log.read_text()

    wait_for("the worker listens", ready)
    said = log.read_text()
    assert broker["DXY_CELERY_BROKER_URL"] in said
    assert "amqp://" not in said.replace("amqp://guest", "")
    return process


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    for one in family:
        one.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for one in alive:
        one.kill()
    process.wait(20)


def moments(run: dict[str, Any], *words: str) -> list[float]:
    """The time in seconds of the first event whose message holds each of `words`."""
    events = [
        (event["message"], float(event["timestamp"]) / 1000)
        for event in run["events"]["events"]
        if event.get("message")
    ]
    return [next(at for message, at in events if word in message) for word in words]


def test_a_run_goes_through_the_broker_and_its_bars_are_there(scale_out: ScaleOut) -> None:
    run = scale_out.ended(scale_out.launch("2024-06-12"))
    assert run["status"] == "SUCCESS", run
    assert TASK in {tag["key"] for tag in run["tags"]}
    forwarded, started = moments(run, "forwarded to the broker", "Started execution of run")
    assert started - forwarded < 30
    with scale_out.up.database("dxy") as conn:
        counts = conn.execute(
            "SELECT count(*) FILTER (WHERE canonical_symbol = 'DXY'), count(*) FROM public.data_bars"
            " WHERE ts_utc >= '2024-06-12Z' AND ts_utc < '2024-06-13Z'"
        ).fetchone()
    assert counts is not None
    assert counts[0] > 1300
    assert counts[1] > 7 * 1300


def test_a_warm_worker_starts_a_run_without_the_boot(scale_out: ScaleOut) -> None:
    scale_out.ended(scale_out.launch("2024-06-11"))
    waits = []
    for day in ("2024-06-10", "2024-06-07", "2024-06-06"):
        run = scale_out.ended(scale_out.launch(day))
        assert run["status"] == "SUCCESS", run
        forwarded, started = moments(run, "forwarded to the broker", "Started execution of run")
        waits.append(started - forwarded)
    assert min(waits) < 2.0, f"from broker to run {waits} s; a process of its own takes 3"


def test_the_minute_schedule_runs_on_the_worker(scale_out: ScaleOut) -> None:
    def minute() -> dict[str, Any] | None:
        return next(
            (r for r in scale_out.up.runs() if r["jobName"] == "live_minute" and r["status"] == "SUCCESS"), None
        )

    run = wait_for("a run of the minute schedule succeeds", minute, limit=180)
    assert TASK in {tag["key"] for tag in run["tags"]}


def test_runs_wait_for_a_worker_that_was_killed_and_go_on_with_the_next(scale_out: ScaleOut) -> None:
    family = [*psutil.Process(scale_out.worker.pid).children(recursive=True), psutil.Process(scale_out.worker.pid)]
    for process in family:
        process.kill()
    scale_out.worker.wait(20)
    run_id = scale_out.launch("2024-06-05")
    place = scale_out.up.data_dir.parent
    scale_out.worker = start_worker(place, {"DXY_CELERY_BROKER_URL": f"redis://127.0.0.1:{scale_out.redis_port}/0"})
    assert scale_out.ended(run_id)["status"] == "SUCCESS"

"""How long after the fact DXY 1m, 5m and 1h are there to be read, with the real services of `dxy up`.

Fetched sources: from the end of the minute, with the default launcher and with Celery (where redis is installed).
External: from the commit of the sixth bar of a minute, through the sensor for touched minutes.
"""

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import psycopg

from dxy_pipeline.core import fx_week
from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline_tests.bars import RATES, put, put_six
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import statement
from dxy_pipeline_tests.integration.test_celery import CELERY, end_tree, start_worker
from dxy_pipeline_tests.ui.dagster_ui import Up, free_port, wait_for

MINUTE: Final = Timeframe.M1.delta
SAMPLES: Final = 3  # minutes of each launcher
EXTERNAL_SAMPLES: Final = 5
LIMIT: Final = 180.0
STRIDE: Final = 5 * MINUTE  # a sample for each 5m bar


def measure() -> Iterator[Figure]:
    """Yield the figures: the 95th percentile of the samples. A shut market has no minutes to fetch: then only `external`."""
    with service_place() as place:
        up = Up.start(place / "data", DXY_FX_SOURCE="external")
        try:
            taken = external(up)
        finally:
            up.stop()
        yield _figure("external: commit of the sixth bar to DXY 1m, 5m, 1h, p95", taken, 15)
    if not fx_week.is_open(datetime.now(UTC)):
        return
    with service_place() as place:
        up = Up.start(place / "data", DXY_FX_SOURCE="simulated")
        try:
            taken = _fetched(up)
        finally:
            up.stop()
        yield _figure("fetched, default launcher: minute's end to DXY 1m, 5m, 1h, p95", taken, 12)
    if redis := shutil.which("redis-server"):
        with service_place() as place:
            yield _figure("fetched, Celery launcher: minute's end to DXY 1m, 5m, 1h, p95", _by_celery(place, redis), 5)


def _figure(name: str, taken: list[float], bound: float) -> Figure:
    return Figure(name, float(np.percentile(taken, 95)), bound, " s")


@contextmanager
def service_place() -> Iterator[Path]:
    """A directory for services, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="dxy-latency-") as directory:
        Path(directory).chmod(0o755)  # as root the server runs as nobody
        yield Path(directory)


def _visible(conn: psycopg.Connection, minute: datetime) -> datetime | None:
    """Return when DXY 1m of `minute` and what it changes in 5m and 1h could be read; None when it never came."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if conn.execute(statement("behind"), {"minute": minute}).fetchone() == (0,):
            return datetime.now(UTC)
        if datetime.now(UTC) > minute + 2 * MINUTE and not _complete(conn, minute):
            return None  # the simulated feed leaves minutes out, as real ones do
        time.sleep(0.1)
    raise AssertionError(f"{minute:%H:%M} is not derived and rolled up after {LIMIT:.0f} s")


def _complete(conn: psycopg.Connection, minute: datetime) -> bool:
    found = conn.execute(
        "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = ANY (%s) AND timeframe = '1m' AND ts_utc = %s",
        (list(SYMBOLS), minute),
    ).fetchone()
    return found == (len(SYMBOLS),)


def _fetched(up: Up) -> list[float]:
    """Watch minutes end, once the first run has caught up."""
    taken: list[float] = []
    with up.database("dxy") as conn:
        newest = "SELECT max(ts_utc) FROM public.data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"

        def caught_up() -> bool:
            found = conn.execute(newest).fetchone()
            return bool(found and found[0] and found[0] > datetime.now(UTC) - 5 * MINUTE)

        wait_for("the first run catches up", caught_up, LIMIT)
        while len(taken) < SAMPLES:
            minute = datetime.now(UTC).replace(second=0, microsecond=0)
            seen = _visible(conn, minute)
            if seen is not None:
                taken.append((seen - minute - MINUTE).total_seconds())
    return taken


def external(up: Up, samples: int = EXTERNAL_SAMPLES) -> list[float]:
    """Be the other worker: write a minute's six bars, commit, and see how long the index takes; `samples` times.

    The minutes around are there already, so that each sample changes a bar of every timeframe. Public: a test asks the
    same of the services, with a generous bound.
    """
    taken: list[float] = []
    last = datetime.now(UTC).replace(second=0, microsecond=0) - 10 * MINUTE
    while not fx_week.is_open(last - timedelta(hours=3)) or not fx_week.is_open(last):
        last -= timedelta(hours=1)
    minutes = [last - sample * STRIDE for sample in range(samples, -1, -1)]
    with up.database("dxy") as conn:
        for start, end in pairwise([last - timedelta(hours=3), *minutes]):
            put_six(conn, start + MINUTE, (end - start) // MINUTE - 1)
        for sample, minute in enumerate(minutes):
            with conn.transaction():
                for symbol in SYMBOLS:
                    put(conn, [(symbol, minute, RATES[symbol])])
            committed = datetime.now(UTC)
            seen = _visible(conn, minute)
            if seen is not None and sample:  # the first one waits for the services to get going
                taken.append((seen - committed).total_seconds())
            time.sleep(random.uniform(0, 5))  # so that samples do not move in step with the sensor
    return taken


def _by_celery(place: Path, redis: str) -> list[float]:
    """Run redis and a worker beside the services, as deploy/celery has them."""
    home, port = place / "data" / "dagster_home", free_port()
    home.mkdir(parents=True)
    shutil.copy(CELERY / "dagster.yaml", home)
    broker = {"DXY_CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
    with (place / "redis.log").open("wb") as log:
        server = subprocess.Popen(
            [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(os.environ),
        )
    try:
        up = Up.start(place / "data", DXY_FX_SOURCE="simulated", **broker)
        try:
            worker = start_worker(place, {**broker, "DXY_FX_SOURCE": "simulated"})
            try:
                return _fetched(up)
            finally:
                end_tree(worker)
        finally:
            up.stop()
    finally:
        server.terminate()
        server.wait(30)

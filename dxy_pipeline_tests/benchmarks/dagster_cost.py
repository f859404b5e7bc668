"""What Dagster adds to the SQL of a year's backfill of all assets in a single run, and what its worker holds in memory."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.partitions import day_of, days, key_of
from dxy_pipeline.services import CHECKOUT, DATABASE, psycopg2_url
from dxy_pipeline_tests.benchmarks import growth
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import END, Market, cost

ASSETS = 4


def measure(running: EmbeddedServer, year: Market, four_years: Market) -> Iterator[Figure]:
    """Yield the figures. Leaves both spans derived and rolled up."""
    running.ensure_database(DATABASE)
    year.clear()
    bare = cost(year, lambda: growth.whole(year))
    year.clear()
    one = _run(running, year)
    four_years.clear()
    four = _run(running, four_years)
    partitions = ASSETS * len(list(days(year.start, END)))
    each = 1000 * (one["run"] - bare.seconds) / partitions
    yield Figure("Dagster single-run backfill beyond the bare SQL, each asset and day", each, 20, " ms")
    yield Figure("boot of its worker", one["boot"], unit=" s")
    yield Figure("peak memory of the worker", max(one["peak_mb"], four["peak_mb"]), 300, " MB")
    yield Figure("peak memory: four years ÷ one year", four["peak_mb"] / one["peak_mb"], 1.1)


def _run(running: EmbeddedServer, market: Market) -> dict[str, float]:
    """Run the backfill of a market's whole span in a worker of its own; the FX bars are there already (`external`)."""
    with tempfile.TemporaryDirectory(prefix="dxy-bench-home-") as home:
        shutil.copy(CHECKOUT / "dagster.yaml", home)
        environment = {
            **os.environ,
            "DATABASE_URL": market.url,
            "DXY_DAGSTER_PG_URL": psycopg2_url(running.url(DATABASE)),
            "DAGSTER_HOME": home,
            "DXY_DATA_DIR": home,
            "DXY_FX_SOURCE": "external",
            "DXY_STATEMENT_TIMEOUT_S": "0",
        }
        command = [sys.executable, "-m", "dxy_pipeline_tests.benchmarks.worker"]
        command += [key_of(day_of(market.start)), key_of(day_of(END - timedelta(days=1)))]
        log = Path(home) / "worker.log"
        with log.open("wb") as err:
            ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=err, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"the worker failed:\n{log.read_text()[-4000:]}")
    return json.loads(ended.stdout.splitlines()[-1])

"""`dxy demo` as a newcomer runs it: the real command, its own embedded server, twice."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from dxy_pipeline import demo
from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.db.embedded import EmbeddedServer


def _dxy(*args: str, data_dir: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DXY_DATA_DIR": str(data_dir), **extra}
    command = [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.timeout(600)
def test_demo_is_healthy_and_a_second_one_writes_nothing(place: Path) -> None:
    first = _dxy("demo", "--json", data_dir=place / "data dir")
    assert first.returncode == 0, first.stderr[-2000:]
    report = json.loads(first.stdout)
    assert report["healthy"] is True
    assert report["rows_written"] > 100_000
    assert all(check["passed"] for check in report["checks"])
    # every check, over all that is stored: a wrong bar on the first of the ten days is as wrong as one on the last
    assert {(check["asset_key"], check["name"]) for check in report["checks"]} == {(c.asset, c.name) for c in CHECKS}
    match = next(check for check in report["checks"] if check["name"] == "count_match")
    assert int(re.search(r"([\d,]+) bars", match["description"])[1].replace(",", "")) > 15_000
    assert {figures["asset"] for figures in report["assets"] if figures["bars"]} == {
        "fx_1m",
        "dxy_1m",
        "dxy_5m",
        "dxy_1h",
    }
    for level in report["levels"]:
        assert abs(level["derived"] - level["published"]) <= level["tolerance"], level
    for picture in report["pictures"]:
        assert Path(picture).stat().st_size > 20_000

    server = EmbeddedServer(place / "data dir")
    server.start()
    with psycopg.connect(server.url(demo.DATABASE)) as conn:
        waiting = conn.execute("SELECT count(*) FROM dxy.touched_range").fetchone()
    assert waiting == (0,), "nothing that the demo changed waits for a roll-up"

    second = _dxy("demo", data_dir=place / "data dir")
    assert second.returncode == 0, second.stderr[-2000:]
    assert "healthy; 0 rows written" in second.stdout
    assert "all-time low, March 2008" in second.stdout


def test_demo_refuses_a_database_it_did_not_make(db: str, place: Path) -> None:
    refused = _dxy("demo", data_dir=place, DATABASE_URL=db)
    assert refused.returncode == 2
    assert "only to a database that it created itself" in refused.stderr
    assert "Traceback" not in refused.stderr

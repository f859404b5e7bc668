"""The README is true: its commands are real, those for a database work in the order given, its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from dxy_pipeline import bar_store
from dxy_pipeline.core.clock import SystemClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.simulated import SimulatedSource

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines() if line]
# Run elsewhere: by .ci/run and by the tests of the same name.
PROVED_BY = {
    "make demo": "dxy_pipeline_tests/integration/test_demo.py",
    "make test": ".ci/run",
    "make up": "dxy_pipeline_tests/ui",
    "dagster dev -w workspace.yaml": "dxy_pipeline_tests/integration/test_dagster_tools.py",
    "dg list defs": "dxy_pipeline_tests/integration/test_dagster_tools.py",
}


def test_every_command_is_run_somewhere() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]
    for command in COMMANDS:
        if command in PROVED_BY:
            assert (ROOT / PROVED_BY[command]).exists()
        else:
            assert command.startswith(("dxy ", "export DATABASE_URL=")), f"nothing runs: {command}"
    assert "make test" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("target", sorted({c.split()[1] for c in re.findall(r"make [a-z-]+", README + "make demo")}))
def test_make_targets_exist(target: str) -> None:
    made = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


def test_database_commands_work_in_order(any_empty_db: str) -> None:
    env = {**os.environ, "DATABASE_URL": any_empty_db}
    for command in (c for c in COMMANDS if c.startswith("dxy ")):
        if command.startswith("dxy backfill"):
            _recent_minutes(any_empty_db)
        words = [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", *shlex.split(command)[1:]]
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
        # `dxy status` may well say that these few bars are not a healthy market: 1 is an answer, not an error.
        assert done.returncode in ({0, 1} if command == "dxy status" else {0}), f"{command}: {done.stderr}"


def _recent_minutes(url: str) -> None:
    """Stands for the desk's own feed: a day of minutes inside the range that the README backfills."""
    start = datetime(2026, 10, 6, tzinfo=UTC)
    with psycopg.connect(url, autocommit=True) as conn:
        bar_store.mark_created_by(conn, "demo")
        source = SimulatedSource(SystemClock())
        for batch in source.bars(SYMBOLS, start, start + timedelta(days=1)):
            bar_store.write_fx(conn, source.name, source.feed, batch)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link

"""The matrix of faults is whole and printed once, however many workers ran the tests."""

import os
import subprocess
import sys
from pathlib import Path

from dxy_pipeline_tests.faults.matrix import PROPERTY, drawn

CHECKOUT = Path(__file__).resolve().parents[2]
CONFTEST = """
import pathlib
import pytest
from dxy_pipeline_tests.faults import matrix

@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session):
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(session.config, "workerinput"):
        wanted = [f"fault {n}" for n in range(WANTED)]
        if matrix.conclude(terminal, session.config, wanted, pathlib.Path(__file__).parent / "build" / "matrix.txt"):
            session.exitstatus = 1
"""
TESTS = f"""
import pytest

@pytest.mark.parametrize("n", range(20))
def test_fault(n, record_property):
    record_property("{PROPERTY}", [f"fault {{n}}", ["dxy_1m.drift"], ["dxy minutes"]])
"""


def run(place: Path, wanted: int, *options: str) -> subprocess.CompletedProcess[str]:
    (place / "conftest.py").write_text(CONFTEST.replace("WANTED", str(wanted)))
    (place / "test_some.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "worksteal",
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_two_workers_make_one_matrix_with_every_fault(tmp_path: Path) -> None:
    done = run(tmp_path, 20)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("fault ") and line.endswith("dxy minutes")]
    assert [line.split("  ")[0].strip() for line in lines] == [f"fault {n}" for n in range(20)]
    assert (tmp_path / "build/matrix.txt").read_text().splitlines()[-20:] == lines


def test_a_fault_that_was_lost_fails_the_run_unless_it_was_left_out(tmp_path: Path) -> None:
    done = run(tmp_path, 21)
    assert done.returncode == 1
    assert "1 faults are missing from the matrix: fault 20" in done.stdout
    assert run(tmp_path, 21, "-k", "3").returncode == 0


def test_a_row_shows_what_failed_and_what_fired() -> None:
    last = drawn({"x": ({"fx_1m.freshness"}, ["feed"])}, ["x"]).splitlines()[-1]
    assert last.startswith("x  ●·")
    assert last.endswith("·  feed")

"""The matrix of faults and checks: noted test by test, drawn once at the end of the run, whoever ran the tests.

A test's notes travel in its report's properties, which pytest-xdist brings from each worker to the controller.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dxy_pipeline.checks.config import CHECKS

FILE = Path(__file__).resolve().parents[2] / "build" / "fault_matrix.txt"
PROPERTY = "fault"
Seen = dict[str, tuple[set[str], list[str]]]


def noted(reports: Iterable[Any]) -> Seen:
    """Return what the tests noted: for each fault the checks that failed and the causes that fired."""
    found = (value for report in reports for name, value in getattr(report, "user_properties", ()) if name == PROPERTY)
    return {name: (set(failed), list(fired)) for name, failed, fired in found}


def drawn(seen: Seen, order: Iterable[str]) -> str:
    """Return the matrix as text: a column for each check, ● where it failed, the incident at the end of the row."""
    checks = [f"{c.asset}.{c.name}" for c in CHECKS]
    width = max(map(len, seen), default=0)
    head = [f"{'':{width}}  {''.join(name[i] if i < len(name) else ' ' for name in checks)}"
            for i in range(max(map(len, checks)))]  # fmt: skip
    rows = [
        f"{name:{width}}  {''.join('●' if check in seen[name][0] else '·' for check in checks)}  "
        f"{', '.join(seen[name][1]) or '-'}"
        for name in order
        if name in seen
    ]
    return "\n".join([*head, *rows, ""])


def conclude(terminal: pytest.TerminalReporter, config: pytest.Config, wanted: list[str], file: Path) -> int:
    """Print and write the matrix when faults were tested; returns how many are missing from a run that chose none out."""
    seen = noted(report for reports in terminal.stats.values() for report in reports)
    if not seen:
        return 0
    text = drawn(seen, wanted)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    terminal.section("faults and the checks they fail")
    terminal.write_line(text)
    missing = [name for name in wanted if name not in seen]
    chosen = config.option.keyword or any("::" in arg for arg in config.args) or getattr(config.option, "lf", False)
    if missing and not chosen:
        terminal.write_line(f"ERROR: {len(missing)} faults are missing from the matrix: {', '.join(missing)}")
        return len(missing)
    return 0

"""Each fault fails exactly its declared checks and opens exactly one incident, which names the root cause."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from dxy_pipeline import alerts
from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.checks.engine import CheckResult, run_checks
from dxy_pipeline_tests.faults.conftest import NOW
from dxy_pipeline_tests.faults.faults import FAULTS, Fault

MATRIX = Path(__file__).resolve().parents[2] / "build" / "fault_matrix.txt"


@pytest.fixture(scope="module")
def matrix() -> Iterator[dict[str, tuple[set[str], list[str]]]]:
    """What each fault failed and fired, printed and written down at the end."""
    seen: dict[str, tuple[set[str], list[str]]] = {}
    yield seen
    text = drawn(seen)
    MATRIX.parent.mkdir(exist_ok=True)
    MATRIX.write_text(text, encoding="utf-8")
    print(f"\n{text}")


def drawn(seen: dict[str, tuple[set[str], list[str]]]) -> str:
    """Return the matrix of faults and checks as text: a column for each check, ● where it failed."""
    checks = [f"{c.asset}.{c.name}" for c in CHECKS]
    width = max(map(len, seen), default=0)
    head = [f"{'':{width}}  {''.join(name[i] if i < len(name) else ' ' for name in checks)}"
            for i in range(max(map(len, checks)))]  # fmt: skip
    rows = [
        f"{name:{width}}  {''.join('●' if check in failed else '·' for check in checks)}  {', '.join(fired) or '-'}"
        for name, (failed, fired) in seen.items()
    ]
    return "\n".join([*head, *rows, ""])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fires_exactly_what_is_declared(
    live: psycopg.Connection, fault: Fault, matrix: dict[str, tuple[set[str], list[str]]]
) -> None:
    fault.inject(live)
    results = run_checks(live, NOW, rhythm=fault.rhythm, sample=200)
    failed = {result.key for result in results if not result.passed}
    fired = incidents(live, results) if fault.rhythm == "minute" else []
    matrix[fault.name] = failed, fired
    assert failed == fault.checks, {r.key: r.description for r in results if not r.passed}
    if fault.rhythm == "minute":
        assert fired == ([fault.cause] if fault.cause else [])
    else:  # looked at once a day, by people; incidents come from the minute's checks
        assert fault.cause in {cause.key for cause in alerts.root_causes(results)}


def incidents(conn: psycopg.Connection, results: list[CheckResult]) -> list[str]:
    """Return the causes that fire when the checks go on saying this for twelve minutes."""
    causes = alerts.root_causes(results)
    turns = [turn for minute in range(12) for turn in alerts.advance(conn, causes, NOW + timedelta(minutes=minute))]
    assert {turn.state for turn in turns} <= {"firing"}
    return [turn.cause for turn in turns]


def test_every_check_passes_on_the_clean_database(live: psycopg.Connection) -> None:
    for rhythm in ("minute", "daily"):
        results = run_checks(live, NOW, rhythm=rhythm)
        assert {r.key: r.description for r in results if not r.passed} == {}
        assert all(result.evaluated for result in results)


def test_every_check_is_failed_by_a_fault() -> None:
    covered = set().union(*(fault.checks for fault in FAULTS))
    assert {f"{c.asset}.{c.name}" for c in CHECKS} - covered == set()

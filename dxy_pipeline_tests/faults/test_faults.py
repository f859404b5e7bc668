"""Each fault fails exactly its declared checks and opens exactly one incident, which names the root cause."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest

from dxy_pipeline import alerts
from dxy_pipeline.checks import history
from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.checks.engine import run_checks
from dxy_pipeline.checks.watch import SAMPLE, look
from dxy_pipeline_tests.faults.conftest import NOW, alive, derive
from dxy_pipeline_tests.faults.faults import FAULTS, LAST_WEEK, MINUTE, YESTERDAY, Fault, set_fx

Note = Callable[[str, set[str], list[str]], None]


def look_at_all(conn: psycopg.Connection, at: datetime = NOW) -> set[str]:
    """Do what the daily job does; returns what failed."""
    results = run_checks(conn, at, rhythm="daily", sample=history.SAMPLE)
    history.record(conn, results, at)
    return {result.key for result in results if not result.passed}


def watch(conn: psycopg.Connection, minutes: int, start: datetime = NOW) -> list[str]:
    """Look each minute as the sensor does; returns what changed its state, but for the feed: nothing arrives meanwhile."""
    turns = []
    for minute in range(minutes):
        alive(conn, start + minute * MINUTE)
        turns += look(conn, conn, start + minute * MINUTE).changed
    return [f"{turn.cause} {turn.state}" for turn in turns if turn.cause != "feed"]


WHOLE_HISTORY = {"dxy_1m.completeness"}  # cheap enough to be asked of all that is stored each minute


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fires_exactly_what_is_declared(live: psycopg.Connection, fault: Fault, note_fault: Note) -> None:
    fault.inject(live)
    if fault.rhythm == "daily":
        failed = look_at_all(live)
        by_minute = {result.key for result in run_checks(live, NOW) if not result.passed}
        assert by_minute == fault.checks & WHOLE_HISTORY, "the minute sees nothing older than its window"
    else:
        failed = {result.key for result in run_checks(live, NOW, sample=SAMPLE) if not result.passed}
    fired = incidents(live)
    note_fault(fault.name, failed, fired)
    assert failed == fault.checks
    assert fired == ([fault.cause] if fault.cause else [])


def incidents(conn: psycopg.Connection) -> list[str]:
    """Return the causes that fire when the checks go on saying this for twelve minutes."""
    results = run_checks(conn, NOW, sample=SAMPLE)
    older = [finding.news for finding in history.findings(conn, NOW) if finding.news]
    causes = alerts.root_causes(results, older)
    turns = [turn for minute in range(12) for turn in alerts.advance(conn, causes, NOW + timedelta(minutes=minute))]
    assert {turn.state for turn in turns} <= {"firing"}
    return [turn.cause for turn in turns]


class TestMemory:
    """What the daily look found stays until a daily look is clean; what the minute sees is the minute's to judge."""

    def edit(self, conn: psycopg.Connection, at: datetime, change: str) -> None:
        set_fx(conn, "DXY", at, at + MINUTE, change)
        conn.execute("DELETE FROM dxy.touched_range")

    def test_an_old_wrong_value_is_one_incident_until_the_daily_look_is_clean(self, live: psycopg.Connection) -> None:
        self.edit(live, LAST_WEEK, "close + 0.06")
        assert watch(live, 3) == []
        assert "dxy_1m.drift" in look_at_all(live)
        assert watch(live, 10) == ["dxy minutes firing"]
        derive(live, LAST_WEEK - timedelta(hours=1), LAST_WEEK + timedelta(hours=1))
        assert watch(live, 5, NOW + 10 * MINUTE) == [], "nobody has looked again yet"
        assert "dxy_1m.drift" not in look_at_all(live, NOW + 15 * MINUTE)
        assert watch(live, 5, NOW + 15 * MINUTE) == ["dxy minutes resolved"]

    def test_people_see_it_failed_though_the_minute_is_clean(self, live: psycopg.Connection) -> None:
        self.edit(live, LAST_WEEK, "close + 0.06")
        look_at_all(live)
        shown = {result.key: result for result in look(live, live, NOW).results}
        drift = shown["dxy_1m.drift"]
        assert (drift.passed, drift.violations, len(drift.rows)) == (False, 1, 1)
        assert drift.description.startswith("ERROR: older than 48 hours, whole history of 2025-03-12 14:02 UTC: ")
        assert drift.description.endswith("; the last 48 hours are clean")
        assert drift.rows[0]["ts_utc"] == LAST_WEEK
        assert shown["dxy_1m.price_band"].passed

    def test_a_value_mended_within_the_window_is_not_held_against_anybody(self, live: psycopg.Connection) -> None:
        self.edit(live, YESTERDAY, "close + 0.06")
        look_at_all(live)
        assert watch(live, 3) == ["dxy minutes firing"]
        derive(live, YESTERDAY - timedelta(hours=1), YESTERDAY + timedelta(hours=1))
        assert watch(live, 5, NOW + 3 * MINUTE) == ["dxy minutes resolved"]

    def test_a_value_that_leaves_the_window_stays_one_incident(self, live: psycopg.Connection) -> None:
        self.edit(live, YESTERDAY, "close + 0.06")
        look_at_all(live)
        assert watch(live, 3) == ["dxy minutes firing"]
        later = YESTERDAY + timedelta(hours=47, minutes=58)
        assert [turn for turn in watch(live, 6, later) if "dxy minutes" in turn] == []

    def test_suspicion_of_the_past_is_told_once_and_stays_visible(self, live: psycopg.Connection) -> None:
        """Holes and jumps that came with the history may stay for ever: they must not alarm for ever."""
        set_fx(live, "EURUSD", LAST_WEEK, LAST_WEEK + MINUTE, "close * 1.02")
        derive(live, LAST_WEEK - timedelta(hours=1), LAST_WEEK + timedelta(hours=2))
        look_at_all(live)
        assert watch(live, 5) == ["spike:EURUSD firing"]
        look_at_all(live)
        assert watch(live, 5, NOW + 5 * MINUTE) == ["spike:EURUSD resolved"]
        assert not {r.key: r for r in look(live, live, NOW + 10 * MINUTE).results}["fx_1m.outliers"].passed

    def test_a_check_that_could_not_be_evaluated_daily_is_an_incident(self, live: psycopg.Connection) -> None:
        (result,) = run_checks(live, NOW, rhythm="daily", only=["drift"])
        blind = replace(result, passed=False, evaluated=False, severity="ERROR", description="ERROR: time limit")
        history.record(live, [blind], NOW)
        assert watch(live, 4) == ["monitoring firing"]
        history.record(live, [result], NOW)
        assert watch(live, 4, NOW + 4 * MINUTE) == ["monitoring resolved"]

    def test_rows_come_back_as_they_were(self, live: psycopg.Connection) -> None:
        (result,) = run_checks(live, NOW, rhythm="daily", only=["drift"])
        rows = [{"ts_utc": LAST_WEEK, "day": LAST_WEEK.date(), "n": 3, "x": 0.1, "text": "ä", "none": None}]
        history.record(live, [replace(result, passed=False, violations=2, rows=[*rows, {"x": float("inf")}])], NOW)
        (found,) = history.findings(live, NOW)
        assert found.result.rows == [*rows, {"x": float("inf")}]

    def test_the_writer_may_record_and_the_reader_may_look(self, live: psycopg.Connection) -> None:
        self.edit(live, LAST_WEEK, "close + 0.06")
        live.execute("SET ROLE dxy_writer")
        look_at_all(live)
        live.execute("SET ROLE dxy_reader")
        assert {found.result.key for found in history.findings(live, NOW)} >= {"dxy_1m.drift"}


def test_every_check_passes_on_the_clean_database(live: psycopg.Connection) -> None:
    for rhythm in ("minute", "daily"):
        results = run_checks(live, NOW, rhythm=rhythm)
        assert {r.key: r.description for r in results if not r.passed} == {}
        assert all(result.evaluated for result in results)


def test_every_check_is_failed_by_a_fault() -> None:
    covered = set().union(*(fault.checks for fault in FAULTS))
    assert {f"{c.asset}.{c.name}" for c in CHECKS} - covered == set()


def test_there_are_as_many_faults_as_the_guide_says() -> None:
    assert len(FAULTS) > 50
    assert len([fault for fault in FAULTS if fault.rhythm == "daily"]) == 18


def test_what_looks_back_is_failed_by_a_fault_of_last_week() -> None:
    covered = set().union(*(fault.checks for fault in FAULTS if fault.rhythm == "daily"))
    looking_back = {f"{c.asset}.{c.name}" for c in CHECKS if history.looks_back(c)}
    assert looking_back - covered <= {"dxy_1m.migration_count_match"}

"""The health window on an injected clock: consecutive open minutes, watched, without a FAIL."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dxy_pipeline import demo_migration
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import health, ledger
from dxy_pipeline.settings import Settings
from dxy_pipeline_tests.migration.support import Stage, Staged

CUT_OVER = datetime(2024, 6, 14, 20, 0, tzinfo=UTC)  # a Friday, an hour before the market shuts


@pytest.fixture
def desk(stage: Stage) -> Iterator[Staged]:
    with stage.at("P", "cut_over") as db:
        db.conn.execute(
            "UPDATE dxy.migration_control SET cut_over_at = %s, options = '{\"health_minutes\": 120}'", (CUT_OVER,)
        )
        yield db


def look(db: Staged, at: datetime, status: str = "PASS") -> None:
    db.conn.execute(
        "INSERT INTO dxy.migration_health (migration_id, at, name, status, figure) VALUES (1, %s, 'DXY price range', %s, '')",
        (at, status),
    )


def window(db: Staged, at: datetime) -> health.Window:
    return health.window(db.conn, ledger.control(db.conn), at)


def every_five_minutes(db: Staged, start: datetime, minutes: int) -> datetime:
    for n in range(5, minutes + 5, 5):
        look(db, start + timedelta(minutes=n))
    return start + timedelta(minutes=minutes)


def test_green_after_so_many_open_minutes_and_the_weekend_counts_nothing(desk: Staged) -> None:
    end = every_five_minutes(desk, CUT_OVER, 60)
    assert (window(desk, end).reached, window(desk, end).green) == (60, False)
    sunday = datetime(2024, 6, 16, 21, 0, tzinfo=UTC)
    assert window(desk, sunday).reached == 60, "two shut days are no hole in the watching"
    end = every_five_minutes(desk, sunday, 60)
    assert window(desk, end).green


def test_a_failure_begins_it_anew_and_is_named(desk: Staged) -> None:
    every_five_minutes(desk, CUT_OVER, 30)
    look(desk, CUT_OVER + timedelta(minutes=31), "FAIL")
    look(desk, CUT_OVER + timedelta(minutes=41))
    found = window(desk, CUT_OVER + timedelta(minutes=41))
    assert (found.reached, found.green) == (10, False)
    assert "DXY price range failed at 2024-06-14 20:31" in found.missing


def test_a_warning_does_not_but_a_hole_in_the_watching_does(desk: Staged) -> None:
    look(desk, CUT_OVER + timedelta(minutes=10), "WARN")
    assert window(desk, CUT_OVER + timedelta(minutes=10)).reached == 10
    look(desk, CUT_OVER + timedelta(minutes=40))
    found = window(desk, CUT_OVER + timedelta(minutes=40))
    assert found.reached == 0
    assert "nobody looked between 2024-06-14 20:10 and 2024-06-14 20:40" in found.missing
    assert "nobody has looked since" in window(desk, CUT_OVER + timedelta(minutes=58)).missing


def test_retire_refuses_until_it_is_green(stage: Stage, desk: Staged) -> None:
    from dxy_pipeline.core.clock import FixedClock

    every_five_minutes(desk, CUT_OVER, 55)
    early = stage.migration(desk.url, clock=FixedClock(CUT_OVER + timedelta(minutes=55)))
    with pytest.raises(UserError, match="55 of 120 open minutes; 65 more open minutes"):
        early.retire()
    sunday = datetime(2024, 6, 16, 21, 0, tzinfo=UTC)
    every_five_minutes(desk, sunday, 65)
    late = stage.migration(desk.url, clock=FixedClock(sunday + timedelta(minutes=65)))
    assert late.retire()["state"] == "retired"
    details = next(r["details"] for r in late.audit() if r["to_state"] == "retired")
    assert details["health window"] == {"health_minutes": 120, "reached": 125}


def test_the_demo_is_healthy_and_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_migration, "LOOK_EVERY", timedelta(minutes=15))
    told: list[str] = []
    outcome = demo_migration.run(Settings.from_env(), told.append)
    assert outcome.exact
    assert [row for row in outcome.metrics if row["holds"] == "no"] == []
    assert [p["phase"] for p in outcome.phases][-2:] == ["rollback", "forward again"]
    demo_migration.server_for(Settings.from_env()).stop()


def test_the_demo_by_its_command_takes_less_than_a_minute() -> None:
    command = [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", "demo-migration"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        demo_migration.server_for(Settings.from_env()).stop()
    assert done.returncode == 0, done.stderr
    assert "forward again" in done.stdout

"""One runner at a time: two cutovers race, a day is run twice, a zombie comes back with its old token."""

import os
import signal
import threading
import time
from datetime import date
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import backfill, lease, steps
from dxy_pipeline_tests.migration.support import OPTIONS, Stage, fingerprint


def test_two_cutovers_race_and_one_wins(stage: Stage) -> None:
    with stage.at("P", "verified") as db:
        results: list[str] = []
        barrier = threading.Barrier(2)

        def run() -> None:
            migration = stage.migration(db.url)
            barrier.wait()
            try:
                results.append(migration.cutover()["state"])
            except UserError as error:
                results.append(str(error))

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(r == "cut_over" for r in results) == [False, True], results
        loser = next(r for r in results if r != "cut_over")
        assert "is being run by" in loser or "needs the state verified" in loser
        moves = [r for r in db.migration.audit() if r["to_state"] == "cut_over"]
        assert len(moves) == 1


def test_a_second_run_of_one_day_is_a_no_op(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db:
        day = date(2024, 6, 10)
        assert db.migration.backfill(days=[day])["scanned"] == 172
        before = fingerprint(db.conn)
        assert db.migration.backfill(days=[day])["days"] == 0
        assert fingerprint(db.conn) == before


def test_a_day_that_the_migration_has_not_is_told_after_the_others_are_copied(stage: Stage) -> None:
    """Zero days copied would read as done; a partition of an earlier migration holds up no other."""
    with stage.at("P", "dual_write") as db:
        with pytest.raises(UserError, match="no DXY minute to copy on 2001-01-01, 2030-01-01"):
            db.migration.backfill(days=[date(2030, 1, 1), date(2024, 6, 10), date(2001, 1, 1)])
        assert [row["day"] for row in db.migration.units() if row["state"] == "done"] == [date(2024, 6, 10)]


def test_a_held_lease_is_named(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db, psycopg.connect(db.url, autocommit=True) as other:
        with lease.hold(other, db.url), pytest.raises(UserError, match="the migration is being run by"):
            db.migration.backfill()
        assert db.migration.backfill()["scanned"] == 447


def test_a_zombie_with_an_old_token_is_refused_and_writes_nothing(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db, db.migration._running("backfill", "") as zombie:
        db.conn.execute("UPDATE dxy.migration_lease SET expires_at = '-infinity'")  # it was suspended for an hour
        other = stage.migration(db.url)
        assert other.backfill(days=[date(2024, 6, 10)])["inserted"] == 172
        before = fingerprint(db.conn)
        with pytest.raises(UserError, match="another runner has taken the migration over"):
            backfill.run(zombie)
        assert fingerprint(db.conn) == before


def test_pause_stops_within_one_batch_and_resume_goes_on(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db:
        steps.install(lambda step, _: step == "backfill.committed" and stage.migration(db.url).pause() and None)
        result = db.migration.backfill()
        steps.install(None)
        assert result["paused"]
        assert (result["days done"], result["days left"]) == (2, 2)
        assert db.migration.status()["paused"]
        db.migration.pause(paused=False)
        assert db.migration.backfill()["days"] == 2
        assert [r["action"] for r in db.migration.audit() if "pause" in r["action"] or r["action"] == "resume"] == [
            "pause",
            "resume",
        ]


def test_a_living_runner_keeps_its_lease_through_a_long_step(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump, a restore or a verification may take hours: no batch loop renews there."""
    monkeypatch.setattr(lease, "SECONDS", 1.0)
    said: list[str] = []

    def another(step: str, _: Any) -> None:
        if step == "prepare.restored":
            time.sleep(1.5)
            with pytest.raises(UserError, match="the migration is being run by") as caught:
                stage.migration(db.url, lease_patience=0.2).prepare(accept_native=True, options=OPTIONS)
            said.append(str(caught.value))

    with stage.at("P", "legacy") as db:
        steps.install(another)
        assert db.migration.prepare(accept_native=True, options=OPTIONS)["state"] == "prepared"
        assert len(said) == 1


def test_a_long_transaction_does_not_keep_the_timer_from_renewing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 1.0)
    with stage.at("P", "dual_write") as db, db.migration._running("backfill", "") as ctx:
        ctx.write("long", lambda: time.sleep(1.5))
        assert db.conn.execute("SELECT expires_at > clock_timestamp() FROM dxy.migration_lease").fetchone() == (True,)


def test_a_suspended_runner_loses_its_lease(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute (here a second): its backend lives, its timer stands still."""
    assert lease.SECONDS == 60, "what docs/migration.md says"
    monkeypatch.setattr(lease, "SECONDS", 1.0)
    with stage.at("P", "dual_write") as db:
        pid = os.fork()
        if pid == 0:
            try:
                steps.install(
                    lambda step, _: os.kill(os.getpid(), signal.SIGSTOP) if step == "backfill.begun" else None
                )
                db.migration.backfill()
            finally:
                os._exit(7)
        try:
            assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
            before = time.monotonic()
            assert stage.migration(db.url, lease_patience=10.0).backfill()["scanned"] == 447
            assert time.monotonic() - before > 0.5
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize("step", ["prepare.definitions", "prepare.proved"])
def test_a_zombie_changes_no_table_and_no_function(stage: Stage, step: str) -> None:
    columns = (
        "SELECT attrelid::regclass::text, attname FROM pg_attribute"
        " WHERE attrelid::regclass::text LIKE '%data_bars' ORDER BY 1, 2"
    )
    with stage.at("P", "legacy") as db:
        before = db.conn.execute(columns).fetchall()

        def taken_over(reached: str, _: Any) -> None:
            if reached == step:
                db.conn.execute("UPDATE dxy.migration_lease SET fence = fence + 1")

        steps.install(taken_over)
        with pytest.raises(UserError, match="another runner has taken the migration over"):
            db.migration.prepare(accept_native=True, options=OPTIONS)
        assert db.conn.execute(columns).fetchall() == before
        assert db.conn.execute("SELECT to_regclass('dxy.legacy_image')").fetchone() == (None,)

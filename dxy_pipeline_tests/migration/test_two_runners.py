"""One runner at a time: two cutovers race, a day is run twice, a zombie comes back with its old token."""

import threading
from datetime import date

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import backfill, lease
from dxy_pipeline_tests.migration.support import Stage, fingerprint


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


def test_a_held_lease_is_named(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db, psycopg.connect(db.url, autocommit=True) as other:
        with lease.hold(other), pytest.raises(UserError, match="the migration is being run by"):
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
    from dxy_pipeline.migration import steps

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

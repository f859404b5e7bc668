"""--dry-run says what the command would say; the checklist judges by the facts; progress and signatures are kept."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import judges, steps
from dxy_pipeline_tests.migration.support import NOW, Stage, Staged, enter


def in_the_way(db: Staged, action: str, **flags: Any) -> str:
    return " | ".join(db.migration.preview(action, **flags)["in the way"])


# state, action, flags, words that the preview must say; the command itself must say them, too
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("prepared", "dual-write", {}, "would count each DXY minute twice"),
    ("dual_write", "verify", {}, "4 days are pending, the first is 2024-06-09"),
    ("legacy", "rollback", {}, "nothing to roll back in state legacy"),
    ("legacy", "prepare", {}, "20 DXY minutes that legacy does not have"),
    ("prepared", "backfill", {}, "backfill needs the state dual_write"),
    ("prepared", "resume", {}, "backfill needs the state dual_write"),
    ("prepared", "sign", {"item": "Count verification passes", "operator": "amit"}, "judged by machine"),
    ("prepared", "sign", {"item": "Code review completed", "operator": " "}, "needs a name"),
]


@pytest.mark.parametrize(("state", "action", "flags", "words"), REFUSED)
def test_what_is_in_the_way_is_said(stage: Stage, state: str, action: str, flags: dict[str, Any], words: str) -> None:
    with stage.at("P", state) as db:
        assert words in in_the_way(db, action, **flags)


GO_ON: list[tuple[str, str, dict[str, Any]]] = [
    ("prepared", "dual-write", {"readers_moved": True}),
    ("verified", "dual-write", {"readers_moved": True}),
    ("backfilled", "verify", {}),
    ("dual_write", "backfill", {}),
    ("legacy", "prepare", {"accept_native": True}),
    ("prepared", "rollback", {}),
    ("cut_over", "watch", {}),
    ("prepared", "pause", {}),
    ("prepared", "sign", {"item": "Code review completed", "operator": "amit"}),
]


@pytest.mark.parametrize(("state", "action", "flags"), GO_ON)
def test_nothing_is_in_the_way_of_what_would_go_on(
    stage: Stage, state: str, action: str, flags: dict[str, Any]
) -> None:
    ledger = "SELECT (SELECT count(*) FROM dxy.migration_audit), (SELECT count(*) FROM dxy.migration_health)"
    with stage.at("P", state) as db:
        before = db.conn.execute(ledger).fetchone()
        found = db.migration.preview(action, **flags)
        assert found["in the way"] == []
        assert ("would enter" in found) is (action == "watch")
        assert db.conn.execute(ledger).fetchone() == before


def test_a_paused_backfill_is_in_the_way_of_a_backfill_and_not_of_resume(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db:
        db.migration.pause()
        assert "paused" in in_the_way(db, "backfill")
        assert in_the_way(db, "resume") == ""


def test_a_prepare_that_was_cut_off_can_be_rolled_back_and_the_preview_says_so(stage: Stage) -> None:
    def stop(step: str, _: Any) -> None:
        if step == "prepare.widened":
            raise KeyboardInterrupt

    with stage.at("P", "legacy") as db:
        steps.install(stop)
        with pytest.raises(KeyboardInterrupt):
            enter(db.migration, "prepared")
        steps.install(None)
        assert (in_the_way(db, "rollback"), db.migration.preview("rollback")["to"]) == ("", "legacy")
        assert db.migration.rollback()["state"] == "legacy"


def item(db: Staged, part: str, name: str) -> dict[str, Any]:
    (found,) = (row for row in db.migration.checklist() if (row["part"], row["item"]) == (part, name))
    return found


def test_the_verify_queries_of_the_plan_stand_under_their_names(stage: Stage) -> None:
    wanted = {
        "data_bars 1m count": ("yes", "467 rows"),
        "data_bars 1m date range": ("yes", "20 days"),
        "synthetic source count": ("yes", "467 of 467 bars"),
        "derived_data_bars active DXY 1m": ("no", "447 bars"),
    }
    with stage.at("P", "cut_over") as db:
        for name, verdict in wanted.items():
            row = item(db, "Verify 3.2", name)
            assert (row["holds"], row["figure"]) == verdict
        assert "index points" in item(db, "Verify 3.2", "DXY price range (min)")["figure"]
        db.conn.execute(
            "UPDATE public.data_bars SET close = 121 WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-10'"
        )
        assert item(db, "Verify 3.2", "DXY price range (max)")["holds"] == "no"
        row = item(db, "Detailed Status", "DXY 1m bars in derived (deleted)")
        assert (row["holds"], row["figure"][:3]) == ("yes", "20,")


def test_pairs_are_fresh_by_open_minutes_of_each(stage: Stage) -> None:
    """One old pair is enough to say no, and a shut market makes nothing old."""
    name = ("Success metrics", "All component pairs fresh")
    with stage.at("P", "cut_over") as db:  # the newest pair's minute is 02:59 of a Wednesday
        assert item(db, *name)["holds"] == "yes"
        db.conn.execute(
            "DELETE FROM public.data_bars WHERE canonical_symbol = 'USDCAD' AND ts_utc > %s",
            (NOW - timedelta(minutes=10),),
        )
        row = item(db, *name)
        assert row["holds"] == "no"
        assert "USDCAD 9" in row["figure"]
        friday = datetime(2024, 6, 14, 20, 59, tzinfo=UTC)
        db.conn.execute(
            "UPDATE public.data_bars SET ts_utc = %s WHERE canonical_symbol <> 'DXY' AND ts_utc = '2024-06-12 02:10+00'",
            (friday,),
        )
        db.migration = stage.migration(db.url, clock=FixedClock(datetime(2024, 6, 16, 12, 0, tzinfo=UTC)))
        assert item(db, *name)["holds"] == "yes"


def test_connectivity_is_judged_by_sessions_that_were_lost(stage: Stage) -> None:
    name = ("Phase 1", "Database connectivity stable")
    with stage.at("P", "prepared") as db:
        assert "sessions lost; up since" in item(db, *name)["figure"]
    lossy: Any = SimpleNamespace(sessions={"lost": 3, "sessions": 100, "up_since": NOW})
    assert judges.connected(lossy) == (False, "3 of 100 sessions lost; up since 2024-06-12 03:00 UTC")


def test_each_signature_is_kept_and_audited(stage: Stage) -> None:
    with stage.at("P", "prepared") as db:
        db.migration.sign("Code review completed", operator="amit", note="PR 7", reason="review")
        db.migration.sign("Code review completed", operator="birgit", note="PR 8")
        row = item(db, "Phase 4", "Code review completed")
        assert (row["judged by"], row["figure"]) == ("birgit", "PR 8")
        signed = [(r["details"]["operator"], r["reason"]) for r in db.migration.audit() if r["action"] == "sign"]
        assert signed == [("amit", "review"), ("birgit", "")]
        kept = db.conn.execute("SELECT operator FROM dxy.migration_signoff ORDER BY id").fetchall()
        assert kept == [("amit",), ("birgit",)]


@pytest.mark.parametrize(
    ("state", "command", "step", "what"),
    [
        ("dual_write", "backfill", "backfill.committed", "days"),
        ("cut_over", "retire", "retire.committed", "days retired"),
        ("retired", "rollback", "rollback.unretired", "days un-deleted"),
        ("cut_over", "rollback", "rollback.undone", "days undone"),
    ],
)
def test_status_says_how_far_a_phase_has_come(stage: Stage, state: str, command: str, step: str, what: str) -> None:
    seen: list[dict[str, Any]] = []
    with stage.at("P", state) as db:
        looker = stage.migration(db.url)
        steps.install(lambda name, _: seen.append(looker.status()) if name == step else None)
        getattr(db.migration, command)()
        steps.install(None)
        progress = seen[0]["progress"]
        assert progress["what"] == what
        assert 0 < progress["done"] <= progress["total"]
        assert seen[0]["eta"] == progress["to go"]
        assert "progress" not in db.migration.status()


def test_a_look_with_a_reason_is_audited(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:
        db.migration.watch()
        db.migration.watch(reason="after the restart")
        looks = [r["reason"] for r in db.migration.audit() if r["action"] == "watch"]
        assert looks == ["after the restart"]


def test_a_health_window_has_no_negative_length(stage: Stage) -> None:
    with stage.at("P", "legacy") as db, pytest.raises(UserError, match="fewer than 0 minutes"):
        db.migration.prepare(accept_native=True, options={"health_minutes": -1})

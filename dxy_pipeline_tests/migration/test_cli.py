"""`dxy migrate …` as an operator types it: the runbook of docs/migration.md, from plan to rollback and forward again."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dxy_pipeline.cli import main, migrate
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline_tests.migration.support import NOW, Stage

RUNBOOK = Path(__file__).parents[2] / "docs" / "migration.md"
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def dxy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program in this process: exit code, stdout (parsed when --json), stderr."""

    def run(*args: str) -> tuple[int, Any, str]:
        monkeypatch.setattr("sys.argv", ["dxy", *args])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in args and out.strip() else out, err

    return run


@pytest.fixture
def desk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A production-like database that DATABASE_URL points at, with the clock and the scratch server of the tests."""
    real = migrate.Migration
    clock = [NOW]
    with stage.at("P", "legacy") as db:
        monkeypatch.setenv("DATABASE_URL", db.url)
        monkeypatch.setattr(
            migrate,
            "Migration",
            lambda url, **kw: real(url, clock=FixedClock(clock[0]), files=stage.files, scratch_url=stage.scratch, **kw),
        )
        db.clock = clock  # type: ignore[attr-defined]
        yield db


def test_from_plan_to_retirement_back_and_forward(desk: Any, dxy: Run) -> None:
    code, plan, _ = dxy("migrate", "plan", "--json")
    assert (code, plan["shape"], plan["rows"]["legacy"], plan["needs"]) == (0, "P", 447, ["--accept-native"])
    code, shadow, _ = dxy("migrate", "shadow", "--from", "2024-06-10", "--to", "2024-06-13", "--json")
    assert (code, shadow["verdicts"]["equal"]) == (0, 437)

    code, _, err = dxy("migrate", "prepare")
    assert (code, "--accept-native" in err) == (2, True)
    code, dry, _ = dxy("migrate", "prepare", "--accept-native", "--dry-run", "--json")
    assert (code, dry["from"], dry["to"], dry["in the way"]) == (0, "legacy", "prepared", [])
    forward = [
        ("prepare", "--accept-native", "--health-minutes", "30", "--reason", "the plan"),
        ("dual-write", "--readers-moved"),
        ("backfill",),
        ("verify",),
        ("cutover",),
    ]
    for name, *flags in forward:
        code, dry, _ = dxy("migrate", name, "--dry-run", *(f for f in flags if f == "--readers-moved"), "--json")
        assert (code, dry["dry run"], dry["in the way"] == [] or name == "prepare") == (0, True, True)
        code, result, err = dxy("migrate", name, *flags, "--json")
        assert code == 0, (name, result, err)
    code, status, _ = dxy("migrate", "status", "--json")
    assert (status["state"], status["readers use"], status["days"]["done"]) == ("cut_over", "data_bars", 4)

    code, _, err = dxy("migrate", "retire")
    assert code == 2
    assert "0 of 30 open minutes" in err
    desk.conn.execute("SELECT public.calc_dxy_range_1m('2024-06-12 00:00+00', '2024-06-12 03:00+00')")
    for _ in range(7):
        code, looked, _ = dxy("migrate", "watch", "--json")
        assert {row["name"]: row["status"] for row in looked}["DXY price range"] == "PASS"
        desk.clock[0] += timedelta(minutes=5)
    assert code == 1, "no new bar for over five minutes: FAIL is said by the exit code"
    code, _, err = dxy("migrate", "retire")
    assert (code, "DXY 1m in last 5m failed" in err) == (2, True)

    code, back, _ = dxy("migrate", "rollback", "--reason", "the bars stopped", "--json")
    assert (code, back["state"]) == (0, "rolled_back")
    assert "sequence positions" in back["not restored"]
    for name, *flags in [("prepare", "--accept-native", "--health-minutes", "0"), *forward[1:], ("retire",)]:
        code, result, err = dxy("migrate", name, *flags, "--json")
        assert code == 0, (name, result, err)
    code, audit, _ = dxy("migrate", "audit", "--json")
    moves = [row["to_state"] for row in audit if row["from_state"] != row["to_state"]]
    assert moves[-5:] == ["prepared", "dual_write", "verified", "cut_over", "retired"]
    assert {row["reason"] for row in audit} >= {"the plan", "the bars stopped"}
    assert audit[0]["details"]["health_minutes"] == 30


def test_the_checklist_is_judged_or_signed(desk: Any, dxy: Run) -> None:
    dxy("migrate", "prepare", "--accept-native", "--json")
    code, items, _ = dxy("migrate", "checklist", "--json")
    by_name = {(row["part"], row["item"]): row for row in items}
    assert code == 0
    assert {row["part"] for row in items} >= {f"Phase {n}" for n in range(1, 7)}
    assert by_name["Phase 1", "Backup file created and verified"]["holds"] == "yes"
    assert by_name["Phase 3", "Old rows soft-deleted in derived_data_bars"]["holds"] == "no"
    assert by_name["Phase 4", "Code review completed"]["holds"] == "open"
    code, _, err = dxy("migrate", "sign", "Code review completed", "--operator", " ")
    assert (code, "needs a name" in err) == (2, True)
    code, _, err = dxy("migrate", "sign", "Backup file created and verified", "--operator", "amit")
    assert (code, "judged by machine" in err) == (2, True)
    assert dxy("migrate", "sign", "Code review completed", "--operator", "amit", "--note", "PR 7")[0] == 0
    signed = [row for row in dxy("migrate", "checklist", "--json")[1] if row["item"] == "Code review completed"]
    assert (signed[0]["holds"], signed[0]["judged by"], signed[0]["figure"]) == ("yes", "amit", "PR 7")


def test_the_conflict_report_as_csv(desk: Any, dxy: Run, tmp_path: Path) -> None:
    desk.conn.execute(
        "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
        " VALUES ('DXY', '1m', '2024-06-10 01:00+00', 99, 99, 99, 99, 0, 'synthetic')"
    )
    dxy("migrate", "prepare", "--accept-native", "--json")
    dxy("migrate", "dual-write", "--readers-moved", "--json")
    code, _, err = dxy("migrate", "backfill")
    assert (code, "1 minutes are in both tables with different prices" in err) == (2, True)
    assert dxy("migrate", "conflicts", "--csv", str(tmp_path / "c.csv"))[0] == 0
    (row,) = csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text()))
    assert (row["target_price"], row["decision"]) == ("99", "open")
    assert row["legacy_price"] == row["recomputed_price"]
    assert dxy("migrate", "backfill", "--on-conflict", "legacy-wins", "--again")[0] == 0
    assert dxy("migrate", "verify")[0] == 0


def test_pause_and_resume(desk: Any, dxy: Run) -> None:
    dxy("migrate", "prepare", "--accept-native", "--json")
    dxy("migrate", "dual-write", "--readers-moved", "--json")
    dxy("migrate", "pause", "--reason", "lunch")
    code, result, _ = dxy("migrate", "backfill", "--json")
    assert (code, result["paused"], result["days left"]) == (0, True, 4)
    code, result, err = dxy("migrate", "resume", "--json")
    assert (code, result["days"]) == (0, 4)
    assert "4 of 4 days, 100 %" in err


def test_a_rehearsal_leaves_the_desk_alone(desk: Any, dxy: Run) -> None:
    before = desk.conn.execute("SELECT count(*), max(xmin::text::bigint) FROM public.derived_data_bars").fetchone()
    code, timings, _ = dxy("migrate", "rehearse", "--json")
    assert code == 0
    assert [row["phase"] for row in timings][:3] == ["dump", "restore", "db upgrade"]
    assert {"backfill (forward)", "rollback", "retire (again)"} <= {row["phase"] for row in timings}
    assert (
        desk.conn.execute("SELECT count(*), max(xmin::text::bigint) FROM public.derived_data_bars").fetchone() == before
    )
    assert desk.migration.status()["state"] == "legacy"


def test_every_command_of_the_runbook_exists_with_its_options(dxy: Run) -> None:
    commands = set(re.findall(r"`dxy migrate ([a-z-]+)((?: --?[a-z-]+)*)", RUNBOOK.read_text()))
    assert {name for name, _ in commands} >= {
        "plan", "shadow", "rehearse", "prepare", "dual-write", "backfill", "verify", "cutover", "retire", "rollback",
        "pause", "resume", "status", "checklist", "audit",
    }  # fmt: skip
    for name, options in commands:
        code, text, _ = dxy("migrate", name, "--help")
        assert code == 0, name
        for option in options.split():
            assert option in text, f"dxy migrate {name} has no {option}"


def test_bad_days_and_policies_are_refused_in_one_line(desk: Any, dxy: Run) -> None:
    for args, words in (
        (("shadow", "--from", "yesterday", "--to", "2024-06-12"), "not a day"),
        (("shadow", "--from", "2024-06-10", "--to", f"{datetime.now(UTC).year + 2}-01-01"), "in the future"),
        (("shadow", "--from", "2024-06-13", "--to", "2024-06-10"), "is not before"),
        (("backfill", "--day", "2024-06-10T08:00"), "is not a day"),
        (("backfill", "--on-conflict", "coin-toss"), "unknown conflict policy"),
        (("rollback",), "rollback needs the state"),
    ):
        code, _, err = dxy("migrate", *args)
        assert (code, err.count("error: "), words in err) == (2, 1, True), err


def test_a_watch_goes_on_over_trouble_and_says_so(desk: Any, dxy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that restarts ends no watch that was told to go on."""
    looks = 0

    def restarting(self: Any, **_: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise UserError("the server is starting up")
        return [{"name": "DXY price range", "status": "FAIL", "figure": ""}]

    def pause(seconds: float) -> None:
        assert seconds == 300
        if looks == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Migration, "watch", restarting)
    monkeypatch.setattr(migrate.time, "sleep", pause)
    code, _, err = dxy("migrate", "watch", "--every", "300")
    assert (looks, code) == (3, 130)
    assert "could not look: the server is starting up; again in 300 s" in err
    looks = 0
    code, _, err = dxy("migrate", "watch")
    assert (code, "the server is starting up" in err) == (2, True)


def test_watch_and_sign_have_a_dry_run_and_a_reason(desk: Any, dxy: Run) -> None:
    dxy("migrate", "prepare", "--accept-native", "--json")
    sign = ("migrate", "sign", "Code review completed", "--operator", "amit")
    code, dry, _ = dxy(*sign, "--dry-run", "--json")
    assert (code, dry["in the way"]) == (0, [])
    code, dry, _ = dxy("migrate", "watch", "--dry-run", "--json")
    assert {row["name"] for row in dry["would enter"]} >= {"DXY price range"}
    assert desk.conn.execute("SELECT count(*) FROM dxy.migration_health").fetchone() == (0,)
    assert desk.conn.execute("SELECT count(*) FROM dxy.migration_signoff").fetchone() == (0,)
    assert dxy(*sign, "--reason", "four eyes")[0] == 0
    dxy("migrate", "watch", "--reason", "first look")
    assert {row["reason"] for row in dxy("migrate", "audit", "--json")[1]} >= {"four eyes", "first look"}


def test_the_purge_of_the_runbook(desk: Any, dxy: Run) -> None:
    """It takes the rows that the retirement tagged, and no other; nothing of data_bars."""
    dxy("migrate", "prepare", "--accept-native", "--health-minutes", "0", "--json")
    for command in (("dual-write", "--readers-moved"), ("backfill",), ("verify",), ("cutover",), ("retire",)):
        assert dxy("migrate", *command, "--json")[0] == 0
    counts = (
        "SELECT (SELECT count(*) FROM public.data_bars), count(*), count(dxy_retired_by) FROM public.derived_data_bars"
    )
    bars, before, tagged = desk.conn.execute(counts).fetchone()
    assert tagged == 447
    (statement,) = re.findall(r"`(DELETE FROM [^`]*)`", RUNBOOK.read_text())
    desk.conn.execute(statement)
    assert desk.conn.execute(counts).fetchone() == (bars, before - 447, 0)

"""The checks, `dxy status` and the monitoring on a desk's database in each state of the migration: no false alarm.

Before the dual write DXY minutes are the desk's, before the cutover its roll-ups; on the seed's shape columns are missing
that only `prepare` adds.
"""

import json

import psycopg
import pytest
from typer.testing import CliRunner

from dxy_pipeline.checks.config import CHECKS, Subject
from dxy_pipeline.checks.engine import CheckResult, run_checks
from dxy_pipeline.checks.watch import look
from dxy_pipeline.cli import app
from dxy_pipeline_tests.migration.support import NOW, PATH, Stage

# What is true of the shapes whoever looks: FX stops each day at three o'clock, the desk's natives have no inputs.
DATA = {"fx_1m.gaps", "fx_1m.freshness", "fx_1m.staleness", "fx_1m.components_present"}
OF_MINUTES = {f"{c.asset}.{c.name}" for c in CHECKS if c.subject is Subject.MINUTES}
OF_ROLLUPS = {f"{c.asset}.{c.name}" for c in CHECKS if c.subject is Subject.ROLLUPS}


def failed(results: list[CheckResult]) -> dict[str, str]:
    return {r.key: r.description for r in results if not r.passed}


@pytest.mark.parametrize("rhythm", ["minute", "daily"])
@pytest.mark.parametrize("state", ["legacy", "prepared", "rolled_back"])
@pytest.mark.parametrize("shape", ["S", "P"])
def test_what_is_the_desks_is_not_judged(any_stage: Stage, shape: str, state: str, rhythm: str) -> None:
    with any_stage.at(shape, "dual_write" if state == "rolled_back" else state) as staged:
        if state == "rolled_back":
            staged.migration.rollback()
        results = run_checks(staged.conn, NOW, rhythm=rhythm)
        assert all(r.evaluated for r in results), failed(results)
        assert failed(results).keys() <= DATA, failed(results)
        said = {r.key: r.description for r in results}
        for key in (OF_MINUTES | OF_ROLLUPS) - {"dxy_1m.orphans_in_derived", "dxy_1m.migration_count_match"}:
            assert f"the migration is in state {state}" in said[key] or "market is shut" in said[key], said[key]


@pytest.mark.parametrize("state", PATH)
@pytest.mark.parametrize("shape", ["S", "P"])
def test_no_state_raises_a_false_alarm(stage: Stage, shape: str, state: str) -> None:
    with stage.at(shape, state) as staged:
        # the shapes' rows were created by the machine's clock, the state was entered by the tests'
        staged.conn.execute("UPDATE dxy.migration_control SET changed_at = now()")
        results = run_checks(staged.conn, NOW)  # the schema contract among them
        assert all(r.evaluated for r in results), failed(results)
        ours = set() if state not in {"cut_over", "retired"} else {
            # the desk never derived them, its FX feed stops after three hours and its aggregator made these bars
            "dxy_1m.count_match", "dxy_1m.gaps", "dxy_5m.reconciliation", "dxy_1h.reconciliation", "dxy_5m.freshness",
            "dxy_1h.freshness", "dxy_1m.freshness", "dxy_1m.recent_bars", "dxy_1m.late_data",
        }  # fmt: skip
        live = (
            {"dxy_1m.freshness", "dxy_1m.recent_bars"} if state in {"dual_write", "backfilled", "verified"} else set()
        )
        assert failed(results).keys() <= DATA | ours | live, failed(results)


@pytest.mark.parametrize("state", ["legacy", "prepared"])
@pytest.mark.parametrize("shape", ["S", "P"])
def test_status_and_monitoring_after_the_upgrade(stage: Stage, monkeypatch, shape: str, state: str) -> None:
    with stage.at(shape, state) as staged:
        monkeypatch.setenv("DATABASE_URL", staged.url)
        done = CliRunner().invoke(app, ["status", "--json"])
        report = json.loads(done.output)
        assert {a["asset"]: a["bars"] > 0 for a in report["assets"]} == {
            "fx_1m": True, "dxy_1m": True, "dxy_5m": True, "dxy_1h": False,
        }  # fmt: skip
        wrong = {f"{c['asset_key']}.{c['name']}" for c in report["checks"] if not c["passed"]}
        assert wrong <= DATA, wrong
        found = look(staged.conn, staged.conn, NOW)
        assert not found.problem
        assert failed(found.results).keys() <= DATA


def test_a_native_minute_of_the_dual_write_is_judged(stage: Stage) -> None:
    with stage.at("P", "dual_write") as staged:
        staged.conn.execute(
            "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
            " VALUES ('DXY', '1m', %s, 130, 130, 130, 130, 'synthetic')",
            (NOW,),
        )
        at = NOW.replace(minute=10)
        (band,) = [r for r in run_checks(staged.conn, at, only=["price_band"]) if r.asset_key == "dxy_1m"]
        assert [row["ts_utc"] for row in band.rows] == [NOW]


class TestRetired:
    """Retired legacy bars are still compared; what was derived again since may differ."""

    def test_a_migrated_bar_changed_by_hand_is_found(self, stage: Stage) -> None:
        with stage.at("P", "retired") as staged:
            assert found(staged.conn) == []
            row = staged.conn.execute(
                "UPDATE public.data_bars SET high = high + 0.5 WHERE canonical_symbol = 'DXY' AND raw ? 'migrated_from'"
                " AND ts_utc = '2024-06-11 01:00Z' RETURNING ts_utc"
            ).fetchone()
            assert row
            assert found(staged.conn) == [row[0]]

    def test_a_correction_since_is_no_difference(self, stage: Stage) -> None:
        with stage.at("P", "retired") as staged:
            staged.conn.execute(
                "UPDATE public.data_bars SET close = close * 1.001 WHERE canonical_symbol = 'EURUSD'"
                " AND ts_utc = '2024-06-11 01:00Z'"
            )
            done = staged.conn.execute("SELECT calc_dxy_range_1m('2024-06-11 01:00Z', '2024-06-11 01:01Z')").fetchone()
            assert done
            assert done[0]["updated"] == 1, done
            assert found(staged.conn) == []


def found(conn: psycopg.Connection) -> list:
    (result,) = run_checks(conn, NOW, only=["migration_count_match"])
    assert result.evaluated, result.description
    return [row["ts_utc"] for row in result.rows]

"""What a newcomer does in the Dagster UI: look, make a day, fill a range, see a check fail and pass again.

The tests run in this order on one set of services; each stands on its own days, so that any may run alone.
"""

from datetime import UTC, date, datetime, timedelta

import pytest

from dxy_pipeline.core.fx_week import open_minutes
from dxy_pipeline.partitions import DAY, day_of, day_start, days, key_of
from dxy_pipeline_tests.ui.dagster_ui import Browser, Up, wait_for

pytestmark = [pytest.mark.ui, pytest.mark.services, pytest.mark.timeout(600)]

ASSETS = ("fx_1m", "dxy_1m", "dxy_5m", "dxy_1h")


def whole_day(weekday: int, weeks_ago: int) -> date:
    """Return a day on which the market was open throughout, at least so many weeks ago (the dialog shows 90 days)."""
    day = day_of(datetime.now(UTC)) - timedelta(weeks=weeks_ago)
    while day.weekday() != weekday or open_minutes(day_start(day), day_start(day) + DAY) < 1440:
        day -= DAY
    return day


ONE_DAY = whole_day(2, 5)
FIRST = whole_day(0, 2)
LAST = FIRST + timedelta(days=4)


def test_asset_graph_shows_the_four_assets_filling_by_themselves(up: Up, browser: Browser) -> None:
    """The minute schedule has made today's bars before anybody pressed anything, and the checks have a state."""
    today = key_of(day_of(datetime.now(UTC)))
    wait_for("the first minute's run", lambda: today in up.materialized("dxy_1h"), limit=180)
    browser.go("/locations/dxy_pipeline/asset-groups/dxy/lineage")
    for asset in ASSETS:
        browser.see(asset)
    browser.shoot("asset_graph")
    browser.go("/assets/dxy_1m?view=checks")
    browser.see("price_band")
    browser.shoot("checks")


def test_materialize_one_partition(up: Up, browser: Browser) -> None:
    """FX and then DXY 1m of one day by hand: its partition shows figures as numbers and a picture of the day."""
    for asset in ("fx_1m", "dxy_1m"):
        known = {run["runId"] for run in up.runs()}
        browser.go(f"/assets/{asset}?view=partitions")
        browser.press("Materialize…")
        browser.choose_partitions(key_of(ONE_DAY))
        browser.press("Launch 1 run")
        run = up.finished_run(known)
        assert {"key": "dagster/partition", "value": key_of(ONE_DAY)} in run["tags"]
        assert planned_rows(up, run["runId"]) == 0
    browser.go(f"/assets/dxy_1m?view=partitions&partition={key_of(ONE_DAY)}")
    browser.see("shape of the day")
    browser.page.locator("img[src^='data:image/svg+xml']").first.wait_for(state="visible", timeout=30_000)
    browser.shoot("partition")
    shown = browser.page.get_by_text("dagster/row_count").locator("xpath=ancestor::tr").inner_text().split()
    assert int(shown[-1]) == stored(up, ONE_DAY, ONE_DAY) > 1200


def test_backfill_a_range_and_see_it_finish(up: Up, browser: Browser) -> None:
    """Five days of all four assets as one backfill in one run; no check row is left in progress."""
    browser.go("/locations/dxy_pipeline/asset-groups/dxy/lineage")
    browser.press("Materialize all…")
    browser.choose_partitions(f"[{key_of(FIRST)}...{key_of(LAST)}]")
    browser.shoot("backfill_dialog")
    browser.press("Launch backfill")
    wanted = {key_of(day) for day in days(day_start(FIRST), day_start(LAST) + DAY)}
    wait_for("the backfill's partitions", lambda: wanted <= up.materialized("dxy_1h"), limit=240)
    backfill = wait_for(
        "the backfill ends",
        lambda: next(
            (b for b in backfills(up) if b["status"] == "COMPLETED_SUCCESS" and b["numPartitions"] == len(wanted)), None
        ),
        limit=240,
    )
    browser.go(f"/runs/b/{backfill['id']}?tab=runs")
    browser.see("Success", exact=False)
    browser.shoot("backfill")
    assert stored(up, FIRST, FIRST) > 1200
    runs = [r for r in up.runs() if {"key": "dagster/backfill", "value": backfill["id"]} in r["tags"]]
    assert len(runs) == 1, "a range is one run"
    assert planned_rows(up, runs[0]["runId"]) == 0


def test_a_check_fails_on_a_bad_row_and_passes_once_it_is_mended(up: Up, browser: Browser) -> None:
    """A DXY bar of 300 is planted behind everybody's back: the check shows it; making the day again removes it."""
    planted = (datetime.now(UTC) - timedelta(hours=30)).replace(second=0, microsecond=0)
    with up.database("dxy") as conn, conn.transaction():
        conn.execute(
            "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
            " VALUES ('DXY', '1m', %s, 300, 300, 300, 300, 0, 'synthetic')"
            " ON CONFLICT (canonical_symbol, timeframe, ts_utc)"
            " DO UPDATE SET open = 300, high = 300, low = 300, close = 300",
            (planted,),
        )
        conn.execute("DELETE FROM dxy.touched_range")  # or the sensor for late data would mend it before we look
    failed = execute_check(up, browser, "price_band")
    assert not failed["success"]
    assert failed["description"].startswith("ERROR: ")
    assert "300" in failed["description"]
    browser.see("violating rows")
    browser.shoot("check_failed")

    known = {run["runId"] for run in up.runs()}
    browser.go("/assets/dxy_1m?view=partitions")
    browser.press("Materialize…")
    browser.choose_partitions(key_of(day_of(planted)))
    browser.press("Launch 1 run")
    up.finished_run(known)
    mended = execute_check(up, browser, "price_band")
    assert mended["success"], mended
    browser.see("Passed")
    browser.shoot("check_passed")


def execute_check(up: Up, browser: Browser, check: str) -> dict:
    """Press Execute on a check of dxy_1m, wait for its run, return what it found."""
    known = {run["runId"] for run in up.runs()}
    browser.go(f"/assets/dxy_1m?view=checks&checkDetail={check}")
    browser.press("Execute")
    run = up.finished_run(known)
    assert planned_rows(up, run["runId"]) == 0
    browser.go(f"/assets/dxy_1m?view=checks&checkDetail={check}")
    return up.evaluation_of(run["runId"], "dxy_1m", check)


def backfills(up: Up) -> list[dict]:
    found = up.ask(
        "{partitionBackfillsOrError(limit: 10){... on PartitionBackfills{results{id status numPartitions}}}}"
    )
    return found["partitionBackfillsOrError"]["results"]


def planned_rows(up: Up, run_id: str) -> int:
    """Count the check rows of a run that still read "in progress"."""
    with up.database("dagster") as conn:
        row = conn.execute(
            "SELECT count(*) FROM asset_check_executions WHERE execution_status = 'PLANNED' AND run_id = %s", (run_id,)
        ).fetchone()
    assert row is not None
    return row[0]


def stored(up: Up, first: date, last: date) -> int:
    """Count the DXY minutes of the days `first` to `last`."""
    with up.database("dxy") as conn:
        row = conn.execute(
            "SELECT count(*) FROM public.data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
            " AND ts_utc >= %s AND ts_utc < %s",
            (day_start(first), day_start(last) + DAY),
        ).fetchone()
    assert row is not None
    return row[0]

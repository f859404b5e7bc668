"""The assets run through Dagster on a real database: ranges, days, live minutes, failures, late data, monitoring."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from sqlalchemy import select

from dxy_pipeline import bar_store, client, live_state
from dxy_pipeline.assets.fx_bars import catch_up
from dxy_pipeline.assets.outcome import AUTOMATIC_TAG
from dxy_pipeline.automation.late_data import late_data_sensor
from dxy_pipeline.automation.live import RANGE_END, RANGE_START
from dxy_pipeline.automation.monitoring import (
    alert_delivery_sensor,
    due,
    history_checks_schedule,
    monitoring_sensor,
)
from dxy_pipeline.automation.retention import delete_evaluations, delete_runs, newest_runs
from dxy_pipeline.checks.config import Severity
from dxy_pipeline.checks.engine import run_checks
from dxy_pipeline.checks.planned_rows import release_for_ended_runs
from dxy_pipeline.core.bars import Bar
from dxy_pipeline.definitions import build_defs
from dxy_pipeline.partitions import DAY, day_of, day_start, days, key_of
from dxy_pipeline.resources import MarketDatabase
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline_tests.bars import put_six, remove
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.pipeline import Pipeline, counted, failure_of, materializations, said
from dxy_pipeline_tests.receiver import receiving

pytestmark = pytest.mark.timeout(300)

HOUR = timedelta(hours=1)
MONDAY, TUESDAY = date(2024, 6, 10), date(2024, 6, 11)


def test_a_range_is_one_run_with_figures_for_each_day(pipeline: Pipeline, conn: psycopg.Connection) -> None:
    result = pipeline.run("materialize_range", MONDAY, TUESDAY)
    assert result.success
    minutes = counted(conn, "data_bars", "1m")
    fives, hours = counted(conn, "derived_data_bars", "5m"), counted(conn, "derived_data_bars", "1h")
    for asset, rows in (("dxy_1m", minutes), ("dxy_5m", fives), ("dxy_1h", hours)):
        events = materializations(result, asset)
        assert set(events) == {key_of(MONDAY), key_of(TUESDAY)}
        for day in (MONDAY, TUESDAY):
            metadata = events[key_of(day)].metadata
            assert metadata["dagster/row_count"] == dg.MetadataValue.int(rows[day])
            assert rows[day] <= metadata["expected bars"].value
            assert metadata["day"].value == key_of(day)
            assert "shape of the day" not in metadata, "pictures would swell the event log"
    assert said(result, "fx_1m")["symbols"] == 6
    assert minutes[MONDAY] > 1300


def test_a_second_run_writes_nothing(pipeline: Pipeline, conn: psycopg.Connection) -> None:
    pipeline.run("materialize_range", MONDAY, TUESDAY)
    stamp = "SELECT max(updated_at), count(*), max(xmin::text::bigint) FROM public.data_bars"
    before = conn.execute(stamp).fetchone()
    again = pipeline.run("materialize_range", MONDAY, TUESDAY)
    assert again.success
    assert conn.execute(stamp).fetchone() == before
    for asset in ("fx_1m", "dxy_1m", "dxy_5m", "dxy_1h"):
        assert said(again, asset)["inserted in this run"] == said(again, asset)["updated in this run"] == 0


def test_a_day_by_hand_has_a_picture_that_the_ui_shows_inline(pipeline: Pipeline) -> None:
    assert pipeline.day("fx_1m", MONDAY).success
    result = pipeline.day("dxy_1m", MONDAY)
    assert result.success
    picture = said(result, "dxy_1m")["shape of the day"]
    assert picture.startswith("![10")
    assert "data:image/svg+xml" in picture
    assert len(picture) < 1000


def test_a_shut_day_says_so(pipeline: Pipeline) -> None:
    saturday = date(2024, 6, 8)
    metadata = said(pipeline.run("materialize_range", saturday), "dxy_1m")
    assert metadata["day"] == "2024-06-08: market shut"
    assert metadata["dagster/row_count"] == metadata["expected bars"] == 0


def test_a_broken_contract_is_a_failure_and_nothing_is_written(pipeline: Pipeline, conn: psycopg.Connection) -> None:
    """A minute beyond the hard limits fails the day in one line; its good minutes are not written either."""
    assert pipeline.day("fx_1m", MONDAY).success
    conn.execute(
        "UPDATE public.data_bars SET close = close * 100 WHERE canonical_symbol = 'USDJPY' AND ts_utc = %s",
        (day_start(MONDAY) + timedelta(hours=9),),
    )
    conn.execute(
        "UPDATE public.data_bars SET close = close / 100 WHERE canonical_symbol = 'EURUSD' AND ts_utc = %s",
        (day_start(MONDAY) + timedelta(hours=9),),
    )
    result = pipeline.day("dxy_1m", MONDAY)
    assert not result.success
    assert failure_of(result).startswith("contract violated: DXY outside the hard limits")
    assert "\n" not in failure_of(result)
    assert counted(conn, "data_bars", "1m") == {}


def test_an_unreachable_database_is_a_failure_in_one_line(pipeline: Pipeline, tmp_path: Path) -> None:
    gone = replace(pipeline, market=MarketDatabase(url_override=f"postgresql://u@/none?host={tmp_path}"))
    result = gone.run("materialize_range", MONDAY)
    assert not result.success
    assert "\n" not in failure_of(result)
    skipped = gone.schedule()
    assert isinstance(skipped, dg.SkipReason)
    assert "nothing is lost" in str(skipped.skip_message)


def test_simulated_bars_are_refused_on_a_desks_database(pipeline: Pipeline, conn: psycopg.Connection) -> None:
    conn.execute("DELETE FROM dxy.setting WHERE key = 'origin'")
    result = pipeline.run("materialize_range", MONDAY)
    assert not result.success
    assert "simulated bars" in failure_of(result)
    assert counted(conn, "data_bars", "1m", "EURUSD") == {}


def test_external_bars_are_observed_and_derived(pipeline: Pipeline, conn: psycopg.Connection) -> None:
    assert pipeline.day("fx_1m", MONDAY).success
    result = pipeline.fed_by("external").run("materialize_range", MONDAY)
    assert result.success
    assert said(result, "fx_1m")["inserted in this run"] == 0
    assert said(result, "fx_1m")["dagster/row_count"] > 6 * 1300
    assert counted(conn, "data_bars", "1m")[MONDAY] > 1300


@dataclass
class Hourly:
    """A source with one bar an hour from `since` on, and before that only the minute a hundred days ago."""

    since: datetime
    until: datetime
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)
    name: str = "ingest"
    feed: str = "file"

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        self.asked.append((start, end))
        hours = [self.until - timedelta(days=100)]
        hours += [self.since + timedelta(hours=h) for h in range((self.until - self.since) // timedelta(hours=1))]
        rows = [Bar(s, ts, 1.0, 1.0, 1.0, 1.0) for s in symbols for ts in hours if start <= ts < end]
        yield Batch(rows)


class TestLive:
    def test_the_first_run_makes_some_days_and_the_next_goes_on(
        self, pipeline: Pipeline, conn: psycopg.Connection
    ) -> None:
        assert pipeline.live().success
        assert set(counted(conn, "data_bars", "1m")) == {date(2024, 6, 9), MONDAY, TUESDAY, NOW.date()}
        later = pipeline.at(NOW + timedelta(minutes=3))
        request = later.schedule()
        assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2024-06-12", "2024-06-12")
        result = later.live()
        assert said(result, "dxy_1m")["inserted in this run"] in {1, 2, 3}
        assert result.success

    def test_after_midnight_yesterday_is_covered_for_a_quarter_of_an_hour(self, pipeline: Pipeline) -> None:
        with pipeline.market.connect("test") as conn:
            for minutes, first in ((10, "2024-06-12"), (20, "2024-06-13")):
                now = datetime.combine(date(2024, 6, 13), NOW.time().min, NOW.tzinfo) + timedelta(minutes=minutes)
                live_state.note(conn, "simulated", now - timedelta(minutes=1))
                assert pipeline.at(now).schedule().tags[RANGE_START] == first

    def test_an_outage_is_filled_without_a_human_a_piece_at_a_time(
        self, pipeline: Pipeline, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_state, "LONGEST_REACH", timedelta(days=4))  # instead of a month
        live_state.note(conn, "simulated", NOW - timedelta(days=7))
        assert pipeline.live().success
        assert pipeline.live().success
        filled = counted(conn, "data_bars", "1m")
        start = day_of(NOW - timedelta(days=7))
        missing = [d for d in days(day_start(start) + DAY, NOW) if d not in filled and d.weekday() not in {5, 6}]
        assert missing == []
        progress = live_state.progress(conn, "simulated")
        assert progress is not None
        assert progress.fetched_until == NOW

    @pytest.mark.parametrize(("days_away", "runs"), [(10, 1), (40, 2)])
    def test_a_pair_that_was_away_is_filled_to_its_own_last_bar(
        self, pipeline: Pipeline, conn: psycopg.Connection, days_away: int, runs: int
    ) -> None:
        """The feed itself was never away, so its progress says nothing of the pair; a month a run, until it is whole."""
        away = NOW - timedelta(days=days_away)
        put_six(conn, away)
        put_six(conn, NOW - timedelta(minutes=1))
        remove(conn, "USDCAD", NOW - timedelta(minutes=1))
        live_state.note(conn, "simulated", NOW)
        for run in range(1, runs + 1):
            assert pipeline.live().success
            assert client.final_until(now=NOW + HOUR, conn=conn) <= NOW - live_state.OVERLAP
            whole = max(counted(conn, "data_bars", "1m", "USDCAD")) == NOW.date()
            assert whole is (run == runs)
        filled = counted(conn, "data_bars", "1m", "USDCAD")
        missing = [d for d in days(day_start(day_of(away)) + DAY, NOW) if d not in filled and d.weekday() != 5]
        assert missing == []
        assert counted(conn, "data_bars", "1m", "EURUSD").keys() == {day_of(away), NOW.date()}, "the others were there"

    def test_a_month_in_which_the_source_has_nothing_does_not_wedge(self, conn: psycopg.Connection) -> None:
        put_six(conn, NOW - timedelta(days=100))
        source = Hourly(since=NOW - timedelta(days=20), until=NOW)
        starts = live_state.pair_starts(live_state.latest_by_pair(conn), NOW - timedelta(minutes=15))
        _, until = catch_up(conn, source, starts, NOW, lambda _: None)
        assert until == NOW
        assert counted(conn, "data_bars", "1m", "USDCAD").keys() >= set(days(NOW - timedelta(days=19), NOW))
        assert len(source.asked) <= 5

    def test_a_source_that_is_down_is_a_state_not_a_storm(self, pipeline: Pipeline, conn: psycopg.Connection) -> None:
        live_state.note(conn, "massive", NOW - timedelta(minutes=30))
        down = pipeline.fed_by("massive")  # no key is set
        result = down.live()
        assert result.success
        assert said(result, "fx_1m")["source state"].startswith("refused: ")
        progress = live_state.progress(conn, "massive")
        assert progress is not None
        assert (progress.state, progress.fetched_until) == ("refused", NOW - timedelta(minutes=30))
        assert down.schedule().tags[RANGE_END] == "2024-06-12", "the next minute asks again"

    def test_failing_runs_are_spaced_out(self, pipeline: Pipeline, conn: psycopg.Connection) -> None:
        conn.execute("UPDATE dxy.setting SET value = '{\"low\": 1, \"high\": 2}' WHERE key = 'hard_limits'")
        assert not pipeline.live().success
        waits = pipeline.schedule()
        assert isinstance(waits, dg.SkipReason)
        assert "1 run(s) in a row were in vain" in str(waits.skip_message)

    def test_a_run_under_way_skips_the_tick(self, pipeline: Pipeline) -> None:
        pipeline.instance.add_run(
            dg.DagsterRun(job_name="live_minute", run_id="under-way", status=dg.DagsterRunStatus.STARTED)
        )
        assert isinstance(pipeline.schedule(), dg.SkipReason)


class TestLateData:
    def age_log(self, conn: psycopg.Connection) -> None:
        conn.execute("UPDATE dxy.touched_range SET touched_at = touched_at - interval '2 minutes'")

    def test_a_late_bar_becomes_one_run_that_changes_just_its_rows(
        self, pipeline: Pipeline, conn: psycopg.Connection
    ) -> None:
        pipeline.run("materialize_range", MONDAY, TUESDAY)
        at = day_start(MONDAY) + timedelta(hours=10, minutes=7)
        marks = "SELECT 'm', ts_utc, xmin::text FROM public.data_bars WHERE canonical_symbol = 'DXY' UNION ALL" \
            " SELECT timeframe, ts_utc, xmin::text FROM public.derived_data_bars"  # fmt: skip
        before = {row[:2]: row[2] for row in conn.execute(marks).fetchall()}
        conn.execute(
            "UPDATE public.data_bars SET close = close * 1.01, high = close * 1.02 WHERE canonical_symbol = 'EURUSD'"
            " AND ts_utc = %s", (at,),
        )  # fmt: skip
        assert isinstance(pipeline.sensor(late_data_sensor), dg.SkipReason), "young entries are the minute schedule's"
        self.age_log(conn)
        (request,) = pipeline.sensor(late_data_sensor).run_requests
        assert request.tags[RANGE_START] == request.tags[RANGE_END] == key_of(MONDAY)
        assert pipeline.run("late_data", tags={**request.tags, AUTOMATIC_TAG: "true"}).success
        after = {row[:2]: row[2] for row in conn.execute(marks).fetchall()}
        changed = {key for key in after if after[key] != before.get(key)}
        assert changed == {("m", at), ("5m", at - timedelta(minutes=2)), ("1h", at - timedelta(minutes=7))}
        self.age_log(conn)
        assert isinstance(pipeline.sensor(late_data_sensor), dg.SkipReason)

    def test_a_failed_run_is_asked_for_again_under_a_new_key(
        self, pipeline: Pipeline, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.day("fx_1m", MONDAY)
        self.age_log(conn)
        (first,) = pipeline.sensor(late_data_sensor).run_requests
        conn.execute("UPDATE dxy.setting SET value = '{\"low\": 1, \"high\": 2}' WHERE key = 'hard_limits'")
        assert not pipeline.run("late_data", tags=dict(first.tags)).success
        assert isinstance(pipeline.sensor(late_data_sensor), dg.SkipReason), "it waits before the second attempt"
        monkeypatch.setattr("dxy_pipeline.automation.late_data.pause_after_failures", lambda *_, **__: None)
        (second,) = pipeline.sensor(late_data_sensor).run_requests
        assert second.tags == first.tags
        assert second.run_key == first.run_key.replace("#0", "#1")

    def test_what_is_not_ours_yet_is_left_in_the_log(self, pipeline: Pipeline, conn: psycopg.Connection) -> None:
        """While roll-ups are the desk's their entries stay: no run is asked for, or it would be asked for for ever."""
        today = day_of(datetime.now(NOW.tzinfo))
        conn.execute("UPDATE dxy.migration_control SET state = 'dual_write'")
        enter = (
            "INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes, touched_at)"
            " VALUES (%s, %s, %s, %s, 1, now() - interval '1 hour')"
        )
        conn.execute(enter, ("5m", today, day_start(today), day_start(today)))
        conn.execute(enter, ("1m", MONDAY, day_start(MONDAY), day_start(MONDAY)))
        assert isinstance(pipeline.sensor(late_data_sensor), dg.SkipReason)
        conn.execute(enter, ("1m", today, day_start(today), day_start(today)))
        (request,) = pipeline.sensor(late_data_sensor).run_requests
        assert request.tags[RANGE_START] == request.tags[RANGE_END] == key_of(today)

    def test_a_day_that_is_no_partition_asks_for_nothing(self, pipeline: Pipeline, conn: psycopg.Connection) -> None:
        old = date(1990, 5, 7)
        conn.execute(
            "INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes, touched_at)"
            " VALUES ('1m', %s, %s, %s, 1, now() - interval '1 hour')",
            (old, day_start(old), day_start(old)),
        )
        assert isinstance(pipeline.sensor(late_data_sensor), dg.SkipReason)


class TestMonitoring:
    def test_outcomes_are_reported_when_they_change_and_as_a_heartbeat(
        self, pipeline: Pipeline, conn: psycopg.Connection
    ) -> None:
        pipeline.run("materialize_range", MONDAY, NOW.date())
        first = pipeline.sensor(monitoring_sensor)
        everything = len(first.asset_events)
        assert everything > 20
        minute = pipeline.at(NOW + timedelta(minutes=1)).sensor(monitoring_sensor, first.cursor)
        assert len(minute.asset_events) < 5
        conn.execute(
            "UPDATE public.data_bars SET close = 300 WHERE canonical_symbol = 'DXY' AND ts_utc = %s",
            (day_start(TUESDAY) + timedelta(hours=10),),
        )
        changed = pipeline.at(NOW + timedelta(minutes=2)).sensor(monitoring_sensor, minute.cursor)
        failed = {
            e.check_name: e for e in changed.asset_events if not e.passed and e.asset_key == dg.AssetKey("dxy_1m")
        }
        assert {"price_band", "drift"} <= set(failed)
        assert failed["price_band"].description.startswith("ERROR: ")
        assert failed["price_band"].metadata["violating rows"].value.records
        later = pipeline.at(NOW + timedelta(minutes=12)).sensor(monitoring_sensor, changed.cursor)
        assert len(later.asset_events) >= everything - 5, "a heartbeat tells everything again"

    def test_a_change_of_severity_is_a_change(self, pipeline: Pipeline) -> None:
        with pipeline.market.read("test") as conn:
            (result,) = run_checks(conn, NOW, only=["recent_bars"])
        warn = replace(result, passed=False, severity=Severity.WARN)
        _, cursor = due([warn], None, NOW)
        assert due([warn], cursor, NOW + timedelta(minutes=1))[0] == []
        error = replace(warn, severity=Severity.ERROR)
        assert due([error], cursor, NOW + timedelta(minutes=1))[0] == [error]

    def test_what_the_daily_job_fails_stays_failed_whatever_the_minute_says(
        self, pipeline: Pipeline, conn: psycopg.Connection
    ) -> None:
        """A wrong minute of last week: the live run's own checks come a minute later and must not turn it green."""
        last_week = date(2024, 6, 5)
        pipeline.run("materialize_range", last_week)
        pipeline.live()
        conn.execute(
            "UPDATE public.data_bars SET close = close + 0.06, high = high + 0.06 WHERE canonical_symbol = 'DXY'"
            " AND ts_utc = %s",
            (day_start(last_week) + timedelta(hours=10),),
        )
        conn.execute("DELETE FROM dxy.touched_range")
        assert self.drift(pipeline.run("check_stored_bars")) is None, "48 hours are clean"
        assert self.drift(self.daily(pipeline)) is not None
        for run in (pipeline.at(NOW + timedelta(minutes=1)).live(), pipeline.run("check_stored_bars")):
            assert run.success
            words = self.drift(run)
            assert words is not None
            assert words.startswith("ERROR: older than 48 hours, whole history of 2024-06-12 12:00 UTC: ")
        bar_store.derive(conn, day_start(last_week), day_start(last_week) + DAY)
        assert self.drift(self.daily(pipeline)) is None
        assert self.drift(pipeline.at(NOW + timedelta(minutes=2)).live()) is None

    def daily(self, pipeline: Pipeline) -> dg.ExecuteInProcessResult:
        """Do what the schedule does each night."""
        request = history_checks_schedule()
        assert isinstance(request, dg.RunRequest)
        job = build_defs(**pipeline.resources).resolve_job_def("check_stored_bars")
        return job.execute_in_process(instance=pipeline.instance, run_config=request.run_config)

    def drift(self, result: dg.ExecuteInProcessResult) -> str | None:
        """What a run said of the check `drift` when it failed."""
        found = {e.check_name: e for e in result.get_asset_check_evaluations()}["drift"]
        return None if found.passed else str(found.description)

    def test_messages_are_sent_by_a_sensor_of_their_own(
        self, pipeline: Pipeline, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.run("materialize_range", MONDAY, NOW.date())
        with receiving() as receiver:
            monkeypatch.setenv("DXY_ALERT_URLS", receiver.url)
            conn.execute("UPDATE public.data_bars SET source = 'ingest' WHERE canonical_symbol = 'DXY' AND ts_utc = %s",
                         (day_start(TUESDAY) + timedelta(hours=10),))  # fmt: skip
            for minute in range(3):
                pipeline.at(NOW + timedelta(minutes=minute)).sensor(monitoring_sensor)
            assert receiver.requests == 0, "a look sends nothing: however slow a service is, it holds up no look"
            told = pipeline.at(NOW + timedelta(minutes=3)).sensor(alert_delivery_sensor)
            assert receiver.titles == ["DXY firing: dxy minutes (ERROR)"]
        assert str(told.skip_message) == "1 message(s) delivered, 0 failed, 0 expired"

    def test_the_cursor_forgets_checks_that_are_gone(self, pipeline: Pipeline) -> None:
        with pipeline.market.read("test") as conn:
            results = run_checks(conn, NOW)
        _, cursor = due(results, '{"gone.check": [true, 1.0]}', NOW)
        assert "gone.check" not in cursor


class TestPlannedRows:
    def planned(self, instance: dg.DagsterInstance) -> list[tuple[str | None, str]]:
        rows = AssetCheckExecutionsTable
        with instance.event_log_storage.index_connection() as conn:  # type: ignore[attr-defined]
            return [tuple(r) for r in conn.execute(select(rows.c.partition, rows.c.execution_status)).fetchall()]

    def test_a_range_with_checks_leaves_none_behind(self, pipeline: Pipeline) -> None:
        assert pipeline.run("live_minute", MONDAY, TUESDAY).success
        rows = self.planned(pipeline.instance)
        assert rows
        assert {(partition, status in {"SUCCEEDED", "FAILED"}) for partition, status in rows} == {(None, True)}

    def test_those_of_a_run_that_failed_are_swept(self, pipeline: Pipeline, conn: psycopg.Connection) -> None:
        conn.execute("UPDATE dxy.setting SET value = '{\"low\": 1, \"high\": 2}' WHERE key = 'hard_limits'")
        assert not pipeline.run("live_minute", MONDAY, TUESDAY).success
        assert "PLANNED" in {status for _, status in self.planned(pipeline.instance)}
        assert release_for_ended_runs(pipeline.instance) > 0
        assert "PLANNED" not in {status for _, status in self.planned(pipeline.instance)}


class TestRetention:
    def test_old_runs_go_but_the_newest_of_each_partition(self, pipeline: Pipeline) -> None:
        for _ in range(3):
            pipeline.run("materialize_range", MONDAY)
        newest = pipeline.run("materialize_range", MONDAY, TUESDAY).run_id
        assert newest_runs(pipeline.instance) == {newest}
        soon = datetime.now(NOW.tzinfo) + timedelta(seconds=5)
        assert delete_runs(pipeline.instance, soon, float("inf")) == (3, True)
        assert pipeline.instance.get_run_ids() == [newest]
        for asset in ("fx_1m", "dxy_1m", "dxy_5m", "dxy_1h"):
            assert pipeline.instance.get_materialized_partitions(dg.AssetKey(asset)) == {
                key_of(MONDAY),
                key_of(TUESDAY),
            }

    def test_the_job_prunes_dagsters_records_and_our_incidents(
        self, pipeline: Pipeline, conn: psycopg.Connection
    ) -> None:
        conn.execute(
            "INSERT INTO dxy.incident (cause, state, severity, summary, checks, follows_market, opened_at, last_seen_at,"
            " resolved_at) SELECT c, 'dismissed', 'WARN', '', '{}', false, t, t, t FROM (VALUES ('old', %s), ('new', %s))"
            " AS v (c, t)",
            (NOW - timedelta(days=91), NOW - timedelta(days=89)),
        )
        assert pipeline.run("retention_job").success
        assert conn.execute("SELECT cause FROM dxy.incident").fetchall() == [("new",)]

    def test_old_evaluations_go_but_the_newest_of_each_check(self, pipeline: Pipeline) -> None:
        for _ in range(3):
            for event in pipeline.sensor(monitoring_sensor).asset_events:
                pipeline.instance.report_runless_asset_event(event)
        with pipeline.market.read("test") as conn:
            checks = len(run_checks(conn, NOW))
        soon = datetime.now(NOW.tzinfo) + timedelta(seconds=5)
        assert delete_evaluations(pipeline.instance, soon) == 2 * checks
        assert delete_evaluations(pipeline.instance, soon) == 0

"""Live runs come back by themselves: from an outage of any length, from kill -9, from each other, from a bad source.

Everything is asked of the schedule and the sensor, executed through Dagster and compared by the hash of both tables
with a pipeline that nothing ever disturbed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest

from dxy_pipeline import live_state, sources
from dxy_pipeline.automation import live
from dxy_pipeline.automation.live import RANGE_END, RANGE_START, pause_after_failures, range_tags
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.partitions import DAY, day_start
from dxy_pipeline.sources.simulated import SimulatedSource
from dxy_pipeline_tests.bars import MINUTE, dxy_minutes, put, remove, row_versions, scalar, table_hash
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.massive_server import MassiveServer
from dxy_pipeline_tests.pg_server import Cluster
from dxy_pipeline_tests.pipeline import AUTOMATIC, Child, Pipeline, said
from dxy_pipeline_tests.ui.dagster_ui import wait_for

pytestmark = pytest.mark.timeout(400)

HOUR = timedelta(hours=1)


@pytest.fixture
def undisturbed(
    server: Cluster, new_database: Callable[..., str], instance: dg.DagsterInstance
) -> Iterator[tuple[Pipeline, psycopg.Connection]]:
    """A second pipeline on a database of its own: what the first one has to come to."""
    url = new_database(server)
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as conn:
        yield Pipeline.on(instance, url), conn


@pytest.fixture
def shared(instance: dg.DagsterInstance, db: str) -> Pipeline:
    """The pipeline on `db`, with records that other processes may share."""
    return Pipeline.on(instance, db)


def fetched_until(conn: psycopg.Connection, feed: str = "simulated") -> datetime:
    found = live_state.progress(conn, feed)
    assert found is not None
    return found.fetched_until


def begin(pipeline: Pipeline, conn: psycopg.Connection, at: datetime) -> None:
    """A first tick at `at`, six hours after the feed's beginning."""
    live_state.note(conn, "simulated", at - 6 * HOUR)
    assert pipeline.at(at).live().success


def tick_on(pipeline: Pipeline, conn: psycopg.Connection, end: datetime, every: timedelta) -> None:
    """Live ticks up to `end`, the last one at `end`."""
    while (at := fetched_until(conn)) < end:
        assert pipeline.at(min(at + every, end)).live().success


# --- outages --------------------------------------------------------------------------------------------------------

FRIDAY = datetime(2024, 6, 7, 15, 20, tzinfo=UTC)
OUTAGES = {  # how long, from when, how often the undisturbed one ticks, how many runs the way back may take
    "a weekend": (datetime(2024, 6, 10, 6, 40, tzinfo=UTC) - FRIDAY, FRIDAY, DAY, 1),
    "three days": (3 * DAY + 17 * MINUTE, datetime(2024, 6, 4, 9, 3, tzinfo=UTC), DAY, 1),
    "two weeks": (14 * DAY, datetime(2024, 5, 28, 22, 11, tzinfo=UTC), 5 * DAY, 1),
    "over a month": (38 * DAY, datetime(2024, 5, 3, 13, 59, tzinfo=UTC), 20 * DAY, 2),
}


@pytest.mark.parametrize("case", OUTAGES)
def test_an_outage_is_filled_to_the_same_tables(
    case: str, pipeline: Pipeline, conn: psycopg.Connection, undisturbed: tuple[Pipeline, psycopg.Connection]
) -> None:
    length, down_at, every, runs = OUTAGES[case]
    back_at = down_at + length
    begin(pipeline, conn, down_at)
    back = pipeline.at(back_at)
    for _ in range(runs):
        assert fetched_until(conn) < back_at
        assert back.live().success
    assert fetched_until(conn) == back_at

    steady, there = undisturbed
    begin(steady, there, down_at)
    tick_on(steady, there, back_at, every)
    assert table_hash(conn) == table_hash(there)
    assert max(dxy_minutes(conn)) >= back_at - 5 * MINUTE
    assert scalar(conn, "SELECT count(*) FROM derived_data_bars WHERE is_partial AND ts_utc < %s", back_at - HOUR) == 0

    before = row_versions(conn)
    again = back.live()
    assert again.success
    assert row_versions(conn) == before, "the tick after it writes no row"
    assert list(back.late_runs()) == [], "nor does the sensor for late data find anything to do"


# --- kill -9 --------------------------------------------------------------------------------------------------------


@contextmanager
def roll_ups_held(db: str) -> Iterator[None]:
    """Nobody can write a roll-up meanwhile: DXY 1m commits, the write of 5m waits."""
    with psycopg.connect(db) as holder:
        holder.execute("LOCK TABLE public.derived_data_bars IN SHARE MODE")
        yield
        holder.rollback()


@contextmanager
def a_minute_held(db: str) -> Iterator[None]:
    """Another session is about to write a DXY minute in the middle: the write of DXY 1m waits half-way."""
    with psycopg.connect(db) as holder:
        put(holder, [("DXY", NOW - DAY - 20 * MINUTE, 100.0)])
        yield
        holder.rollback()


def killed_while_waiting(pipeline: Pipeline, conn: psycopg.Connection, asset: str) -> None:
    """Run the live job as the schedule asks in a child, and kill it when the asset's write stands at the held row."""
    request = pipeline.schedule()
    with pipeline.child("live_minute", {**request.tags, **AUTOMATIC}) as child:
        child.go()
        wait_for(f"{asset} waits", lambda: waiting(conn, asset), every=0.05)
        child.kill()


def waiting(conn: psycopg.Connection, *names: str) -> int:
    """Return how many sessions of these assets wait for somebody's lock."""
    return scalar(
        conn,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND application_name = ANY (%s)",
        [f"dxy_pipeline:{name}" for name in names],
    )


def orphans_end(conn: psycopg.Connection) -> None:
    """Wait until the server has noticed that the killed process is gone."""
    left = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'dxy_pipeline:%'"
    )
    wait_for("the killed run's sessions end", lambda: scalar(conn, left) == 0, limit=30, every=0.05)


def counts(conn: psycopg.Connection) -> tuple[int, int]:
    return len(dxy_minutes(conn)), scalar(conn, "SELECT count(*) FROM public.derived_data_bars")


KILLS: dict[str, tuple[Callable[[str], Any], str]] = {
    "between 1m and 5m": (roll_ups_held, "dxy_5m"),
    "in the middle of 1m": (a_minute_held, "dxy_1m"),
}


@pytest.mark.parametrize("point", KILLS)
@pytest.mark.parametrize("first", ["tick", "sensor"])
def test_a_killed_run_loses_nothing(
    point: str,
    first: str,
    shared: Pipeline,
    db: str,
    conn: psycopg.Connection,
    undisturbed: tuple[Pipeline, psycopg.Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was catching up three days. What the next tick does not cover any more is still in the touched log."""
    hold, asset = KILLS[point]
    live_state.note(conn, "simulated", NOW - 3 * DAY)
    with hold(db):
        killed_while_waiting(shared, conn, asset)
    orphans_end(conn)
    minutes, rollups = counts(conn)
    assert (minutes > 2 * 1300, rollups) == (asset == "dxy_5m", 0)
    assert minutes == 0 or asset == "dxy_5m", "half a write is no write"
    assert fetched_until(conn) == NOW, "the bars are fetched: the next tick will not fetch them again"

    later = shared.at(NOW + MINUTE)
    assert isinstance(later.schedule(), dg.SkipReason), "it may still be at work"
    monkeypatch.setattr(live, "PATIENCE", timedelta(0))  # instead of five minutes
    steps = {"tick": lambda: [later.live()], "sensor": lambda: list(later.late_runs())}
    if first == "tick":
        assert later.schedule().tags[RANGE_START] == "2024-06-12", "the other days are the sensor's"
    for step in sorted(steps, key=lambda name: name != first):
        assert all(result.success for result in steps[step]())
    assert list(later.late_runs()) == []

    steady, there = undisturbed
    live_state.note(there, "simulated", NOW - 3 * DAY)
    assert steady.at(NOW + MINUTE).live().success
    assert table_hash(conn) == table_hash(there)
    before = row_versions(conn)
    assert later.live().success
    assert row_versions(conn) == before


# --- each other -----------------------------------------------------------------------------------------------------

MONDAY, WEDNESDAY = NOW.date() - 2 * DAY, NOW.date()


def late_edits(conn: psycopg.Connection) -> None:
    """A correction and a deletion on each day, which the feed puts right again."""
    for day in range(3):
        at = day_start(MONDAY) + day * DAY + 9 * HOUR
        conn.execute(
            "UPDATE public.data_bars SET high = high * 1.01, close = close * 1.01 WHERE canonical_symbol = ANY (%s)"
            " AND ts_utc IN (%s, %s)", (["EURUSD", "USDSEK"], at, at + 2 * HOUR),
        )  # fmt: skip
        remove(conn, "USDJPY", at + MINUTE)


def test_runs_that_overlap_end_in_the_same_tables(
    shared: Pipeline, conn: psycopg.Connection, undisturbed: tuple[Pipeline, psycopg.Connection]
) -> None:
    """The minute's run over three days, late data of them, two backfills by hand: all wait at one day, then race."""
    wanted = range_tags(day_start(MONDAY), NOW)
    steady, there = undisturbed
    assert steady.run("materialize_range", tags=wanted).success
    assert shared.run("materialize_range", tags=wanted).success
    late_edits(conn)
    live_state.note(conn, "simulated", day_start(MONDAY))
    jobs = [("live_minute", AUTOMATIC), ("late_data", AUTOMATIC), ("materialize_range", {}), ("materialize_range", {})]
    patient = {"DXY_LOCK_TIMEOUT_S": "120"}  # they wait for the slowest of them to boot
    with ExitStack() as stack:
        children: list[Child] = [
            stack.enter_context(shared.child(job, {**wanted, **tags}, patient)) for job, tags in jobs
        ]
        with psycopg.connect(conn.info.dsn, password=conn.info.password or None) as gate:
            gate.execute("SELECT dxy.lock_days(%s, %s)", (day_start(MONDAY) + DAY, day_start(MONDAY) + 2 * DAY))
            for child in children:
                child.go()
            wait_for("all stand at the gate", lambda: waiting(conn, "dxy_1m") == len(jobs), every=0.05)
        ended = [child.ended() for child in children]
    assert [one["errors"] for one in ended] == [[]] * len(jobs)
    assert all(one["success"] for one in ended)
    assert table_hash(conn) == table_hash(there)
    assert scalar(conn, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert list(shared.late_runs()) == []


# --- a bad source ---------------------------------------------------------------------------------------------------


@pytest.fixture
def massive(monkeypatch: pytest.MonkeyPatch) -> Iterator[MassiveServer]:
    """A local Massive API with the simulated bars of the last hours."""
    source = SimulatedSource(FixedClock(NOW + HOUR))
    bars = [bar for batch in source.bars(SYMBOLS, NOW - 2 * HOUR, NOW + HOUR) for bar in batch.rows]
    with MassiveServer(bars) as running:
        monkeypatch.setenv("MASSIVE_API_KEY", "k")
        monkeypatch.setenv("DXY_MASSIVE_BASE_URL", running.url)
        monkeypatch.setattr(sources, "LIVE_PATIENCE_S", 0.4)  # one try; the minutes' rhythm is under test
        yield running


MOODS = {
    "500": "unavailable",
    "401": "refused",
    "429 for long": "unavailable",
    "html": "unavailable",
    "cut": "unavailable",
}


def test_a_failing_source_is_a_state_for_as_long_as_it_lasts(
    pipeline: Pipeline, conn: psycopg.Connection, massive: MassiveServer, undisturbed: tuple[Pipeline, Any]
) -> None:
    live_state.note(conn, "massive", NOW - 30 * MINUTE)
    fed = pipeline.fed_by("massive")
    assert fed.live().success
    stored = len(dxy_minutes(conn))
    for minute, (mood, state) in enumerate(MOODS.items(), 1):
        massive.mood = mood
        result = fed.at(NOW + minute * MINUTE).live()
        assert result.success, mood
        assert said(result, "fx_1m")["source state"].startswith(f"{state}: "), mood
        found = live_state.progress(conn, "massive")
        assert found is not None
        assert (found.state, found.fetched_until) == (state, NOW)
    assert pipeline.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])) == 0
    assert len(dxy_minutes(conn)) == stored

    massive.mood = "well"
    back = fed.at(NOW + 20 * MINUTE)
    result = back.live()
    assert said(result, "fx_1m")["source state"] == "ok"
    assert fetched_until(conn, "massive") == NOW + 20 * MINUTE

    steady, there = undisturbed
    live_state.note(there, "massive", NOW - 30 * MINUTE)
    assert steady.fed_by("massive").at(NOW + 20 * MINUTE).live().success
    assert len(dxy_minutes(conn)) >= stored + 18
    assert table_hash(conn) == table_hash(there)


def test_a_pair_that_was_away_for_days_fills_its_hole_when_it_returns(
    pipeline: Pipeline, conn: psycopg.Connection, massive: MassiveServer
) -> None:
    """The feed answered all the while: progress went on, and the hole is known by the pair's own last bar."""
    source = SimulatedSource(FixedClock(NOW))
    whole = [bar for batch in source.bars(SYMBOLS, NOW - 3 * DAY, NOW) for bar in batch.rows]
    massive.bars = [bar for bar in whole if bar.symbol != "USDSEK" or bar.ts_utc < NOW - 2 * DAY]
    live_state.note(conn, "massive", NOW - 3 * DAY)
    fed = pipeline.fed_by("massive")
    assert fed.live().success
    assert max(dxy_minutes(conn)) < NOW - 2 * DAY
    massive.bars = whole
    request = fed.schedule()
    assert request.tags[RANGE_START] == request.tags[RANGE_END] == "2024-06-12"
    assert fed.live().success
    assert all(result.success for result in fed.late_runs())
    quotes = Counter(bar.ts_utc for bar in whole)
    assert set(dxy_minutes(conn)) == {ts for ts, pairs in quotes.items() if pairs == len(SYMBOLS)}
    hours = scalar(
        conn, "SELECT count(*) FROM derived_data_bars WHERE timeframe = '1h' AND ts_utc >= %s", NOW - 2 * DAY
    )
    assert hours == 48


def test_failures_are_tried_again_ever_more_seldom(instance: dg.DagsterInstance) -> None:
    """Sixty ticks of an hour in which every run fails make a handful of runs, not sixty."""
    which = dg.RunsFilter(job_name="live_minute")
    start = datetime(2024, 6, 12, tzinfo=UTC)
    ran: list[int] = []
    for minute in range(60):
        at = start + minute * MINUTE
        if pause_after_failures(instance, which, at) is None:
            ran.append(minute)
            run = dg.DagsterRun(job_name="live_minute", run_id=f"run-{minute}", status=dg.DagsterRunStatus.FAILURE)
            instance.run_storage.add_historical_run(run, at.replace(tzinfo=None))
    assert ran == [0, 1, 3, 7, 15, 30, 45]

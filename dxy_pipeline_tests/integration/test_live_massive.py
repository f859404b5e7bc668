"""The live asset on the Massive source, with the official client against a local server that misbehaves.

Whatever the server does the run is green and the state says what is wrong; the next minute with a server that is well
again fills everything.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from dxy_pipeline import bar_store, live_state
from dxy_pipeline.core.bars import Bar
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.resources import FxFeed, MarketDatabase, PipelineClock
from dxy_pipeline.sources.massive import MassiveSource
from dxy_pipeline.sources.simulated import SimulatedSource
from dxy_pipeline_tests.bars import scalar
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.massive_server import MassiveServer
from dxy_pipeline_tests.pipeline import Pipeline, said

KEY = "PLANTED-k3y-9f8e7d"
MINUTE = timedelta(minutes=1)
SINCE = NOW - 30 * MINUTE
STORED = "SELECT count(*) FROM public.data_bars WHERE source = 'massive_api'"


@pytest.fixture(scope="module")
def bars() -> list[Bar]:
    clock = FixedClock(NOW)
    return [row for batch in SimulatedSource(clock).bars(SYMBOLS, NOW - 60 * MINUTE, NOW) for row in batch.rows]


@pytest.fixture
def massive(bars: list[Bar], monkeypatch: pytest.MonkeyPatch) -> Iterator[MassiveServer]:
    with MassiveServer(bars, page_size=10) as running:
        running.key = KEY
        monkeypatch.setenv("MASSIVE_API_KEY", KEY)
        monkeypatch.setenv("DXY_MASSIVE_BASE_URL", running.url)
        # the real client with the same rules, only sooner tired: a test has no 15 s for an answer, nor 25 s for retries
        for name, value in {"read_seconds": 0.5, "sleep": lambda _: None}.items():
            monkeypatch.setitem(MassiveSource.__init__.__kwdefaults__, name, value)
        yield running


@pytest.fixture
def pipeline(db: str, conn: psycopg.Connection, tmp_path: Path) -> Iterator[Pipeline]:
    bar_store.mark_created_by(conn, "demo")
    live_state.note(conn, "massive", SINCE)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Pipeline(
            instance, MarketDatabase(url_override=db), FxFeed(kind="massive"), PipelineClock(pinned=NOW.isoformat())
        )


@pytest.mark.parametrize(("mood", "state"), [
    ("401", "refused"), ("403", "refused"), ("404", "refused"), ("not authorized in 200", "refused"),
    ("429", "unavailable"), ("429 in 200", "unavailable"), ("500", "unavailable"), ("cut", "unavailable"),
    ("silent", "unavailable"), ("html", "unavailable"), ("truncated json", "unavailable"),
    ("fewer than announced", "unavailable"), ("page two html", "unavailable"), ("page two truncated", "unavailable"),
    ("page two 500", "unavailable"), ("circle", "unavailable"),
])  # fmt: skip
def test_a_misbehaving_source_is_a_state_and_the_next_minute_recovers(
    mood: str, state: str, pipeline: Pipeline, conn: psycopg.Connection, massive: MassiveServer, bars: list[Bar]
) -> None:
    massive.mood = mood
    result = pipeline.live()
    assert result.success, "a source that is down is no failed run"
    words = said(result, "fx_1m")["source state"]
    assert words.startswith(f"{state}: ")
    progress = live_state.progress(conn, "massive")
    assert progress is not None
    assert (progress.state, progress.fetched_until) == (state, SINCE)
    assert progress.detail in words
    assert KEY not in words + progress.detail
    assert scalar(conn, STORED) == 0, "nothing of a broken answer is stored"

    massive.mood = "well"
    later = pipeline.at(NOW + MINUTE)
    result = later.live()
    assert result.success
    assert said(result, "fx_1m")["source state"] == "ok"
    progress = live_state.progress(conn, "massive")
    assert progress is not None
    assert (progress.state, progress.fetched_until) == ("ok", NOW + MINUTE)
    # what came before its last good fetch, less the overlap, nobody asks for again
    assert scalar(conn, STORED) == sum(bar.ts_utc >= SINCE - live_state.OVERLAP for bar in bars)


def test_a_delayed_plan_is_said_and_its_bars_are_kept(
    pipeline: Pipeline, conn: psycopg.Connection, massive: MassiveServer
) -> None:
    massive.mood = "delayed"
    result = pipeline.live()
    assert result.success
    assert said(result, "fx_1m")["source state"].startswith("ok: EURUSD is DELAYED by the plan")
    progress = live_state.progress(conn, "massive")
    assert progress is not None
    assert (progress.state, progress.fetched_until) == ("ok", NOW)
    assert "DELAYED" in progress.detail
    assert scalar(conn, STORED) > 200

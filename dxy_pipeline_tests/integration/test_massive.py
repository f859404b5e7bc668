"""The Massive source, with the official client, against a local server in every mood."""

import io
import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from dxy_pipeline.core.bars import Bar, RejectReason
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources import source_from_settings
from dxy_pipeline.sources.massive import MassiveSource
from dxy_pipeline.sources.protocol import (
    SourceBroken,
    SourceError,
    SourceNotFound,
    SourceRateLimited,
    SourceRefused,
    SourceUnavailable,
)
from dxy_pipeline.sources.simulated import SimulatedSource
from dxy_pipeline_tests.massive_server import MOODS, MassiveServer

KEY = "PLANTED-k3y-9f8e7d"
START = datetime(2024, 6, 12, 8, 0, tzinfo=UTC)
END = START + timedelta(minutes=30)
NOW = datetime(2024, 6, 12, 12, 0, tzinfo=UTC)
PAIR = ("EURUSD",)


class Time:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture(scope="module")
def bars() -> list[Bar]:
    return [row for batch in SimulatedSource(FixedClock(NOW)).bars(SYMBOLS, START, END) for row in batch.rows]


@pytest.fixture
def server(bars: list[Bar]) -> Iterator[MassiveServer]:
    with MassiveServer(bars, page_size=10) as running:
        running.key = KEY
        yield running


@pytest.fixture
def passing() -> Time:
    return Time()


@pytest.fixture
def source(server: MassiveServer, passing: Time) -> MassiveSource:
    return MassiveSource(
        KEY, FixedClock(NOW), base_url=server.url, read_seconds=0.5, sleep=passing.sleep, monotonic=passing
    )


def rows(source: MassiveSource, symbols: tuple[str, ...] = PAIR, start: datetime = START, end: datetime = END) -> list:
    return [row for batch in source.bars(symbols, start, end) for row in batch.rows]


def test_pages_are_followed_to_the_end_and_give_exactly_the_bars(source, server, bars) -> None:
    assert rows(source, SYMBOLS) == [bar for symbol in SYMBOLS for bar in bars if bar.symbol == symbol]
    assert len(server.calls) == sum(-(-len([b for b in bars if b.symbol == s]) // 10) for s in SYMBOLS)
    assert {call.authorization for call in server.calls} == {f"Bearer {KEY}"}


def test_only_our_base_is_called_and_a_key_in_the_next_address_is_dropped(source, server, bars) -> None:
    server.mood = "key in next url"
    assert len(rows(source)) == len([bar for bar in bars if bar.symbol == "EURUSD"])
    assert not any("apiKey" in call.path for call in server.calls)


def test_compressed_answers_are_read(source, server) -> None:
    server.mood = "zipped"
    assert rows(source)


def test_an_empty_range_is_complete(source, server) -> None:
    quiet = START - timedelta(days=10)
    (batch,) = source.bars(PAIR, quiet, quiet + timedelta(minutes=5))
    assert (batch.rows, batch.rejected, batch.notes) == ([], [], ())


def test_the_minute_that_is_not_over_is_left_out(server, bars) -> None:
    now = START + timedelta(minutes=10, seconds=59)
    source = MassiveSource(KEY, FixedClock(now), base_url=server.url)
    last = max(bar.ts_utc for bar in rows(source))
    assert last == START + timedelta(minutes=9)
    assert all(int(call.path.split("?")[0].split("/")[-1]) < now.timestamp() * 1000 for call in server.calls)


def test_a_range_in_the_future_makes_no_call(source, server) -> None:
    assert rows(source, PAIR, NOW, NOW + timedelta(hours=1)) == []
    assert server.calls == []


def test_delayed_is_said_and_the_bars_are_kept(source, server) -> None:
    server.mood = "delayed"
    (batch,) = source.bars(PAIR, START, END)
    assert batch.rows
    assert batch.notes == ("EURUSD is DELAYED by the plan",)


def test_bad_rows_are_refused_one_by_one_and_the_good_ones_kept(source, server) -> None:
    server.page_size = 1000
    whole = rows(source)
    server.mood = "bad rows"
    (batch,) = source.bars(PAIR, START, END)
    assert {reject.reason for reject in batch.rejected} == {
        RejectReason.NOT_A_NUMBER,
        RejectReason.OHLC_ORDER,
        RejectReason.UNPARSEABLE,
        RejectReason.MISALIGNED,
        RejectReason.DUPLICATE_KEY,
        RejectReason.MISSING,
    }
    assert len(batch.rejected) == 7
    assert batch.rows == whole[4:5] + whole[6:]
    assert batch.rejected[0].location.startswith("C:EURUSD page 1 item ")


OUTCOMES = {
    "400": SourceBroken,
    "401": SourceRefused,
    "403": SourceRefused,
    "404": SourceNotFound,
    "302": SourceBroken,
    "not authorized in 200": SourceRefused,
    "429": SourceRateLimited,
    "429 in 200": SourceRateLimited,
    "429 for long": SourceRateLimited,
    "500": SourceUnavailable,
    "500 not text": SourceUnavailable,
    "cut": SourceUnavailable,
    "cut in the body": SourceUnavailable,
    "silent": SourceUnavailable,
    "page two 500": SourceUnavailable,
} | dict.fromkeys(
    (
        "html",
        "not text",
        "empty body",
        "a list",
        "204",
        "bad gzip",
        "truncated json",
        "no status",
        "error in 200",
        "null results",
        "null results with a count",
        "neither results nor count",
        "results is a dict",
        "fewer than announced",
        "queryCount larger",
        "other ticker",
        "out of order",
        "outside the range",
        "before the range",
        "page two html",
        "page two null",
        "page two missing",
        "page two truncated",
        "page twice",
        "circle",
        "next elsewhere",
        "next not text",
    ),
    SourceBroken,
)
FINE = {"well", "zipped", "delayed", "key in next url", "429 twice", "503 twice", "cut once", "bad rows"}


def test_every_mood_is_tested() -> None:
    assert set(OUTCOMES) | FINE == set(MOODS)


@pytest.mark.parametrize("mood", OUTCOMES)
def test_each_misbehaviour_has_its_outcome_gives_no_bar_and_never_shows_the_key(mood, source, server) -> None:
    server.mood = mood
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    given = []
    try:
        with pytest.raises(SourceError) as caught:
            given.extend(batch for batch in source.bars(PAIR, START, END))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert type(caught.value) is OUTCOMES[mood]
    assert given == []
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.hint + log.getvalue()
    assert KEY not in shown
    assert "EURUSD" in str(caught.value) or caught.value.hint
    assert caught.value.hint


@pytest.mark.parametrize("mood", ["429 twice", "503 twice", "cut once"])
def test_a_passing_failure_is_tried_again(mood, source, server, passing) -> None:
    server.page_size = 1000
    server.mood = mood
    assert rows(source)
    assert len(passing.slept) == len(server.calls) - 1 >= 1
    if mood == "429 twice":
        assert passing.slept == [1.0, 1.0]


def test_trying_again_ends_within_the_patience(server, passing) -> None:
    server.mood = "429 for long"
    source = MassiveSource(KEY, FixedClock(NOW), base_url=server.url, patience=30, sleep=passing.sleep)
    with pytest.raises(SourceRateLimited):
        rows(source)
    assert passing.slept == []
    assert len(server.calls) == 1


@pytest.mark.parametrize(("mood", "calls"), [("500", 5), ("429", 5), ("401", 1), ("403", 1), ("404", 1), ("html", 1)])
def test_only_what_may_pass_is_tried_again(mood, calls, source, server) -> None:
    server.mood = mood
    with pytest.raises(SourceError):
        rows(source)
    assert len(server.calls) == calls


def test_a_slow_drip_of_bytes_ends_at_the_deadline(server, monkeypatch) -> None:
    from dxy_pipeline_tests import massive_server

    monkeypatch.setattr("dxy_pipeline.sources.massive_http.CALL_SECONDS", 0.4)
    monkeypatch.setitem(MOODS, "drip", lambda _s, _c, envelope: massive_server.as_json(envelope)._replace(pace=0.02))
    server.mood = "drip"
    source = MassiveSource(KEY, FixedClock(NOW), base_url=server.url, patience=0.1, sleep=lambda _: None)
    with pytest.raises(SourceUnavailable):
        rows(source)


def test_an_earlier_piece_stays_complete_when_a_later_one_fails(source, server) -> None:
    batches = source.bars(("EURUSD", "USDJPY"), START, END)
    first = next(batches)
    server.mood = "html"
    with pytest.raises(SourceBroken):
        next(batches)
    assert {row.symbol for row in first.rows} == {"EURUSD"}
    assert first.rows == rows_when_well(source, server)


def rows_when_well(source: MassiveSource, server: MassiveServer) -> list[Bar]:
    server.mood = "well"
    return rows(source)


def test_unreachable(passing) -> None:
    source = MassiveSource(KEY, FixedClock(NOW), base_url="http://127.0.0.1:9", sleep=passing.sleep)
    with pytest.raises(SourceUnavailable, match="could not be reached"):
        rows(source)
    assert len(passing.slept) == 4


@pytest.mark.parametrize("base", ["http://", "nonsense", "ftp://127.0.0.1"])
def test_a_wrong_address_is_a_clear_error(base) -> None:
    with pytest.raises(UserError, match="not a URL") as caught:
        MassiveSource(KEY, FixedClock(NOW), base_url=base)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", ["", f"{KEY}\n", f"{KEY} x", f"{KEY}é"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key) -> None:
    with pytest.raises(UserError) as caught:
        MassiveSource(key, FixedClock(NOW))
    assert KEY not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


def test_no_more_calls_in_any_minute_than_the_plan_allows(server, passing) -> None:
    told: list[str] = []
    stamps: list[float] = []
    source = MassiveSource(
        KEY,
        FixedClock(NOW),
        base_url=server.url,
        calls_per_minute=5,
        sleep=passing.sleep,
        monotonic=passing,
        tell=told.append,
    )
    spend = source._budget.spend

    def noted() -> None:
        spend()
        stamps.append(passing())
        passing.seconds += 0.5

    source._budget.spend = noted
    assert rows(source, SYMBOLS)
    assert len(stamps) > 10
    assert all(later - earlier >= 60 for earlier, later in zip(stamps, stamps[5:], strict=False))
    assert told[0] == "waiting 58 s: the plan allows 5 calls a minute"


def test_history_is_cut_into_pieces_that_fit_a_page(server, passing) -> None:
    source = MassiveSource(KEY, FixedClock(NOW), base_url=server.url, sleep=passing.sleep)
    list(source.bars(PAIR, NOW - timedelta(days=100), NOW))
    spans = [[int(part) for part in call.path.split("?")[0].split("/")[-2:]] for call in server.calls if not call.page]
    assert len(spans) == 4
    assert spans[0][0] == int((NOW - timedelta(days=100)).timestamp() * 1000)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(spans))
    assert all(last - first < 50_000 * 60_000 for first, last in spans)


def test_live_refuses_a_plan_that_is_too_slow_and_history_does_not() -> None:
    settings = Settings.from_env(
        {"DXY_FX_SOURCE": "massive", "MASSIVE_API_KEY": KEY, "DXY_MASSIVE_CALLS_PER_MINUTE": "5"}
    )
    with pytest.raises(SourceRefused, match="live needs 6 calls a minute and the Massive plan allows 5"):
        source_from_settings(settings, FixedClock(NOW), live=True)
    assert source_from_settings(settings, FixedClock(NOW)).feed == "massive"
    assert KEY not in repr(settings)


def test_the_key_is_read_when_the_source_is_made(server, monkeypatch) -> None:
    monkeypatch.setenv("MASSIVE_API_KEY", "set-later")
    monkeypatch.setenv("DXY_FX_SOURCE", "massive")
    monkeypatch.setenv("DXY_MASSIVE_BASE_URL", server.url)
    rows(source_from_settings(Settings.from_env(), FixedClock(NOW), live=True))
    assert server.calls[0].authorization == "Bearer set-later"

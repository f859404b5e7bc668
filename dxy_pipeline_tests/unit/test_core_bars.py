"""The bar contract: every reason to refuse a row, and how time is cut into buckets."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dxy_pipeline.core.bars import (
    Bar,
    RejectReason,
    SeenKeys,
    Timeframe,
    ceil_to,
    floor_to,
    reject,
    screen,
    validate,
)
from dxy_pipeline.core.index import SYMBOLS

NOW = datetime(2024, 6, 12, 12, 0, tzinfo=UTC)
TS = datetime(2024, 6, 12, 11, 0, tzinfo=UTC)
GOOD = Bar("EURUSD", TS, 1.08, 1.09, 1.07, 1.085, 12.0, 1.081, 3)
nan, inf = math.nan, math.inf


def test_a_sound_bar_passes() -> None:
    assert validate(GOOD, NOW) is None
    assert validate(Bar("EURUSD", TS, 1, 1, 1, 1), NOW) is None
    assert validate(GOOD._replace(ts_utc=NOW), NOW) is None
    assert validate(GOOD._replace(ts_utc=TS.astimezone(timezone(timedelta(hours=5)))), NOW) is None


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, RejectReason.MISSING),
        (nan, RejectReason.NOT_A_NUMBER),
        (inf, RejectReason.INFINITE),
        (-inf, RejectReason.INFINITE),
        (0.0, RejectReason.ZERO),
        (-1.0, RejectReason.NEGATIVE),
        (1e12, RejectReason.OUT_OF_RANGE),
        (4e-9, RejectReason.OUT_OF_RANGE),
    ],
)
def test_bad_prices(column: str, value: float | None, reason: RejectReason) -> None:
    assert validate(GOOD._replace(**{column: value}), NOW) is reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"high": 1.06}, RejectReason.OHLC_ORDER),
        ({"high": 1.0849}, RejectReason.OHLC_ORDER),
        ({"low": 1.0801}, RejectReason.OHLC_ORDER),
        ({"open": 1.10}, RejectReason.OHLC_ORDER),
        ({"close": 1.05}, RejectReason.OHLC_ORDER),
        ({"ts_utc": TS.replace(second=1)}, RejectReason.MISALIGNED),
        ({"ts_utc": TS.replace(microsecond=1)}, RejectReason.MISALIGNED),
        ({"ts_utc": NOW + timedelta(minutes=1)}, RejectReason.FUTURE),
        ({"ts_utc": datetime(1969, 12, 31, 23, 59, tzinfo=UTC)}, RejectReason.TOO_OLD),
        ({"ts_utc": TS.replace(tzinfo=None)}, RejectReason.NAIVE_TIME),
        ({"symbol": "eurusd"}, RejectReason.SYMBOL_CASE),
        ({"symbol": "EurUsd"}, RejectReason.SYMBOL_CASE),
        ({"symbol": "EURGBP"}, RejectReason.UNKNOWN_SYMBOL),
        ({"symbol": "DXY"}, RejectReason.UNKNOWN_SYMBOL),
        ({"symbol": ""}, RejectReason.UNKNOWN_SYMBOL),
        ({"volume": -1.0}, RejectReason.BAD_VOLUME),
        ({"volume": nan}, RejectReason.BAD_VOLUME),
        ({"volume": None}, RejectReason.BAD_VOLUME),
        ({"vwap": inf}, RejectReason.BAD_VOLUME),
        ({"trade_count": -1}, RejectReason.BAD_VOLUME),
        ({"trade_count": 2**31}, RejectReason.BAD_VOLUME),
    ],
)
def test_each_reason(changes: dict, reason: RejectReason) -> None:
    assert validate(GOOD._replace(**changes), NOW) is reason


def test_screen_keeps_the_good_rows_and_the_first_of_a_key() -> None:
    rows = [
        ("f:1", GOOD),
        ("f:2", GOOD._replace(close=nan)),
        ("f:3", GOOD._replace(close=1.08)),
        ("f:4", GOOD._replace(symbol="USDCHF")),
        ("f:5", GOOD._replace(ts_utc=TS + timedelta(minutes=1))),
    ]
    good, refused = screen(rows, NOW)
    assert good == [rows[0][1], rows[3][1], rows[4][1]]
    assert [(r.location, r.reason) for r in refused] == [
        ("f:2", RejectReason.NOT_A_NUMBER),
        ("f:3", RejectReason.DUPLICATE_KEY),
    ]


def test_a_refused_row_does_not_use_up_its_key() -> None:
    good, refused = screen([("1", GOOD._replace(high=nan)), ("2", GOOD)], NOW)
    assert good == [GOOD]
    assert len(refused) == 1


def test_duplicates_are_seen_over_batches_when_asked_for() -> None:
    seen = SeenKeys()
    assert screen([("1", GOOD)], NOW, seen) == ([GOOD], [])
    good, refused = screen([("2", GOOD)], NOW, seen)
    assert (good, refused[0].reason) == ([], RejectReason.DUPLICATE_KEY)
    assert screen([("3", GOOD)], NOW)[0] == [GOOD]


@given(st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(0, 3000)), max_size=200))
def test_seen_keys_is_a_set(keys: list[tuple[str, int]]) -> None:
    seen, model = SeenKeys(), set()
    for symbol, minute in keys:
        assert seen.add(symbol, TS + timedelta(minutes=minute)) is ((symbol, minute) not in model)
        model.add((symbol, minute))


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_refusal_can_be_stored_as_json(bad: float) -> None:
    refused = reject(GOOD._replace(close=bad, vwap=None), "f:9", RejectReason.INFINITE)
    assert json.loads(json.dumps(dict(refused.payload), allow_nan=False))["close"] == str(bad)
    assert refused.ts == "2024-06-12T11:00:00+00:00"


@pytest.mark.parametrize("timeframe", Timeframe)
@given(ts=st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.timezones()))  # noqa: DTZ001
def test_buckets_are_aligned_to_the_epoch_in_utc(timeframe: Timeframe, ts: datetime) -> None:
    start = floor_to(ts, timeframe)
    assert start.tzinfo is UTC
    assert start.timestamp() % timeframe.delta.total_seconds() == 0
    assert start <= ts.astimezone(UTC) < start + timeframe.delta
    end = ceil_to(ts, timeframe)
    assert end - start in (timedelta(0), timeframe.delta)
    assert (end == start) == (ts.astimezone(UTC) == start)


def test_naive_times_have_no_bucket() -> None:
    with pytest.raises(ValueError, match="aware"):
        floor_to(datetime(2024, 1, 1))  # noqa: DTZ001


def test_timeframe_lengths() -> None:
    assert {timeframe.value: timeframe.minutes for timeframe in Timeframe} == {"1m": 1, "5m": 5, "1h": 60}

"""The FX week against a brute-force walk over minutes, written without looking at the module."""

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dxy_pipeline.core.clock import FixedClock, SystemClock
from dxy_pipeline.core.fx_week import (
    WEEK_MINUTES,
    is_open,
    last_open_minute_before,
    next_open,
    open_minutes,
    open_minutes_since,
    sessions,
)

NEW_YORK = ZoneInfo("America/New_York")
MINUTE = timedelta(minutes=1)
# starts near every kind of boundary: year ends of all weekdays, both daylight-saving changes, plain weeks
instants = st.one_of(
    st.datetimes(datetime(1999, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.builds(
        lambda year, hours: datetime(year, 12, 22, tzinfo=UTC) + timedelta(hours=hours),
        st.integers(1999, 2059),
        st.integers(0, 300),
    ),
    st.builds(
        lambda year, month, hours: datetime(year, month, 1, tzinfo=UTC) + timedelta(hours=hours),
        st.integers(1999, 2059),
        st.sampled_from([3, 4, 10, 11]),
        st.integers(0, 400),
    ),
)


def open_by_the_rules(ts: datetime) -> bool:
    """Each rule in words, on the New York wall clock."""
    local = ts.astimezone(NEW_YORK)
    day, time = (local.month, local.day), (local.hour, local.minute)
    if local.weekday() == 5 or (local.weekday() == 4 and time >= (17, 0)) or (local.weekday() == 6 and time < (17, 0)):
        return False
    if day in ((12, 24), (12, 31)) and time >= (13, 0):
        return False
    return not (day in ((12, 25), (1, 1)) and time < (17, 0))


def marks(start: datetime, end: datetime) -> list[datetime]:
    first = datetime.fromtimestamp(-(-start.timestamp() // 60) * 60, UTC)
    return [first + MINUTE * n for n in range(max(0, -(-(end - first) // MINUTE)))]


@given(instants)
def test_is_open_follows_the_rules(ts: datetime) -> None:
    assert is_open(ts) is open_by_the_rules(ts)


@given(instants, st.integers(0, 4000), st.integers(0, 59))
def test_open_minutes_counts_the_walk(start: datetime, length: int, seconds: int) -> None:
    end = start + MINUTE * length + timedelta(seconds=seconds)
    assert open_minutes(start, end) == sum(open_by_the_rules(mark) for mark in marks(start, end))


@given(instants, st.integers(-10, 20_000))
def test_sessions_are_disjoint_ascending_within_and_open(start: datetime, length: int) -> None:
    end = start + MINUTE * length
    found = list(sessions(start, end))
    edges = [edge for session in found for edge in session]
    assert edges == sorted(edges)
    assert len(set(edges)) == len(edges)
    for opens, closes in found:
        assert start <= opens < closes <= end
        assert opens.tzinfo is UTC
        assert open_by_the_rules(opens)
        assert open_by_the_rules(closes - timedelta(microseconds=1))
        assert closes == end or not open_by_the_rules(closes)


@given(instants, st.integers(0, 6000), st.integers(0, 6000))
def test_open_minutes_add_up(start: datetime, first: int, second: int) -> None:
    middle, end = start + MINUTE * first, start + MINUTE * (first + second)
    assert open_minutes(start, middle) + open_minutes(middle, end) == open_minutes(start, end)


@given(instants)
def test_last_open_minute_is_over_and_nothing_open_follows_it(ts: datetime) -> None:
    last = last_open_minute_before(ts)
    assert open_by_the_rules(last)
    assert last + MINUTE <= ts
    assert last.second == last.microsecond == 0
    assert open_minutes_since(last, ts) == 0
    assert open_minutes_since(last - MINUTE, ts) == 1


@given(instants)
def test_next_open(ts: datetime) -> None:
    opens = next_open(ts)
    assert open_by_the_rules(opens)
    assert opens == ts if open_by_the_rules(ts) else opens > ts
    assert open_minutes(ts, opens) == 0


@given(st.dates(date(1999, 1, 10), date(2060, 1, 1)))
def test_a_week_without_holiday_has_7200_minutes_whatever_the_clock_change(day: date) -> None:
    sunday = day - timedelta(days=(day.weekday() + 1) % 7)
    first = datetime(sunday.year, sunday.month, sunday.day, tzinfo=UTC)
    days = {(first + timedelta(days=n)).strftime("%m-%d") for n in range(-1, 8)}
    if not days & {"12-24", "12-25", "12-31", "01-01"}:
        assert open_minutes(first, first + timedelta(days=7)) == WEEK_MINUTES == 7200


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        # winter: 22:00 UTC; summer: 21:00 UTC
        ("2024-01-05 21:59", True),
        ("2024-01-05 22:00", False),
        ("2024-01-07 21:59", False),
        ("2024-01-07 22:00", True),
        ("2024-06-07 20:59", True),
        ("2024-06-07 21:00", False),
        ("2024-06-09 21:00", True),
        # clocks go forward on Sunday 10 March and back on Sunday 3 November 2024
        ("2024-03-08 21:59", True),
        ("2024-03-10 20:59", False),
        ("2024-03-10 21:00", True),
        ("2024-11-01 20:59", True),
        ("2024-11-01 21:00", False),
        ("2024-11-03 21:30", False),
        ("2024-11-03 22:00", True),
        ("2024-06-08 12:00", False),  # a Saturday
        # Christmas 2024 on a Wednesday
        ("2024-12-24 17:59", True),
        ("2024-12-24 18:00", False),
        ("2024-12-25 21:59", False),
        ("2024-12-25 22:00", True),
        ("2025-01-01 21:59", False),
        ("2025-01-01 22:00", True),
        # 24 and 31 December 2023 on a Sunday: the week opens only on Monday evening
        ("2023-12-24 22:00", False),
        ("2023-12-25 22:00", True),
        ("2023-12-31 22:30", False),
        ("2024-01-01 22:00", True),
        # 25 December 2021 and 1 January 2022 on a Saturday: Friday ends early, Sunday opens as ever
        ("2021-12-24 17:59", True),
        ("2021-12-24 18:00", False),
        ("2021-12-26 22:00", True),
        ("2021-12-31 18:00", False),
        ("2022-01-02 22:00", True),
        # 25 December 2020 on a Friday: the week is over
        ("2020-12-25 22:00", False),
        ("2020-12-27 22:00", True),
        # 25 December 2022 on a Sunday
        ("2022-12-25 21:59", False),
        ("2022-12-25 22:00", True),
        ("2023-01-01 22:00", True),
    ],
)
def test_known_instants(ts: str, expected: bool) -> None:
    assert is_open(at(ts)) is expected
    assert open_by_the_rules(at(ts)) is expected


# Written by hand in UTC from the convention (New York, Sunday 17:00 to Friday 17:00; early closings of
# Christmas Eve and New Year's Eve at 13:00) and the dates of the clock changes: nothing is computed.
WEEKS = {
    "plain winter week": [("2024-01-14 22:00", "2024-01-19 22:00")],
    "plain summer week": [("2025-07-13 21:00", "2025-07-18 21:00")],
    "forward 2024": [("2024-03-03 22:00", "2024-03-08 22:00"), ("2024-03-10 21:00", "2024-03-15 21:00")],
    "back 2024": [("2024-10-27 21:00", "2024-11-01 21:00"), ("2024-11-03 22:00", "2024-11-08 22:00")],
    "forward 2025": [("2025-03-02 22:00", "2025-03-07 22:00"), ("2025-03-09 21:00", "2025-03-14 21:00")],
    "back 2025": [("2025-10-26 21:00", "2025-10-31 21:00"), ("2025-11-02 22:00", "2025-11-07 22:00")],
    "forward 2026": [("2026-03-01 22:00", "2026-03-06 22:00"), ("2026-03-08 21:00", "2026-03-13 21:00")],
    "back 2026": [("2026-10-25 21:00", "2026-10-30 21:00"), ("2026-11-01 22:00", "2026-11-06 22:00")],
    "Europe's change alone changes nothing": [("2025-03-23 21:00", "2025-03-28 21:00"), ("2025-03-30 21:00", "2025-04-04 21:00")],
    "Christmas and New Year 2024": [
        ("2024-12-22 22:00", "2024-12-24 18:00"), ("2024-12-25 22:00", "2024-12-27 22:00"),
        ("2024-12-29 22:00", "2024-12-31 18:00"), ("2025-01-01 22:00", "2025-01-03 22:00"),
    ],
    "Christmas and New Year 2025": [
        ("2025-12-21 22:00", "2025-12-24 18:00"), ("2025-12-25 22:00", "2025-12-26 22:00"),
        ("2025-12-28 22:00", "2025-12-31 18:00"), ("2026-01-01 22:00", "2026-01-02 22:00"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("week", WEEKS)
def test_sessions_of_weeks_written_down_by_hand(week: str) -> None:
    known = [(at(opens), at(closes)) for opens, closes in WEEKS[week]]
    start, end = known[0][0] - timedelta(hours=24), known[-1][1] + timedelta(hours=24)
    assert list(sessions(start, end)) == known


def test_the_weekend_ages_nothing() -> None:
    friday = at("2024-06-07 20:59")
    assert open_minutes_since(friday, at("2024-06-09 20:00")) == 0
    assert open_minutes_since(friday, at("2024-06-09 21:00")) == 0
    assert open_minutes_since(friday, at("2024-06-09 21:05")) == 5
    assert last_open_minute_before(at("2024-06-09 12:00")) == friday
    assert next_open(at("2024-06-08 12:00")) == at("2024-06-09 21:00")


def test_century_of_sessions_is_linear_in_weeks() -> None:
    found = list(sessions(at("1970-01-01"), at("2100-01-01")))
    assert len(found) > 6800
    assert all(first[1] < second[0] for first, second in itertools.pairwise(found))


def test_clocks() -> None:
    with pytest.raises(ValueError, match="aware"):
        FixedClock(datetime(2024, 1, 1))  # noqa: DTZ001
    summer = datetime(2024, 6, 1, 8, tzinfo=NEW_YORK)
    assert FixedClock(summer).now() == summer
    assert FixedClock(summer).now().tzinfo is UTC
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(minutes=1)

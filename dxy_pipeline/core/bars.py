"""The bar contract: what a bar is, which rows are refused and why, and how time is cut into buckets.

A bar is known by its bucket's start in UTC and covers [T, T + timeframe), aligned to the epoch. Reading files, talking
to a database and the index formula do not belong here.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from dxy_pipeline.core.index import SYMBOLS

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A NUMERIC(20,8) column holds less than 10^12, and anything below half of its last decimal would be stored as zero.
PRICE_CEILING = 1e12
PRICE_FLOOR = 1e-8
TRADE_COUNT_CEILING = 2**31


class Timeframe(StrEnum):
    """The bar lengths that the pipeline makes."""

    M1 = "1m"
    M5 = "5m"
    H1 = "1h"

    @property
    def delta(self) -> timedelta:
        """The length of a bucket."""
        return timedelta(minutes={"1m": 1, "5m": 5, "1h": 60}[self.value])

    @property
    def minutes(self) -> int:
        """The length of a bucket in minutes."""
        return self.delta // MINUTE


class Bar(NamedTuple):
    """One minute bar of one FX pair.

    `ts_utc` is the bucket's start (aware, UTC); prices are quotes in market convention; `volume` is what the source
    counts (0 when it counts nothing), `vwap` and `trade_count` are None when the source has none.
    """

    symbol: str
    ts_utc: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    vwap: float | None = None
    trade_count: int | None = None


class RejectReason(StrEnum):
    """Why a row was refused; the value is what the reject table and the command line show."""

    UNPARSEABLE = "not parseable"
    NAIVE_TIME = "time without a time zone"
    MISALIGNED = "time is not at the start of a minute"
    FUTURE = "time is in the future"
    TOO_OLD = "time is before 1970"
    SYMBOL_CASE = "symbol is not in upper case"
    UNKNOWN_SYMBOL = "unknown symbol"
    MISSING = "price is missing"
    NOT_A_NUMBER = "price is not a number"
    INFINITE = "price is infinite"
    ZERO = "price is zero"
    NEGATIVE = "price is negative"
    OUT_OF_RANGE = "price is outside what the table can hold"
    OHLC_ORDER = "high and low do not enclose open and close"
    BAD_VOLUME = "volume, vwap or trade count is negative or not finite"
    DUPLICATE_KEY = "a second row for the same pair and minute"
    OUT_OF_WINDOW = "time is outside the asked range"


class Rejected(NamedTuple):
    """A refused row: where it stood (`file:line`, a page of a response), what it said, and why it was refused.

    `ts` is the time as text, as far as it was understood; `payload` is JSON-serialisable.
    """

    location: str
    symbol: str
    ts: str
    payload: Mapping[str, Any]
    reason: RejectReason


def floor_to(ts: datetime, timeframe: Timeframe = Timeframe.M1) -> datetime:
    """Return the start of the bucket that holds `ts`, aware UTC. Raises ValueError for a naive datetime."""
    if ts.tzinfo is None:
        raise ValueError(f"an aware datetime is needed, got the naive {ts.isoformat()}")
    since = ts - EPOCH
    return EPOCH + (since - since % timeframe.delta)


def ceil_to(ts: datetime, timeframe: Timeframe = Timeframe.M1) -> datetime:
    """Return the first bucket start that is not before `ts`, aware UTC. Raises ValueError for a naive datetime."""
    floor = floor_to(ts, timeframe)
    return floor if floor == ts else floor + timeframe.delta


def _price_fault(price: float | None) -> RejectReason | None:
    if price is None:
        return RejectReason.MISSING
    if PRICE_FLOOR <= price < PRICE_CEILING:
        return None
    if math.isnan(price):
        return RejectReason.NOT_A_NUMBER
    if math.isinf(price):
        return RejectReason.INFINITE
    if price == 0:
        return RejectReason.ZERO
    return RejectReason.NEGATIVE if price < 0 else RejectReason.OUT_OF_RANGE


def _time_fault(ts: datetime, now: datetime) -> RejectReason | None:
    if ts.tzinfo is None:
        return RejectReason.NAIVE_TIME
    if ts.second or ts.microsecond:
        return RejectReason.MISALIGNED
    if ts < EPOCH:
        return RejectReason.TOO_OLD
    return RejectReason.FUTURE if ts > now else None


def _symbol_fault(symbol: str) -> RejectReason | None:
    if symbol in SYMBOLS:
        return None
    return RejectReason.SYMBOL_CASE if symbol.upper() in SYMBOLS else RejectReason.UNKNOWN_SYMBOL


def _extras_fault(bar: Bar) -> RejectReason | None:
    sound = (
        bar.volume is not None
        and 0 <= bar.volume < PRICE_CEILING
        and (bar.vwap is None or 0 <= bar.vwap < PRICE_CEILING)
        and (bar.trade_count is None or 0 <= bar.trade_count < TRADE_COUNT_CEILING)
    )
    return None if sound else RejectReason.BAD_VOLUME


def validate(bar: Bar, now: datetime) -> RejectReason | None:
    """Return the first reason to refuse `bar`, or None when it may be stored.

    `now` is aware; a bar whose bucket starts after it is refused. Duplicates are a matter of a batch: see `screen`.
    """
    fault = _symbol_fault(bar.symbol) or _time_fault(bar.ts_utc, now)
    if fault:
        return fault
    for price in (bar.open, bar.high, bar.low, bar.close):
        if fault := _price_fault(price):
            return fault
    if bar.high < max(bar.open, bar.close) or bar.low > min(bar.open, bar.close):
        return RejectReason.OHLC_ORDER
    return _extras_fault(bar)


def payload_of(bar: Bar) -> dict[str, Any]:
    """Return the bar's figures as JSON-serialisable values (NaN and infinity as text, which JSON cannot carry)."""
    figures = {name: value for name, value in bar._asdict().items() if name not in ("symbol", "ts_utc")}
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
        if value is not None
    }


def reject(bar: Bar, location: str, reason: RejectReason) -> Rejected:
    """Return the refusal of a bar that was read well enough to be one."""
    return Rejected(location, bar.symbol, bar.ts_utc.isoformat(), payload_of(bar), reason)


class SeenKeys:
    """The keys met so far, as one bit for each minute of a pair's day: millions of them in a megabyte."""

    def __init__(self) -> None:
        self._days: dict[tuple[str, int], int] = {}

    def add(self, symbol: str, ts: datetime) -> bool:
        """Note the key of an aligned minute; return False when it was there already."""
        day, minute = divmod(int(ts.timestamp()) // 60, 1440)
        bits = self._days.get((symbol, day), 0)
        self._days[symbol, day] = bits | 1 << minute
        return not bits >> minute & 1


def screen(
    located: Iterable[tuple[str, Bar]], now: datetime, seen: SeenKeys | None = None
) -> tuple[list[Bar], list[Rejected]]:
    """Split `(location, bar)` pairs into the bars that may be stored and the refused ones, both in input order.

    The first sound bar of a key stays, a later one of the same pair and minute is refused. Give the same `seen` to
    several calls to hold the rule over the batches of one file.
    """
    good: list[Bar] = []
    refused: list[Rejected] = []
    seen = seen if seen is not None else SeenKeys()
    for location, bar in located:
        reason = validate(bar, now)
        if reason is None and not seen.add(bar.symbol, bar.ts_utc):
            reason = RejectReason.DUPLICATE_KEY
        if reason is None:
            good.append(bar)
        else:
            refused.append(reject(bar, location, reason))
    return good, refused

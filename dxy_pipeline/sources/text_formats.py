"""Readers of text formats: CSV with named columns, HistData, Dukascopy, MetaTrader 5.

Each is a generator of (line number, bar or fault). Whether a bar is sound is the contract's business, not theirs; they
only say what a line means: columns, time zone, units.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from dxy_pipeline.core.bars import Bar, RejectReason
from dxy_pipeline.core.fx_week import is_open
from dxy_pipeline.errors import UserError
from dxy_pipeline.sources.reading import (
    Fault,
    FileOptions,
    LocalClock,
    Row,
    count,
    known_pair,
    number,
    pair_of,
    parse_clock,
    parse_instant,
    text_lines,
)

# Documented as "Eastern Standard Time without daylight saving"; one real month fitted -4: see calibration.
HISTDATA_CLOCK = "-5"
DUKASCOPY_CLOCK = "utc"
# Most brokers end their day with New York's: its wall clock plus seven hours.
METATRADER_CLOCK = "ny+7"

ALIASES: Mapping[str, tuple[str, ...]] = {
    "time": ("ts_utc", "timestamp", "time", "datetime", "date", "ts", "t"),
    "symbol": ("canonical_symbol", "symbol", "pair", "ticker"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("vol", "volume", "v"),
    "vwap": ("vwap", "vw"),
    "trade_count": ("trade_count", "n", "transactions"),
}
PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume", "vwap")


def match_columns(path: Path, present: list[str], options: FileOptions) -> dict[str, int]:
    """Return our column name → position in the file, by the options first, then by the usual names.

    Raises UserError naming the columns that were not found and those that are there.
    """
    lowered = [name.strip().lower() for name in present]
    unknown = sorted(set(options.columns) - set(ALIASES))
    absent = sorted(name for name in options.columns.values() if name.strip().lower() not in lowered)
    if unknown or absent:
        what = f"'{unknown[0]}' is not one of our columns" if unknown else f"{path.name} has no column '{absent[0]}'"
        raise UserError(what, hint=f"ours: {', '.join(ALIASES)}; the file's: {', '.join(present)}")
    found = {ours: lowered.index(theirs.strip().lower()) for ours, theirs in options.columns.items()}
    for ours, names in ALIASES.items():
        places = [lowered.index(name) for name in names if name in lowered]
        if ours not in found and places:
            found[ours] = places[0]
    missing = [name for name in ("time", *PRICES) if name not in found]
    if missing:
        raise UserError(
            f"{path.name} has no column for {', '.join(missing)} (it has: {', '.join(present) or 'nothing'})",
            hint=f"name it: --column {missing[0]}=NAME; a file without a header is not this format",
        )
    return found


def cells_of(line: str, delimiter: str) -> list[str]:
    """Split one physical line; quotes hold within it, so a stray one spoils its own line and no other."""
    cells = next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)
    return [cell.strip() for cell in cells]


def build(symbol: str, ts: str, instant: Callable[[], datetime], cells: Mapping[str, object], line: str) -> Bar | Fault:
    """Return the bar that a row's cells make, or the fault that keeps them from being one."""
    try:
        when = instant()
        figures = [number(cells.get(name)) for name in NUMBERS]
        trades = count(cells.get("trade_count"))
    except (ValueError, OverflowError, OSError, IndexError, TypeError):
        return Fault(symbol, ts, {"line": line[:500]}, RejectReason.UNPARSEABLE)
    if when.tzinfo is None:
        return Fault(symbol, ts, {"line": line[:500]}, RejectReason.NAIVE_TIME)
    *prices, volume, vwap = figures
    opened, high, low, close = cast("list[float]", prices)  # an absent one is None until the contract refuses it
    return Bar(symbol, when, opened, high, low, close, 0.0 if volume is None else volume, vwap, trades)


def read_csv(path: Path, options: FileOptions) -> Iterator[Row]:
    """Named columns, separated by comma, semicolon or tab; times with a zone, or `clock` says which one they are in."""
    clock = parse_clock(options.clock) if options.clock else None
    with text_lines(path) as lines:
        header = next(lines, (0, ""))[1]
        delimiter = max(",;\t", key=header.count)
        places = match_columns(path, cells_of(header, delimiter), options)
        pair = "" if "symbol" in places else pair_of(path, options)
        only = known_pair(options.pair) if options.pair else None
        width = max(places.values()) + 1
        for line_number, line in lines:
            cells = cells_of(line, delimiter)
            if len(cells) < width:
                yield line_number, Fault(pair, "", {"line": line[:500]}, RejectReason.UNPARSEABLE)
                continue
            named = {name: cells[place] for name, place in places.items()}
            symbol = named.get("symbol", pair)
            if only in (None, symbol) or symbol.upper() == only:
                yield line_number, _csv_row(symbol, named, clock, line)


def _csv_row(symbol: str, named: dict[str, str], clock: LocalClock | None, line: str) -> Bar | Fault:
    return build(symbol, named["time"], lambda: parse_instant(named["time"], clock), named, line)


def read_histdata(path: Path, options: FileOptions) -> Iterator[Row]:
    """HistData M1 ASCII: `YYYYMMDD HHMMSS;open;high;low;close;volume`, no header, volume always 0."""
    clock = parse_clock(options.clock or HISTDATA_CLOCK)
    pair = pair_of(path, options)
    with text_lines(path) as lines:
        for line_number, line in lines:
            time, *rest = line.split(";")
            if len(rest) != 5:
                yield line_number, Fault(pair, time[:40], {"line": line[:500]}, RejectReason.UNPARSEABLE)
                continue
            cells = dict(zip((*PRICES, "volume"), rest, strict=True))
            yield line_number, build(pair, time, lambda t=time: clock(_compact(t)), cells, line)


def _compact(text: str) -> datetime:
    """Parse `YYYYMMDD HHMMSS`, four times faster than strptime."""
    if len(text) != 15 or text[8] != " " or not (text[:8] + text[9:]).isdecimal():
        raise ValueError(text)
    day, time = int(text[:8]), int(text[9:])
    return datetime(day // 10000, day // 100 % 100, day % 100, time // 10000, time // 100 % 100, time % 100)  # noqa: DTZ001


_DUKASCOPY_TIME = re.compile(
    r"(\d\d)\.(\d\d)\.(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?: (?:UTC|GMT)([+-]\d{4})?)?"
)


def _dukascopy_time(text: str, clock: LocalClock) -> datetime:
    """Parse `DD.MM.YYYY hh:mm:ss.000`, perhaps with `GMT+0100` after it; ISO and milliseconds since 1970 too."""
    match = _DUKASCOPY_TIME.fullmatch(text)
    if not match:
        return parse_instant(text.removesuffix(" UTC").replace(".", "-", 2) if "." in text[:5] else text, clock)
    day, month, year, hour, minute, second = (int(part) for part in match.groups()[:6])
    naive = datetime(year, month, day, hour, minute, second, int((match[7] or "0").ljust(6, "0")))  # noqa: DTZ001
    if " GMT" in text or " UTC" in text:
        sign = match[8] or "+0000"
        shift = timedelta(hours=int(sign[1:3]), minutes=int(sign[3:])) * (-1 if sign[0] == "-" else 1)
        return (naive - shift).replace(tzinfo=UTC)
    return clock(naive)


def read_dukascopy(path: Path, options: FileOptions) -> Iterator[Row]:
    """Dukascopy candles: a header, then time, bid OHLC, volume; UTC.

    Its exports fill the weekend with flat candles of no volume; those are no quotes and are left out.
    """
    clock = parse_clock(options.clock or DUKASCOPY_CLOCK)
    pair = pair_of(path, options)
    with text_lines(path) as lines:
        header = next(lines, (0, ""))[1]
        delimiter = max(",;\t", key=header.count)
        names = cells_of(header, delimiter)
        if options.clock is None and re.search(r"\b(EET|EST|CET|local)\b", names[0], re.IGNORECASE):
            raise UserError(f"{path.name} is in '{names[0]}'", hint="export it in UTC, or add --clock with its zone")
        mapped = FileOptions(columns={"time": names[0], **options.columns})
        places = match_columns(path, names, mapped)
        for line_number, line in lines:
            cells = cells_of(line, delimiter)
            if len(cells) != len(names):
                yield line_number, Fault(pair, cells[0][:40], {"line": line[:500]}, RejectReason.UNPARSEABLE)
                continue
            named = {name: cells[place] for name, place in places.items()}
            row = build(pair, named["time"], lambda n=named: _dukascopy_time(n["time"], clock), named, line)
            filler = isinstance(row, Bar) and "volume" in places and row.volume == 0 and not is_open(row.ts_utc)
            if not filler:
                yield line_number, row


def read_metatrader5(path: Path, options: FileOptions) -> Iterator[Row]:
    """MetaTrader 5 export: tab-separated `<DATE> <TIME> <OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL> …`, broker's clock."""
    clock = parse_clock(options.clock or METATRADER_CLOCK)
    pair = pair_of(path, options)
    with text_lines(path) as lines:
        names = [name.strip("<> ").lower() for name in next(lines, (0, ""))[1].split("\t")]
        if "date" not in names or "time" not in names:
            raise UserError(
                f"{path.name} is not a MetaTrader 5 export: its first line has no <DATE> and <TIME>",
                hint="in MetaTrader 5: Symbols, Bars, M1, Export Bars",
            )
        mapped = FileOptions(columns={"volume": "tickvol"} if "tickvol" in names else {})
        places = match_columns(path, names, mapped)
        places.pop("trade_count", None)
        date_at, time_at = names.index("date"), names.index("time")
        for line_number, line in lines:
            cells = line.split("\t")
            if len(cells) != len(names):
                yield line_number, Fault(pair, line[:20], {"line": line[:500]}, RejectReason.UNPARSEABLE)
                continue
            text = f"{cells[date_at].replace('.', '-')} {cells[time_at]}"
            named = {name: cells[place] for name, place in places.items()}
            yield line_number, build(pair, text, lambda t=text: clock(datetime.fromisoformat(t)), named, line)

"""What all file readers share: options, opening whatever packing a file has, clocks of local times, cells to bars.

The formats themselves are in `text_formats` and `parquet_format`, the registry and the source in `files`.
"""

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dxy_pipeline.core.bars import Bar, RejectReason
from dxy_pipeline.core.fx_week import NEW_YORK
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError

LocalClock = Callable[[datetime], datetime]


class Fault(NamedTuple):
    """A row that could not even become a bar."""

    symbol: str
    ts: str
    payload: Mapping[str, Any]
    reason: RejectReason


Row = tuple[int, Bar | Fault]


@dataclass(frozen=True)
class FileOptions:
    """How to read a file.

    `pair`: the pair of a file that has no symbol column. `clock`: the zone of local times: hours from UTC ('-5'),
    'utc', 'ny+7' (New York's wall clock plus hours) or a zone name; None takes the format's own. `columns`: our name
    (time, symbol, open, high, low, close, volume, vwap, trade_count) → the file's column. `check_level`: compare the
    level of the prices with the pair's history, to notice a file of another pair.
    """

    pair: str | None = None
    clock: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    check_level: bool = True


class Reader(NamedTuple):
    """One format: `rows` yields (line or row number, bar or fault); `minutes` says that it only knows minute bars."""

    title: str
    rows: Callable[[Path, FileOptions], Iterator[Row]]
    minutes: bool


def parse_clock(text: str) -> LocalClock:
    """Return the conversion of naive local times to aware UTC that `text` names. Raises UserError for nonsense."""
    plain = text.strip()
    if plain.lower() in ("utc", "gmt", "z"):
        return lambda ts: ts.replace(tzinfo=UTC)
    if re.fullmatch(r"[+-]?\d{1,2}(\.\d+)?", plain) and abs(float(plain)) <= 15:
        shift = timedelta(hours=float(plain))
        return lambda ts: (ts - shift).replace(tzinfo=UTC)
    if match := re.fullmatch(r"(?i)ny([+-]\d{1,2})?", plain):
        return _zone_clock(NEW_YORK, timedelta(hours=int(match[1] or 0)))
    try:
        return _zone_clock(ZoneInfo(plain), timedelta(0))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"'{text}' is not a clock", hint="give hours from UTC such as -5, or utc, ny+7, or a zone as Europe/Berlin"
        ) from error


def _zone_clock(zone: ZoneInfo, ahead: timedelta) -> LocalClock:
    @lru_cache(maxsize=4096)
    def offset_in(hour: datetime) -> timedelta:
        return (hour - ahead).replace(tzinfo=zone).utcoffset() or timedelta(0)

    def to_utc(ts: datetime) -> datetime:
        # offsets change on the hour, so an hour's offset holds for its minutes
        shift = ahead + offset_in(ts.replace(minute=0, second=0, microsecond=0))
        return (ts - shift).replace(tzinfo=UTC)

    return to_utc


def parse_instant(text: str, clock: LocalClock | None) -> datetime:
    """Return the instant that a cell names: ISO 8601, or a count since 1970 in s, ms, µs or ns by its length.

    A naive time goes through `clock`; without one it stays naive, for the contract to refuse. Raises ValueError.
    """
    if text.isdigit() and len(text) in (10, 13, 16, 19):
        whole, rest = divmod(int(text), 10 ** (len(text) - 10))
        fraction = timedelta(microseconds=rest * 10**6 // 10 ** (len(text) - 10))
        return datetime.fromtimestamp(whole, UTC) + fraction
    ts = datetime.fromisoformat(text)
    if ts.tzinfo is not None:
        return ts.astimezone(UTC)
    return clock(ts) if clock else ts


def number(cell: Any) -> float | None:
    """Return a cell as float, None when empty; 'nan' and 'inf' pass, for the contract to name. Else ValueError."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, str) and "_" in cell:
        raise ValueError(cell)  # Python reads 1_000, no exporter writes it
    return float(cell)


def count(cell: Any) -> int | None:
    """Return a cell as a whole number, None when it is empty. Raises ValueError (OverflowError for infinity)."""
    value = number(cell)
    return None if value is None else int(value)


def pair_of(path: Path, options: FileOptions) -> str:
    """Return the pair of a file without a symbol column: from the options, else from its name. UserError if unclear."""
    named = [symbol for symbol in SYMBOLS if symbol in re.sub(r"[^A-Z]", "", path.name.upper())]
    if options.pair is None:
        if len(named) == 1:
            return named[0]
        raise UserError(f"{path.name} does not say which pair it holds", hint="add --pair EURUSD (or its own pair)")
    pair = known_pair(options.pair)
    if named and pair not in named:
        raise UserError(
            f"the name of {path.name} says {named[0]}, but the pair given is {pair}",
            hint=f"use --pair {named[0]}, or rename the file",
        )
    return pair


def known_pair(text: str) -> str:
    """Return `text` when it is one of the six pairs. Raises UserError naming them."""
    if text in SYMBOLS:
        return text
    near = f"did you mean {text.upper()}? " if text.upper() in SYMBOLS else ""
    raise UserError(f"unknown pair '{text}'", hint=f"{near}the index is made of {', '.join(SYMBOLS)}")


def _bytes_of(path: Path) -> io.BufferedReader | gzip.GzipFile | zipfile.ZipExtFile:
    """Open a file through its packing, told by its first bytes and not by its name."""
    if path.is_dir():
        raise UserError(f"{path} is a directory", hint="give the file itself")
    try:
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}", hint="check the path") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    magic = stream.peek(4)[:4]
    if magic[:2] != b"\x1f\x8b" and magic != b"PK\x03\x04":
        return stream
    stream.close()
    return gzip.GzipFile(path) if magic[:2] == b"\x1f\x8b" else _zip_member(path)


def _zip_member(path: Path) -> zipfile.ZipExtFile:
    archive = zipfile.ZipFile(path)
    members = [name for name in archive.namelist() if name.lower().endswith((".csv", ".tsv", ".asc"))]
    members = members or [name for name in archive.namelist() if not name.endswith("/")]
    if len(members) != 1:
        raise UserError(f"{path} holds {len(members)} files", hint="unpack it and load them one by one")
    try:
        return cast("zipfile.ZipExtFile", archive.open(members[0]))
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or an unusual compression
        raise UserError(f"{path} cannot be unpacked: {error}", hint="unpack it and load the file inside") from error


@contextmanager
def text_lines(path: Path) -> Generator[Iterator[tuple[int, str]]]:
    """Open a text file, packed or not, as (line number, line without its end); empty lines are passed over.

    Raises UserError for a missing, empty, unreadable, binary or damaged file.
    """
    place = 0

    def numbered(stream: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
        nonlocal place
        for place, line in enumerate(stream, 1):
            if stripped := line.rstrip("\r\n"):
                yield place, stripped.replace("\0", "\ufffd")  # PostgreSQL's text holds no NUL

    try:
        with _bytes_of(path) as raw:
            head = raw.peek(4096)[:4096]
            wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
            if head[:4] == b"PAR1":
                raise UserError(f"{path} is a Parquet file", hint="use: dxy load parquet")
            if not head or (b"\0" in head and not wide):
                state = "not a text file" if head else "empty"
                raise UserError(f"{path} is {state}", hint="export or download it again as text")
            encoding = "utf-16" if wide else "utf-8-sig"
            yield numbered(io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline=None))
    except (EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is damaged after line {place}: {error}",
            hint="get the file again; loading it a second time changes nothing that is right already",
        ) from error

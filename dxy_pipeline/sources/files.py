"""Files as a source: the registry of formats, and batches of checked bars out of one file or a folder of them.

Add a format by adding a `Reader` to `READERS`; what a line of a format means is the reader's business.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice, pairwise
from pathlib import Path
from statistics import median

from dxy_pipeline.core.bars import EPOCH, MINUTE, Bar, Rejected, RejectReason, SeenKeys, screen
from dxy_pipeline.core.clock import Clock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.sources.ecb import history
from dxy_pipeline.sources.parquet_format import read_parquet
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline.sources.reading import Fault, FileOptions, Reader, Row
from dxy_pipeline.sources.text_formats import read_csv, read_dukascopy, read_histdata, read_metatrader5

READERS: dict[str, Reader] = {
    "csv": Reader("CSV with named columns", read_csv, minutes=False),
    "parquet": Reader("Parquet with named columns", read_parquet, minutes=False),
    "histdata": Reader("HistData M1 ASCII", read_histdata, minutes=True),
    "dukascopy": Reader("Dukascopy candles", read_dukascopy, minutes=True),
    "metatrader5": Reader("MetaTrader 5 export", read_metatrader5, minutes=True),
}
BATCH_ROWS = 20_000
# Fewer rows than this say nothing about a whole file.
SAMPLE_ROWS = 20
# No pair moves this far from its reference rate within days; another pair, or the inverse, mostly is this far.
LEVEL_BAND = (0.8, 1.25)
# How far another machine's clock, which stamped a file, may be off.
WRITE_SKEW = timedelta(hours=1)


def reader_named(name: str) -> Reader:
    """Return the reader of a format. Raises UserError naming those that there are."""
    if name not in READERS:
        raise UserError(f"unknown file format '{name}'", hint=f"one of: {', '.join(READERS)}")
    return READERS[name]


class FileSource:
    """One file as a source. Refused rows are named `file:line`; a wrong file raises UserError before anything is given.

    The bars of a key that comes twice in the file: the first sound one counts, the others are refused.
    """

    name = "ingest"
    feed = "file"

    def __init__(self, path: Path, file_format: str, options: FileOptions, clock: Clock) -> None:
        self.path = path
        self._format = file_format
        self._reader = reader_named(file_format)
        self._options = options
        self._clock = clock

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the file's bars of `symbols` in [start, end), aware UTC, and every row that cannot be one.

        A row of another time is passed over, good or bad; one in the future or before 1970 is refused.
        """
        now, seen = self._clock.now(), SeenKeys()
        wanted = frozenset(symbols)
        rows = self._reader.rows(self.path, self._options)
        chunk = list(islice(rows, BATCH_ROWS))
        if not chunk:
            raise UserError(f"{self.path} has no rows", hint="export or download it again")
        self._check_sample(chunk)
        while chunk:
            faults = [self._rejected(line, row) for line, row in chunk if isinstance(row, Fault)]
            bars = (
                (line, row) for line, row in chunk if isinstance(row, Bar) and _concerns(row.ts_utc, start, end, now)
            )
            good, refused = screen(((f"{self.path.name}:{line}", bar) for line, bar in bars), now, seen)
            kept = [bar for bar in good if bar.symbol in wanted]
            rejected = sorted(faults + refused, key=lambda row: int(row.location.rpartition(":")[2]))
            yield Batch(kept, rejected, progress=f"{self.path.name} line {chunk[-1][0]:,}")
            chunk = list(islice(rows, BATCH_ROWS))

    def _rejected(self, line: int, fault: Fault) -> Rejected:
        return Rejected(f"{self.path.name}:{line}", fault.symbol, fault.ts, fault.payload, fault.reason)

    def _check_sample(self, chunk: list[Row]) -> None:
        """Refuse a file whose beginning shows that it is another format, time zone, bar length or pair."""
        faults = [row for _, row in chunk if isinstance(row, Fault)]
        bars = [row for _, row in chunk if isinstance(row, Bar)]
        if not bars and len(faults) >= SAMPLE_ROWS:
            first = faults[0]
            naive = first.reason is RejectReason.NAIVE_TIME
            raise UserError(
                f"no row of {self.path.name} can be read as {self._reader.title}: {first.reason} ({first.ts[:40]!r})",
                hint="say which clock its times are in: --clock utc" if naive else "check the format: dxy load --help",
            )
        if self._reader.minutes:
            self._check_spacing([bar.ts_utc for bar in bars])
        if self._options.check_level:
            for symbol in SYMBOLS:
                check_level(self.path.name, symbol, [bar for bar in bars if bar.symbol == symbol])

    def _check_spacing(self, times: list[datetime]) -> None:
        steps = [b - a for a, b in pairwise(times) if b > a]
        if len(steps) >= SAMPLE_ROWS and min(steps) >= 5 * MINUTE:
            raise UserError(
                f"the rows of {self.path.name} are {min(steps) // MINUTE} minutes apart: these are not minute bars",
                hint="export one-minute (M1) bars",
            )


def _concerns(ts: datetime, start: datetime, end: datetime, now: datetime) -> bool:
    return ts.tzinfo is None or start <= ts < end or ts > now or ts < EPOCH


def check_level(file_name: str, symbol: str, bars: list[Bar]) -> None:
    """Raise UserError when the prices are far from the pair's reference rates of those days: another pair's file."""
    rates = {fix.day: fix.rates for fix in history().fixes}
    place = SYMBOLS.index(symbol)
    pairs = [
        (bar.close, rates[day]) for bar in bars if (day := bar.ts_utc.date()) in rates and bar.close and bar.close > 0
    ]
    if len(pairs) < SAMPLE_ROWS:
        return
    ratio = median(close / fix[place] for close, fix in pairs)
    if LEVEL_BAND[0] <= ratio <= LEVEL_BAND[1]:
        return
    like = min(SYMBOLS, key=lambda other: abs(median(c / fix[SYMBOLS.index(other)] for c, fix in pairs) - 1))
    raise UserError(
        f"the prices of {file_name} are {ratio:.2f} times the level of {symbol} on those days",
        hint=f"they look like {like}; if the file is right all the same, add --no-level-check",
    )


class FolderSource:
    """The files of a folder that fit a pattern, one after the other, each as `FileSource` reads it."""

    name = "ingest"
    feed = "file"

    def __init__(self, folder: Path, pattern: str, file_format: str, options: FileOptions, clock: Clock) -> None:
        reader_named(file_format)
        self._folder, self._pattern = folder, pattern
        self._make = lambda path: FileSource(path, file_format, options, clock)

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the bars of every file in name order. Raises UserError when the folder or the files are not there.

        A file last written before `start` cannot hold its bars and is passed over: a live tick reads what is new only.
        """
        paths = sorted(path for path in self._folder.glob(self._pattern) if path.is_file())
        if not paths:
            raise UserError(f"no file matches {self._folder / self._pattern}", hint="check folder and pattern")
        oldest = (start - WRITE_SKEW).timestamp() if start - EPOCH > WRITE_SKEW else 0
        fresh = (path for path in paths if path.stat().st_mtime >= oldest)
        yield from chain.from_iterable(self._make(path).bars(symbols, start, end) for path in fresh)

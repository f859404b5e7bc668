"""File readers: each format's clock and columns, packed files, bad rows one by one, wrong files as a whole."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dxy_pipeline.core.bars import Bar, Rejected, RejectReason
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.sources.calibration import calibrate_file, calibrate_offset
from dxy_pipeline.sources.files import READERS, FileSource, FolderSource
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline.sources.reading import FileOptions, Reader, parse_clock
from dxy_pipeline.sources.simulated import SimulatedSource

NOW = datetime(2024, 6, 12, 12, 0, tzinfo=UTC)
CLOCK = FixedClock(NOW)
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
NEW_YORK = ZoneInfo("America/New_York")
PLAIN = FileOptions()
HEADER = "time,symbol,open,high,low,close,volume\n"
T = "2024-06-10T08:{:02d}:00Z"


def simulated(start: str, hours: float, *symbols: str) -> list[Bar]:
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    source = SimulatedSource(CLOCK)
    return [row for b in source.bars(symbols or SYMBOLS, begin, begin + timedelta(hours=hours)) for row in b.rows]


def read(path: Path, file_format: str, options: FileOptions = PLAIN) -> tuple[list[Bar], list[Rejected]]:
    batches = list(FileSource(path, file_format, options, CLOCK).bars(SYMBOLS, *EVER))
    return [row for b in batches for row in b.rows], [row for b in batches for row in b.rejected]


def plain(bars: list[Bar]) -> list[tuple]:
    return [tuple(bar[:6]) for bar in bars]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def bars() -> list[Bar]:
    return simulated("2024-06-10 08:00", 3, "EURUSD")


# ------------------------------------------------------------------------------------------------- good files


def as_csv(bars: list[Bar], separator: str = ",") -> str:
    lines = [HEADER.strip().replace(",", separator)]
    lines += [
        separator.join(str(v) for v in (b.ts_utc.isoformat(), b.symbol, b.open, b.high, b.low, b.close, b.volume))
        for b in bars
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(tmp_path: Path, separator: str) -> None:
    bars = simulated("2024-06-10 08:00", 1)
    found, refused = read(write(tmp_path / "a.csv", as_csv(bars, separator)), "csv")
    assert plain(found) == plain(bars)
    assert [b.volume for b in found] == [b.volume for b in bars]
    assert refused == []


def test_csv_with_its_own_names_and_a_local_clock(tmp_path: Path, bars: list[Bar]) -> None:
    lines = ['"When","First","Top","Bottom","Last"']
    lines += [
        f'"{b.ts_utc.astimezone(ZoneInfo("Europe/Berlin")):%Y-%m-%d %H:%M:%S}",{b.open},{b.high},{b.low},"{b.close}"'
        for b in bars
    ]
    columns = {"time": "when", "open": "First", "high": "Top", "low": "Bottom", "close": "Last"}
    options = FileOptions(pair="EURUSD", clock="Europe/Berlin", columns=columns)
    found, refused = read(write(tmp_path / "a.csv", "\r\n".join(lines)), "csv", options)
    assert plain(found) == plain(bars)
    assert refused == []


@pytest.mark.parametrize("factor", [1, 1_000, 1_000_000, 1_000_000_000])
def test_csv_with_counted_time(tmp_path: Path, bars: list[Bar], factor: int) -> None:
    lines = ["t,o,h,l,c"] + [f"{int(b.ts_utc.timestamp()) * factor},{b.open},{b.high},{b.low},{b.close}" for b in bars]
    found, _ = read(write(tmp_path / "EURUSD.csv", "\n".join(lines)), "csv")
    assert plain(found) == plain(bars)


@pytest.mark.parametrize("packing", ["gz", "zip", "utf-16", "utf-8 with mark"])
def test_packed_and_encoded_files(tmp_path: Path, bars: list[Bar], packing: str) -> None:
    text, path = as_csv(bars), tmp_path / "EURUSD.csv"
    if packing == "gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif packing == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("DAT_EURUSD.csv", text)
            archive.writestr("DAT_EURUSD.txt", "a report about gaps")
    else:
        path.write_text(text, encoding="utf-16" if packing == "utf-16" else "utf-8-sig")
    assert plain(read(path, "csv")[0]) == plain(bars)


def histdata(bars: list[Bar], offset: float) -> str:
    shift = timedelta(hours=offset)
    return "".join(f"{b.ts_utc + shift:%Y%m%d %H%M%S};{b.open};{b.high};{b.low};{b.close};0\n" for b in bars)


@pytest.mark.parametrize(("clock", "offset"), [(None, -5), ("-4", -4), ("utc", 0), ("+5.5", 5.5)])
def test_histdata(tmp_path: Path, bars: list[Bar], clock: str | None, offset: float) -> None:
    path = write(tmp_path / "DAT_ASCII_EURUSD_M1_2024.csv", histdata(bars, offset))
    found, refused = read(path, "histdata", FileOptions(clock=clock))
    assert plain(found) == plain(bars)
    assert {bar.volume for bar in found} == {0.0}
    assert refused == []


DUKASCOPY = {
    "classic": ("Gmt time,Open,High,Low,Close,Volume", lambda ts: f"{ts:%d.%m.%Y %H:%M:%S.000}"),
    "with zone": (
        "Local time,Open,High,Low,Close,Volume",
        lambda ts: f"{ts.astimezone(ZoneInfo('Europe/Paris')):%d.%m.%Y %H:%M:%S.000} GMT+0200",
    ),
    "utc": ("UTC,Open,High,Low,Close,Volume", lambda ts: f"{ts:%d.%m.%Y %H:%M:%S.000} UTC"),
    "dots": ("Time (UTC),Open,High,Low,Close,Volume", lambda ts: f"{ts:%Y.%m.%d %H:%M:%S}"),
    "counted": ("timestamp,open,high,low,close,volume", lambda ts: str(int(ts.timestamp() * 1000))),
}


@pytest.mark.parametrize("kind", DUKASCOPY)
def test_dukascopy(tmp_path: Path, bars: list[Bar], kind: str) -> None:
    header, stamp = DUKASCOPY[kind]
    lines = [header] + [f"{stamp(b.ts_utc)},{b.open},{b.high},{b.low},{b.close},{b.volume}" for b in bars]
    saturday = datetime(2024, 6, 8, 12, tzinfo=UTC)
    lines.insert(1, f"{stamp(saturday)},1.08,1.08,1.08,1.08,0")
    options = FileOptions(clock="utc" if kind == "with zone" else None)
    found, refused = read(write(tmp_path / "EURUSD_Candlestick_1_M_BID.csv", "\n".join(lines)), "dukascopy", options)
    assert plain(found) == plain(bars)  # the week-end filler is left out
    assert refused == []


def test_dukascopy_in_another_clock_is_refused_unless_named(tmp_path: Path, bars: list[Bar]) -> None:
    lines = ["Time (EET),Open,High,Low,Close,Volume"]
    kyiv = ZoneInfo("Europe/Kyiv")
    lines += [
        f"{b.ts_utc.astimezone(kyiv):%Y.%m.%d %H:%M:%S},{b.open},{b.high},{b.low},{b.close},{b.volume}" for b in bars
    ]
    path = write(tmp_path / "EURUSD.csv", "\n".join(lines))
    with pytest.raises(UserError, match=r"Time \(EET\)"):
        read(path, "dukascopy")
    assert plain(read(path, "dukascopy", FileOptions(clock="Europe/Kyiv"))[0]) == plain(bars)


def metatrader(bars: list[Bar]) -> str:
    lines = ["<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"]
    for b in bars:
        local = b.ts_utc.astimezone(NEW_YORK).replace(tzinfo=None) + timedelta(hours=7)
        lines.append(
            f"{local:%Y.%m.%d}\t{local:%H:%M:%S}\t{b.open}\t{b.high}\t{b.low}\t{b.close}\t{b.volume:.0f}\t0\t3"
        )
    return "\n".join(lines)


@pytest.mark.parametrize("start", ["2024-03-08 12:00", "2024-03-10 20:00", "2023-11-03 12:00", "2023-11-05 20:00"])
def test_metatrader5_over_the_clock_changes(tmp_path: Path, start: str) -> None:
    bars = simulated(start, 24, "EURUSD")
    found, refused = read(write(tmp_path / "EURUSD_M1.csv", metatrader(bars)), "metatrader5")
    assert plain(found) == plain(bars)
    assert [b.volume for b in found] == [b.volume for b in bars]
    assert refused == []


@pytest.mark.parametrize("kind", ["aware", "naive", "nanoseconds", "text", "counted", "decimal"])
def test_parquet(tmp_path: Path, bars: list[Bar], kind: str) -> None:
    times: list = [b.ts_utc for b in bars]
    column = pa.array(times, pa.timestamp("us", "UTC"))
    if kind == "naive":
        column = pa.array([t.astimezone(NEW_YORK).replace(tzinfo=None) for t in times], pa.timestamp("ms"))
    elif kind == "nanoseconds":
        column = pa.array(times, pa.timestamp("ns", "America/New_York"))
    elif kind == "text":
        column = pa.array([t.isoformat() for t in times])
    elif kind == "counted":
        column = pa.array([int(t.timestamp() * 1000) for t in times])
    prices = {n: pa.array([getattr(b, n) for b in bars]) for n in ("open", "high", "low", "close")}
    if kind == "decimal":
        prices = {n: a.cast(pa.decimal128(20, 8)) for n, a in prices.items()}
    table = pa.table({"ts_utc": column, "symbol": [b.symbol for b in bars], **prices, "extra": ["x"] * len(bars)})
    pq.write_table(table, tmp_path / "a.parquet")
    options = FileOptions(clock="America/New_York" if kind == "naive" else None)
    found, refused = read(tmp_path / "a.parquet", "parquet", options)
    assert plain(found) == plain(bars)
    assert refused == []


def test_one_pair_out_of_many(tmp_path: Path) -> None:
    bars = simulated("2024-06-10 08:00", 1)
    path = write(tmp_path / "a.csv", as_csv(bars))
    assert plain(read(path, "csv", FileOptions(pair="USDSEK"))[0]) == plain([b for b in bars if b.symbol == "USDSEK"])
    source = FileSource(path, "csv", PLAIN, CLOCK)
    start = datetime(2024, 6, 10, 8, 10, tzinfo=UTC)
    (batch,) = source.bars(("USDCHF",), start, start + timedelta(minutes=3))
    expected = [b for b in bars if b.symbol == "USDCHF" and start <= b.ts_utc < start + timedelta(minutes=3)]
    assert plain(batch.rows) == plain(expected)


def test_folder(tmp_path: Path) -> None:
    euro, franc = simulated("2024-06-10 08:00", 1, "EURUSD"), simulated("2024-06-10 08:00", 1, "USDCHF")
    write(tmp_path / "b_USDCHF.csv", histdata(franc, -5))
    write(tmp_path / "a_EURUSD.csv", histdata(euro, -5))
    (tmp_path / "sub.csv").mkdir()
    source = FolderSource(tmp_path, "*.csv", "histdata", PLAIN, CLOCK)
    rows = [row for batch in source.bars(SYMBOLS, *EVER) for row in batch.rows]
    assert plain(rows) == plain(euro + franc)
    written = datetime(2024, 6, 10, 8, 30, tzinfo=UTC).timestamp()
    os.utime(tmp_path / "b_USDCHF.csv", (written, written))
    late = datetime(2024, 6, 10, 9, 45, tzinfo=UTC)
    with_times = [tuple(batch.rows) for batch in source.bars(SYMBOLS, late, late + timedelta(hours=1))]
    assert len(with_times) == 1  # the other was written long before the range
    with pytest.raises(UserError, match="no file matches"):
        list(FolderSource(tmp_path, "*.txt", "csv", PLAIN, CLOCK).bars(SYMBOLS, *EVER))


# ------------------------------------------------------------------------------------------------- bad rows

BAD_ROWS = {
    "nan": (f"{T.format(1)},EURUSD,1.08,1.09,1.07,nan,1", RejectReason.NOT_A_NUMBER),
    "infinity": (f"{T.format(1)},EURUSD,1.08,inf,1.07,1.08,1", RejectReason.INFINITE),
    "zero": (f"{T.format(1)},EURUSD,1.08,1.09,0,1.08,1", RejectReason.ZERO),
    "negative": (f"{T.format(1)},EURUSD,-1.08,1.09,1.07,1.08,1", RejectReason.NEGATIVE),
    "empty price": (f"{T.format(1)},EURUSD,1.08,1.09,1.07,,1", RejectReason.MISSING),
    "high below low": (f"{T.format(1)},EURUSD,1.08,1.06,1.09,1.08,1", RejectReason.OHLC_ORDER),
    "misaligned": ("2024-06-10T08:01:30Z,EURUSD,1.08,1.09,1.07,1.08,1", RejectReason.MISALIGNED),
    "future": ("2024-06-13T08:01:00Z,EURUSD,1.08,1.09,1.07,1.08,1", RejectReason.FUTURE),
    "long ago": ("0024-06-13T08:01:00Z,EURUSD,1.08,1.09,1.07,1.08,1", RejectReason.TOO_OLD),
    "no zone": ("2024-06-10T08:01:00,EURUSD,1.08,1.09,1.07,1.08,1", RejectReason.NAIVE_TIME),
    "lower case": (f"{T.format(1)},eurusd,1.08,1.09,1.07,1.08,1", RejectReason.SYMBOL_CASE),
    "other pair": (f"{T.format(1)},EURGBP,1.08,1.09,1.07,1.08,1", RejectReason.UNKNOWN_SYMBOL),
    "duplicate": (f"{T.format(0)},EURUSD,1.08,1.09,1.07,1.085,1", RejectReason.DUPLICATE_KEY),
    "no number": (f"{T.format(1)},EURUSD,1.08,abc,1.07,1.08,1", RejectReason.UNPARSEABLE),
    "underscore": (f"{T.format(1)},EURUSD,1_0,11,9,10,1", RejectReason.UNPARSEABLE),
    "no date": ("yesterday,EURUSD,1.08,1.09,1.07,1.08,1", RejectReason.UNPARSEABLE),
    "31 June": ("2024-06-31T08:01:00Z,EURUSD,1.08,1.09,1.07,1.08,1", RejectReason.UNPARSEABLE),
    "too short": (f"{T.format(1)},EURUSD,1.08", RejectReason.UNPARSEABLE),
    "stray quote": (f'{T.format(1)},EURUSD,"1.08,1.09,1.07,1.08,1', RejectReason.UNPARSEABLE),
    "garbage": ("\x7f\x01??", RejectReason.UNPARSEABLE),
    "huge": (f"{T.format(1)},EURUSD,1e300,1e300,1e300,1e300,1", RejectReason.OUT_OF_RANGE),
    "negative volume": (f"{T.format(1)},EURUSD,1.08,1.09,1.07,1.08,-1", RejectReason.BAD_VOLUME),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_refused_with_its_line_and_the_others_stay(tmp_path: Path, kind: str) -> None:
    line, reason = BAD_ROWS[kind]
    good = "{},EURUSD,1.08,1.09,1.07,1.08,1\n"
    text = HEADER + good.format(T.format(0)) + line + "\n" + good.format(T.format(2))
    found, refused = read(write(tmp_path / "a.csv", text), "csv")
    assert [bar.ts_utc.minute for bar in found] == [0, 2]
    assert [(r.location, r.reason) for r in refused] == [("a.csv:3", reason)]
    json.dumps(dict(refused[0].payload), allow_nan=False)


def test_bytes_that_are_no_text_spoil_their_own_line_only(tmp_path: Path) -> None:
    good = "EURUSD,1.08,1.09,1.07,1.08,1\n"
    filler = "".join(f"2024-06-10T09:{n:02d}:00Z,{good}" for n in range(60)) * 3
    path = tmp_path / "a.csv"
    path.write_bytes(
        (HEADER + filler).encode() + b"\xff\xfe\x00,EUR\x00USD,1,1,1,1,1\n" + f"{T.format(5)},{good}".encode()
    )
    found, refused = read(path, "csv")
    assert len(found) == 61
    assert refused[-1].reason is RejectReason.UNPARSEABLE
    assert "\0" not in refused[-1].symbol + str(refused[-1].payload)


def test_parquet_bad_rows(tmp_path: Path) -> None:
    ts = datetime(2024, 6, 10, 8, 0, tzinfo=UTC)
    minute = timedelta(minutes=1)
    table = pa.table(
        {
            "time": pa.array([ts, None, ts + 2 * minute, ts + 3 * minute, ts, ts + 5 * minute]),
            "symbol": ["EURUSD", "EURUSD", "EURUSD", "eurusd", "EURUSD", None],
            **dict.fromkeys(("open", "high", "low"), [1.08] * 6),
            "close": [1.08, 1.08, None, 1.08, 1.08, 1.08],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found, refused = read(tmp_path / "a.parquet", "parquet")
    assert len(found) == 1
    assert [(r.location.partition(":")[2], r.reason) for r in refused] == [
        ("2", RejectReason.UNPARSEABLE),
        ("3", RejectReason.MISSING),
        ("4", RejectReason.SYMBOL_CASE),
        ("5", RejectReason.DUPLICATE_KEY),
        ("6", RejectReason.UNKNOWN_SYMBOL),
    ]


def test_histdata_bad_rows(tmp_path: Path) -> None:
    text = "20240610 080000;1;1;1;1;0\n20240610 0801;1;1;1;1;0\n20241310 080200;1;1;1;1;0\n20240610 080300;1;1;1\n"
    found, refused = read(write(tmp_path / "EURUSD.csv", text), "histdata")
    assert len(found) == 1
    assert [(r.location, r.reason) for r in refused] == [
        (f"EURUSD.csv:{line}", RejectReason.UNPARSEABLE) for line in (2, 3, 4)
    ]


def test_duplicates_are_found_over_batches(tmp_path: Path, bars: list[Bar], monkeypatch) -> None:
    monkeypatch.setattr("dxy_pipeline.sources.files.BATCH_ROWS", 7)
    found, refused = read(write(tmp_path / "a.csv", as_csv(bars + bars[:20])), "csv")
    assert plain(found) == plain(bars)
    assert {r.reason for r in refused} == {RejectReason.DUPLICATE_KEY}
    assert len(refused) == 20


# ------------------------------------------------------------------------------------------------- wrong files


def damaged_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(as_csv(simulated("2024-06-10 08:00", 3)).encode())[:-500])


def not_really_zip(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 but no more")


def two_files_in_a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", HEADER)
        archive.writestr("b.csv", HEADER)


def parquet_file(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


WRONG_FILES = {
    "missing": ("csv", lambda path: None, "there is no file"),
    "missing parquet": ("parquet", lambda path: None, "there is no file"),
    "directory": ("csv", lambda path: path.mkdir(), "is a directory"),
    "empty": ("csv", lambda path: path.write_bytes(b""), "empty"),
    "empty gzip": ("csv", lambda path: path.write_bytes(gzip.compress(b"")), "empty"),
    "header only": ("csv", lambda path: path.write_text(HEADER), "no rows"),
    "binary": ("csv", lambda path: path.write_bytes(bytes(range(256)) * 20), "not a text file"),
    "parquet as csv": ("csv", parquet_file, "is a Parquet file"),
    "csv as parquet": ("parquet", lambda path: path.write_text(HEADER * 30), "cannot be read as Parquet"),
    "missing columns": (
        "csv",
        lambda path: path.write_text("time,symbol,open\n1,2,3\n"),
        "no column for high, low, close",
    ),
    "parquet without columns": ("parquet", parquet_file, "no column for time"),
    "no header": ("csv", lambda path: path.write_text("20240610 080000;1;1;1;1;0\n"), "no column for time"),
    "damaged gzip": ("csv", damaged_gzip, "is damaged after line"),
    "no zip": ("csv", not_really_zip, "is damaged after line 0"),
    "two in a zip": ("csv", two_files_in_a_zip, "holds 2 files"),
    "ticks as histdata": (
        "histdata",
        lambda path: path.write_text("20240610 080000123,1.08,1.081,0\n" * 30),
        "no row of .* can be read as HistData",
    ),
    "naive times": (
        "csv",
        lambda path: path.write_text(HEADER + "2024-06-10 08:00,EURUSD,1,1,1,1,1\n" * 30),
        "time without a time zone",
    ),
    "no metatrader": ("metatrader5", lambda path: path.write_text(HEADER), "not a MetaTrader 5 export"),
    "hours": (
        "histdata",
        lambda path: path.write_text(
            "".join(f"202406{10 + n // 24} {n % 24:02d}0000;1.08;1.08;1.08;1.08;0\n" for n in range(40))
        ),
        "60 minutes apart",
    ),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_one_line_that_says_what_to_do(tmp_path: Path, kind: str) -> None:
    file_format, make, message = WRONG_FILES[kind]
    path = tmp_path / "EURUSD.csv"
    make(path)
    with pytest.raises(UserError, match=message) as caught:
        read(path, file_format)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_wrong_pair_by_name_and_by_level(tmp_path: Path, bars: list[Bar]) -> None:
    named = write(tmp_path / "DAT_USDJPY_M1.csv", histdata(bars, -5))
    with pytest.raises(UserError, match="says USDJPY, but the pair given is EURUSD"):
        read(named, "histdata", FileOptions(pair="EURUSD"))
    with pytest.raises(UserError, match="times the level of USDJPY") as caught:
        read(named, "histdata")
    assert "look like EURUSD" in caught.value.hint
    assert len(read(named, "histdata", FileOptions(check_level=False))[0]) == len(bars)


@pytest.mark.parametrize(
    ("pair", "message"), [(None, "which pair"), ("eurusd", "unknown pair"), ("EURGBP", "unknown pair")]
)
def test_the_pair_has_to_be_known(tmp_path: Path, bars: list[Bar], pair: str | None, message: str) -> None:
    path = write(tmp_path / "data.csv", histdata(bars, -5))
    with pytest.raises(UserError, match=message):
        read(path, "histdata", FileOptions(pair=pair))


@pytest.mark.parametrize(
    ("columns", "message"), [({"time": "zeit"}, "no column 'zeit'"), ({"clos": "close"}, "not one of our columns")]
)
def test_wrong_column_settings(tmp_path: Path, bars: list[Bar], columns: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / "a.csv", as_csv(bars)), "csv", FileOptions(columns=columns))


@pytest.mark.parametrize("text", ["99", "Europe/Atlantis", "", "../etc/passwd", "ny+x"])
def test_nonsense_clocks(text: str) -> None:
    with pytest.raises(UserError, match="is not a clock"):
        parse_clock(text)


def test_an_unknown_format_names_those_that_there_are() -> None:
    with pytest.raises(UserError, match="unknown file format") as caught:
        FileSource(Path("x"), "excel", PLAIN, CLOCK)
    assert "histdata" in caught.value.hint


def test_a_format_can_be_added(tmp_path: Path, bars: list[Bar], monkeypatch) -> None:
    def rows(path: Path, options: FileOptions) -> Iterator[tuple[int, Bar]]:
        yield from enumerate(bars, 1)

    monkeypatch.setitem(READERS, "own", Reader("Our own", rows, minutes=True))
    assert read(tmp_path / "x", "own")[0] == bars


# ------------------------------------------------------------------------------------------------- size, offset


@pytest.mark.parametrize("days", [140, pytest.param(1389, marks=pytest.mark.deep)])
def test_a_long_file_is_read_in_flat_memory(tmp_path: Path, days: int) -> None:
    path = tmp_path / "EURUSD.csv.gz"
    start = datetime(2018, 1, 1)  # noqa: DTZ001
    with gzip.open(path, "wt", compresslevel=1) as file:
        for day in range(days):
            stamp = f"{start + timedelta(days=day):%Y%m%d}"
            file.write("".join(f"{stamp} {m // 60:02d}{m % 60:02d}00;1.15;1.16;1.14;1.15;0\n" for m in range(1440)))
    program = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from dxy_pipeline.core.clock import SystemClock; from dxy_pipeline.core.index import SYMBOLS\n"
        "from dxy_pipeline.sources.files import FileSource; from dxy_pipeline.sources.reading import FileOptions\n"
        "source = FileSource(Path(sys.argv[1]), 'histdata', FileOptions(), SystemClock())\n"
        "ever = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)\n"
        # ru_maxrss would inherit the test process's own peak
        "def peak(status=Path('/proc/self/status')):\n"
        "    if status.exists():\n"
        "        return next(line.split()[1] for line in status.read_text().splitlines() if line.startswith('VmHWM'))\n"
        "    import resource\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "print(sum(len(b.rows) for b in source.bars(SYMBOLS, *ever)))\n"
        "print(peak())\n"
    )
    made = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    rows, kilobytes = (int(line) for line in made.stdout.split())
    assert rows == days * 1440
    assert kilobytes < 300_000


@pytest.mark.parametrize("offset", [-5, -4, 0, 3, 5.5])
@pytest.mark.parametrize("reference", ["USDCHF", "EURUSD", "USDSEK"])
def test_calibration_finds_the_offset(offset: float, reference: str) -> None:
    euro, other = simulated("2024-06-10 06:00", 30, "EURUSD"), simulated("2024-06-10 06:00", 30, reference)
    frame = pd.DataFrame(
        {
            "time": [b.ts_utc.replace(tzinfo=None) + timedelta(hours=offset) for b in euro],
            "close": [b.close for b in euro],
        }
    )
    known = pd.DataFrame({"ts_utc": [b.ts_utc for b in other], "close": [b.close for b in other]})
    found = calibrate_offset(frame, known)
    assert found.offset_hours == offset
    assert abs(found.correlation) > 3 * abs(found.runner_up)


def test_calibration_refuses_what_it_cannot_tell() -> None:
    euro = simulated("2024-06-10 06:00", 30, "EURUSD")
    frame = pd.DataFrame({"time": [b.ts_utc.replace(tzinfo=None) for b in euro], "close": [b.close for b in euro]})
    known = pd.DataFrame({"ts_utc": [b.ts_utc for b in euro], "close": [b.close for b in euro]})
    with pytest.raises(UserError, match="too few minutes"):
        calibrate_offset(frame, known.assign(ts_utc=known["ts_utc"] + timedelta(days=90)))
    shuffled = known.assign(close=known["close"].sample(frac=1, random_state=1).to_numpy())
    with pytest.raises(UserError, match="no UTC offset fits"):
        calibrate_offset(frame, shuffled)


def test_calibration_of_a_file(tmp_path: Path) -> None:
    euro = simulated("2024-06-10 06:00", 30, "EURUSD")
    others = simulated("2024-06-10 06:00", 30, "USDCHF", "USDSEK")
    path = write(tmp_path / "EURUSD.csv", histdata(euro, -4))

    def stored(start: datetime, end: datetime) -> list[tuple[str, datetime, float]]:
        return [(b.symbol, b.ts_utc, b.close) for b in others if start <= b.ts_utc < end]

    assert calibrate_file(path, "histdata", PLAIN, stored).offset_hours == -4
    with pytest.raises(UserError, match="no bars of these days"):
        calibrate_file(path, "histdata", replace(PLAIN, clock="auto"), lambda *_: [])
    assert isinstance(next(FileSource(path, "histdata", PLAIN, CLOCK).bars(SYMBOLS, *EVER)), Batch)

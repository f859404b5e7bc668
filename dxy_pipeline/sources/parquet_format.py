"""Reader of Parquet files with named columns, a record batch at a time so that memory stays flat."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dxy_pipeline.core.bars import Bar
from dxy_pipeline.errors import UserError
from dxy_pipeline.sources.reading import (
    Fault,
    FileOptions,
    LocalClock,
    Row,
    known_pair,
    pair_of,
    parse_clock,
    parse_instant,
)
from dxy_pipeline.sources.text_formats import build, match_columns

BATCH_ROWS = 20_000


def read_parquet(path: Path, options: FileOptions) -> Iterator[Row]:
    """Named columns as in CSV; row numbers count from 1.

    Times are timestamps (with a zone, or `clock` says which one), text, or a count since 1970.
    Raises UserError for a file that is missing, no Parquet, damaged, empty or without the columns.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}", hint="check the path")
    clock = parse_clock(options.clock) if options.clock else None
    row_number = 0
    try:
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            names = file.schema_arrow.names
            places = match_columns(path, names, options)
            pair = "" if "symbol" in places else pair_of(path, options)
            only = known_pair(options.pair) if options.pair else None
            columns = {ours: names[place] for ours, place in places.items()}
            if not file.metadata.num_rows:
                raise UserError(f"{path} has no rows", hint="export or download it again")
            for batch in file.iter_batches(BATCH_ROWS, columns=sorted(set(columns.values()))):
                data = {ours: _values(batch.column(theirs)) for ours, theirs in columns.items()}
                for cells in zip(*data.values(), strict=True):
                    row_number += 1
                    named = dict(zip(data, cells, strict=True))
                    symbol = _storable(named.get("symbol") or pair)
                    if only in (None, symbol) or symbol.upper() == only:
                        yield row_number, _row(symbol, named, clock)
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as Parquet after row {row_number}: {reason}", hint="get the file again"
        ) from error


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):  # nanoseconds would come back as a slow type of another library
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    return column.to_pylist()


def _storable(value: object) -> str:
    return str(value).replace("\0", "\ufffd")  # PostgreSQL's text holds no NUL


def _row(symbol: str, named: dict[str, Any], clock: LocalClock | None) -> Bar | Fault:
    ts = named["time"]

    def instant() -> datetime:
        if isinstance(ts, datetime):
            if ts.tzinfo is not None:
                return ts.astimezone(UTC)
            return clock(ts) if clock else ts
        return parse_instant(str(ts), clock)

    row = build(symbol, _storable(ts), instant, named, "")
    if isinstance(row, Fault):
        return row._replace(payload={name: _storable(value) for name, value in named.items()})
    return row

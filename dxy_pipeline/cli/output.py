"""How a command shows its result: one function prints a report as a table or as JSON.

Belongs here: formatting of any report. Does not belong here: what a report says, exit codes.
Results go to stdout; progress and remarks go to stderr, so that `--json` can be piped.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn
from rich.table import Table

from dxy_pipeline.settings import redact

PIPED_WIDTH: Final = 200  # a table that is not on a screen is not cut to 80 columns

Row = Mapping[str, Any]


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the root command; rich would exit with 1, which means unhealthy here."""
        raise BrokenPipeError


@cache
def console(*, stderr: bool = False) -> Console:
    """Return the console of stdout or stderr."""
    found = _Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else _Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


def note(line: str) -> None:
    """Print one line of progress or a remark to stderr."""
    console(stderr=True).print(escape(redact(line)), style="dim", soft_wrap=True)


def progress_bar(*columns: ProgressColumn | str) -> Progress:
    """Return a progress display on stderr that goes away at its end; where stderr is no screen, none at all."""
    found = console(stderr=True)
    return Progress(*columns, console=found, transient=True, disable=not found.is_terminal)


def emit(report: Row | Sequence[Row], *, as_json: bool = False, title: str = "") -> None:
    """Print a report to stdout: a mapping as a list of names and values, a sequence of mappings as a table of rows.

    `as_json`: the same as JSON; datetimes as ISO in UTC, Decimals as numbers, NaN as null.
    """
    if as_json:
        print(to_json(report))
    elif isinstance(report, Mapping):
        console().print(table([{"": name, " ": value} for name, value in report.items()], title=title, header=False))
    else:
        console().print(table(report, title=title))


def table(rows: Sequence[Row], *, title: str = "", header: bool = True) -> Table:
    """Return a table of `rows`; the columns are the first row's keys, numbers are set to the right."""
    made = Table(title=title or None, title_justify="left", show_header=header, header_style="bold")
    columns = list(rows[0]) if rows else []
    for name in columns:
        values = [row.get(name) for row in rows]
        numeric = header and any(_is_number(v) for v in values) and all(v is None or _is_number(v) for v in values)
        made.add_column(escape(name), justify="right" if numeric else "left")
    for row in rows:
        made.add_row(*(escape(cell(row.get(name))) for name in columns))
    return made


def cell(value: Any) -> str:  # noqa: PLR0911 - one line for each kind
    """Return a value as it stands in a table: UTC times to the second, thousands grouped, up to 8 decimals."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Enum():
            return cell(value.value)
        case int():
            return f"{value:,}"
        case float() | Decimal():
            whole, _, decimals = f"{value:,.8f}".partition(".")
            return f"{whole}.{decimals.rstrip('0')}".rstrip(".")
        case datetime():
            return _utc(value).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00") + "Z"
        case timedelta():
            return str(value)
        case Mapping():
            return ", ".join(f"{name} {cell(item)}" for name, item in value.items())
        case list() | tuple() | Set():
            return ", ".join(map(cell, value))
        case _:
            return redact(str(value))


def to_json(value: Any) -> str:
    """Return `value` as JSON text. Raises TypeError for what has no JSON form, ValueError for a naive datetime."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind
    match value:
        case Enum():
            return _plain(value.value)
        case None | bool() | int():
            return value
        case str():
            return redact(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return _plain(float(value)) if value != value.to_integral_value() else int(value)
        case datetime():
            return _utc(value).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Path():
            return str(value)
        case _:
            return _plain_container(value)


def _plain_container(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items()}
        case Set():
            return sorted(map(_plain, value))
        case list() | tuple():
            return list(map(_plain, value))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
        case _:
            raise TypeError(f"no JSON form for {type(value).__name__}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"a naive datetime has no place in a report: {value.isoformat()}")
    return value.astimezone(UTC)

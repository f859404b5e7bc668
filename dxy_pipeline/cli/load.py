"""`dxy load`: FX minutes from files, the ECB's rates, the Massive API or the simulation into the database.

Thin: which source with which options. Storing and showing is `cli/loading.py`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from psycopg import Connection

from dxy_pipeline import bar_store
from dxy_pipeline.cli.loading import run
from dxy_pipeline.cli.output import note
from dxy_pipeline.cli.period import instant
from dxy_pipeline.core.clock import Clock, SystemClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources.protocol import FxSource
from dxy_pipeline.sources.reading import FileOptions, known_pair

EVER = datetime(1970, 1, 1, tzinfo=UTC)

app = typer.Typer(no_args_is_help=True, add_completion=False)

FILES = typer.Argument(..., help="One or more files, also packed as .gz or .zip.", show_default=False)
PAIR = typer.Option(None, "--pair", help="The pair of the file, if it has no symbol column and its name does not say.")
CLOCK = typer.Option(
    None, "--clock", "--offset", help="The clock of its times: hours from UTC (-5), utc, ny+7, Europe/Berlin, or auto."
)
COLUMN = typer.Option([], "--column", help="OURS=THEIRS, for example time=Date; may be repeated.")
FROM = typer.Option(None, "--from", help="First day or instant (UTC) to load.")
TO = typer.Option(None, "--to", help="End of the range (UTC), itself not loaded.")
PAIRS = typer.Option([], "--pair", help="Load only this pair; may be repeated.")
LEVEL = typer.Option(True, "--level-check/--no-level-check", help="Compare prices with the pair's reference rates.")
ACCEPT = typer.Option(False, "--accept-refused", help="Exit with 0 although rows were refused, if others were good.")
JSON = typer.Option(False, "--json", help="Print the result as JSON.")


@app.callback()
def group() -> None:
    """Load FX minutes. Refused rows are shown with reasons and kept in dxy.rejected_bar; the others are stored.

    Exits 0 when every row was good, 1 when some were refused, 2 when none was good or the file is a wrong one.
    """


def _file_command(file_format: str, title: str) -> None:
    def load(
        files: list[Path] = FILES,
        pair: str | None = PAIR,
        clock: str | None = CLOCK,
        column: list[str] = COLUMN,
        start: str | None = FROM,
        end: str | None = TO,
        level_check: bool = LEVEL,
        accept_refused: bool = ACCEPT,
        as_json: bool = JSON,
    ) -> None:
        from dxy_pipeline.sources.files import FileSource  # noqa: PLC0415 - a second, for Parquet's library

        options = FileOptions(pair, clock, _columns(column), level_check)
        window = _window(start, end, SystemClock())

        def sources(conn: Connection[Any]) -> list[FxSource]:
            chosen = _calibrated(conn, files, file_format, options) if clock == "auto" else options
            return [FileSource(path, file_format, chosen, SystemClock()) for path in files]

        run(sources, SYMBOLS, window, accept_refused=accept_refused, as_json=as_json)

    load.__doc__ = f"{title}. A wrong file is refused whole; bad rows are refused one by one."
    app.command(file_format)(load)


for _format, _title in {
    "csv": "CSV with named columns (time, open, high, low, close; perhaps symbol, volume)",
    "parquet": "Parquet with named columns, as for csv",
    "histdata": "HistData M1 ASCII; UTC-5 unless --clock says otherwise (auto finds it out)",
    "dukascopy": "Dukascopy candles; UTC unless --clock says otherwise",
    "metatrader5": "MetaTrader 5 bar export; New York + 7 hours unless --clock says otherwise",
}.items():
    _file_command(_format, _title)


@app.command()
def ecb(
    start: str | None = FROM,
    end: str | None = TO,
    pair: list[str] = PAIRS,
    accept_refused: bool = ACCEPT,
    as_json: bool = JSON,
) -> None:
    """The European Central Bank's reference rates since 1999, one bar a day at 14:10 Frankfurt; needs no network."""
    from dxy_pipeline.sources.ecb import EcbSource  # noqa: PLC0415

    window = _window(start, end, SystemClock())
    run(lambda _: [EcbSource()], _symbols(pair), window, accept_refused=accept_refused, as_json=as_json)


@app.command()
def simulated(
    start: str = typer.Option(..., "--from", help="First day or instant (UTC)."),
    end: str | None = TO,
    pair: list[str] = PAIRS,
    accept_refused: bool = ACCEPT,
    as_json: bool = JSON,
) -> None:
    """Simulated minutes through the real daily rates; only into a database that `dxy demo` or `dxy up` created."""
    from dxy_pipeline.sources.simulated import SimulatedSource  # noqa: PLC0415

    clock = SystemClock()

    def sources(conn: Connection[Any]) -> list[FxSource]:
        bar_store.require_simulation_allowed(conn)
        return [SimulatedSource(clock)]

    run(sources, _symbols(pair), _window(start, end, clock), accept_refused=accept_refused, as_json=as_json)


@app.command()
def massive(
    start: str = typer.Option(..., "--from", help="First day or instant (UTC)."),
    end: str | None = TO,
    pair: list[str] = PAIRS,
    accept_refused: bool = ACCEPT,
    as_json: bool = JSON,
) -> None:
    """Minutes from the Massive API (MASSIVE_API_KEY), within the plan's rate (DXY_MASSIVE_CALLS_PER_MINUTE)."""
    from dxy_pipeline.sources.massive import MassiveSource  # noqa: PLC0415

    settings, clock = Settings.from_env(), SystemClock()
    source = MassiveSource(
        settings.massive_api_key,
        clock,
        base_url=settings.massive_base_url,
        calls_per_minute=settings.massive_calls_per_minute or None,
        tell=note,
    )
    run(lambda _: [source], _symbols(pair), _window(start, end, clock), accept_refused=accept_refused, as_json=as_json)


def _calibrated(conn: Connection[Any], files: Sequence[Path], file_format: str, options: FileOptions) -> FileOptions:
    """Return the options with the clock that fits the bars already stored, and say which one that is."""
    from dxy_pipeline.sources.calibration import calibrate_file  # noqa: PLC0415

    def stored(start: datetime, end: datetime) -> list[tuple[str, datetime, float]]:
        from dxy_pipeline.client import fetch_1m_bars  # noqa: PLC0415

        rows = fetch_1m_bars(SYMBOLS, start, end, conn=conn)
        return [(row["canonical_symbol"], row["ts_utc"], float(row["close"])) for row in rows]

    found = calibrate_file(files[0], file_format, options, stored)
    note(f"the file's clock is UTC{found.offset_hours:+g} (correlation {found.correlation:.2f}, {found.minutes:,} min)")
    return FileOptions(options.pair, f"{found.offset_hours:g}", options.columns, options.check_level)


def _columns(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (ours, _, theirs) in zip(given, pairs, strict=True) if not ours or not theirs]:
        raise UserError(f"'{wrong[0]}' is not OURS=THEIRS", hint="for example --column time=Date")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _symbols(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(known_pair(text) for text in given)) or SYMBOLS


def _window(start: str | None, end: str | None, clock: Clock) -> tuple[datetime, datetime]:
    """Return the half-open range asked for. Raises UserError for one that is reversed, empty or in the future."""
    now = clock.now()
    # without an end, rows of the future are read too: each is refused by name, not passed over
    begin, stop = _instant(start) or EVER, _instant(end) or datetime.max.replace(tzinfo=UTC)
    if begin >= stop:
        raise UserError(f"--from {start} is not before --to {end}", hint="the end is not loaded itself: one day more")
    if begin > now:
        raise UserError(f"--from {start} is in the future", hint="there are no bars yet")
    return begin, stop


def _instant(text: str | None) -> datetime | None:
    return None if text is None else instant(text)

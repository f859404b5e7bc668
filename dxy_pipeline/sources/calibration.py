"""Finds the UTC offset of a file whose clock is not known, by comparing its returns with another pair's.

All six pairs share the dollar, so their minute returns correlate (with either sign) when, and only when, the two clocks
agree. What a line of a file means belongs to the readers.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dxy_pipeline.core.bars import Bar, validate
from dxy_pipeline.errors import UserError
from dxy_pipeline.sources.files import reader_named
from dxy_pipeline.sources.reading import FileOptions

Stored = Callable[[datetime, datetime], list[tuple[str, datetime, float]]]

# Two weeks of minutes: enough to be certain, quick to compare.
SAMPLE_ROWS = 15_000
FAR_FUTURE = datetime(2200, 1, 1, tzinfo=UTC)
STEP_MINUTES = 30
WIDEST_HOURS = 15
LEAST_OVERLAP = 500
# Noise of a correlation over n minutes is about 1/sqrt(n); the winner has to stand well above it and above the others.
LEAST_CORRELATION = 0.1
LEAST_LEAD = 2.0


class Calibration(NamedTuple):
    """The offset that fits (local time = UTC + `offset_hours`), its correlation, the next best one, and the overlap."""

    offset_hours: float
    correlation: float
    runner_up: float
    minutes: int


def calibrate_offset(frame: pd.DataFrame, reference: pd.DataFrame) -> Calibration:
    """Return the UTC offset of `frame`'s local times.

    `frame`: columns `time` (naive, local) and `close`; `reference`: columns `ts_utc` (aware UTC) and `close`, of the
    same or another of the six pairs over the same days. Raises UserError when the two overlap too little or no offset
    fits clearly.
    """
    local = _returns(pd.to_datetime(frame["time"]), frame["close"])
    utc = _returns(pd.to_datetime(reference["ts_utc"], utc=True).dt.tz_localize(None), reference["close"])
    steps = range(-WIDEST_HOURS * 60, WIDEST_HOURS * 60 + 1, STEP_MINUTES)
    scores = {offset: _score(local, utc, offset) for offset in steps}
    if max(count for _, count in scores.values()) < LEAST_OVERLAP:
        raise UserError(
            "the two files have too few minutes in common to find the offset",
            hint="use files of the same week or month",
        )
    ranked = sorted(scores, key=lambda offset: abs(scores[offset][0]), reverse=True)
    (best, minutes), (second, _) = scores[ranked[0]], scores[ranked[1]]
    if abs(best) < LEAST_CORRELATION or abs(best) < LEAST_LEAD * abs(second):
        raise UserError(
            f"no UTC offset fits clearly (best {ranked[0] / 60:+g} h with a correlation of {best:.2f})",
            hint="use a longer stretch, or a closer pair as the reference (EURUSD with GBPUSD or USDCHF)",
        )
    return Calibration(ranked[0] / 60, best, second, minutes)


def _returns(times: pd.Series, closes: pd.Series) -> pd.Series:
    """Return one-minute logarithmic returns, indexed by the epoch minute in which they happened."""
    minutes = (times - pd.Timestamp(0)) // pd.Timedelta(minutes=1)
    series = pd.Series(np.log(closes.astype(float).to_numpy()), index=minutes.to_numpy())
    series = series[~series.index.duplicated()].sort_index()
    steps = series.diff()
    return steps[np.diff(series.index.to_numpy(), prepend=np.iinfo(np.int64).min // 2) == 1]


def _score(local: pd.Series, utc: pd.Series, offset: int) -> tuple[float, int]:
    shifted = pd.Series(local.to_numpy(), index=local.index.to_numpy() - offset)
    both = pd.concat([shifted, utc], axis=1, join="inner")
    if len(both) < LEAST_OVERLAP or both.std().min() == 0:
        return 0.0, len(both)
    return float(both.corr().iloc[0, 1]), len(both)


def calibrate_file(path: Path, file_format: str, options: FileOptions, stored: Stored) -> Calibration:
    """Return the UTC offset of a file, judged by its first bars and what is stored of those days.

    `stored(start, end)` returns (symbol, aware UTC, close) of bars in [start, end). Of several pairs the one that fits
    best counts. Raises UserError when none fits.
    """
    rows = reader_named(file_format).rows(path, replace(options, clock="utc"))
    bars = [row for _, row in islice(rows, SAMPLE_ROWS) if isinstance(row, Bar) and validate(row, FAR_FUTURE) is None]
    if not bars:
        raise UserError(f"{path.name} has no readable rows to find its clock by", hint="check the format and --pair")
    pair = bars[0].symbol
    frame = pd.DataFrame({"time": [b.ts_utc.replace(tzinfo=None) for b in bars], "close": [b.close for b in bars]})
    frame = frame[[b.symbol == pair for b in bars]]
    reach = timedelta(hours=WIDEST_HOURS)
    known = pd.DataFrame(
        stored(min(b.ts_utc for b in bars) - reach, max(b.ts_utc for b in bars) + reach),
        columns=["symbol", "ts_utc", "close"],
    )
    if known.empty:
        raise UserError(
            "no bars of these days are stored to find the clock by",
            hint="load another pair of the same days from a source whose clock is known first, or give --clock",
        )
    fits, refusal = [], UserError("no pair fits")
    for _, reference in known.groupby("symbol"):
        try:
            fits.append(calibrate_offset(frame, reference))
        except UserError as error:
            refusal = error
    if not fits:
        raise refusal
    return max(fits, key=lambda fit: abs(fit.correlation))

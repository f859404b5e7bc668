"""Finds the UTC offset of a file whose clock is not known, by comparing its returns with another pair's.

All six pairs share the dollar, so their minute returns correlate (with either sign) when, and only when, the two clocks
agree. Reading the two files belongs to the readers.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from dxy_pipeline.errors import UserError

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

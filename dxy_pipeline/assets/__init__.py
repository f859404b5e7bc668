"""The four assets. Each is a few lines around a call of the bar store, and figures for the UI."""

import warnings

import dagster as dg

# Backfill policies and code references are marked beta; a warning for each asset in every log helps nobody.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from dxy_pipeline.assets.dxy_bars import dxy_1m  # noqa: E402
from dxy_pipeline.assets.fx_bars import fx_1m  # noqa: E402
from dxy_pipeline.assets.rollups import dxy_1h, dxy_5m  # noqa: E402

ALL = (fx_1m, dxy_1m, dxy_5m, dxy_1h)
KEYS = tuple(asset.key for asset in ALL)
DERIVED_KEYS = KEYS[1:]

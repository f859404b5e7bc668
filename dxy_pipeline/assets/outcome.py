"""What every asset here does around its one call of the store: its range, its figures in the UI, its failures.

Belongs here: from a Dagster context to a half-open range; metadata for each day; errors of ours as `Failure`.
Does not belong here: what a particular asset writes.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import dagster as dg

from dxy_pipeline import partitions
from dxy_pipeline.assets.sparkline import sparkline
from dxy_pipeline.bar_reads import DayFigures
from dxy_pipeline.bar_store import ContractViolation
from dxy_pipeline.core import fx_week
from dxy_pipeline.core.bars import Timeframe
from dxy_pipeline.errors import DxyError, UserError
from dxy_pipeline.sources.protocol import SourceError

AUTOMATIC_TAG = "dxy/automatic"  # marks runs that nobody asked for: they degrade where a run by hand would fail


def is_automatic(context: dg.AssetExecutionContext) -> bool:
    """Return whether a schedule or a sensor started this run, not a person."""
    return AUTOMATIC_TAG in context.run.tags


def time_limit(context: dg.AssetExecutionContext) -> float | None:
    """Return the `statement_timeout` of a run: none (0) by hand, the settings' (None) where nobody watches it."""
    return None if is_automatic(context) else 0


def window(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """Return the run's partitions as one half-open UTC range, be it a day or a range of days."""
    covered = context.partition_time_window
    return covered.start, covered.end


@contextmanager
def as_failure() -> Generator[None]:
    """Turn the errors of ours into `Failure`: one line and a hint in the UI, no stack; a bug keeps its trace."""
    try:
        yield
    except DxyError as error:
        hint = error.hint if isinstance(error, UserError) else ""
        # A broken contract or a user's mistake fails the same way again; only what is down may come back.
        again = isinstance(error, SourceError) and error.retryable
        failure = dg.Failure(
            description=f"{'contract violated: ' if isinstance(error, ContractViolation) else ''}{error}",
            metadata={"what to do": dg.MetadataValue.text(hint)} if hint else None,
            allow_retries=again,
        )
        raise failure from None


def report(
    context: dg.AssetExecutionContext,
    figures: Sequence[DayFigures],
    timeframe: Timeframe,
    series: int,
    changed: Mapping[str, int],
    notes: Mapping[str, str | int] | None = None,
    closes: Sequence[float] = (),
) -> None:
    """Attach the figures of each covered day to its own partition, and what the run changed to all of them.

    `series` is how many symbols a bucket has (6 for FX). `closes` become a picture: give them for a single day only,
    every picture is stored in the event log once for each partition.
    """
    found = {figure.day: figure for figure in figures}
    start, end = window(context)
    for day in partitions.days(start, end):
        first, last = partitions.day_start(day), partitions.day_start(day) + partitions.DAY
        expected = _expected_buckets(first, last, timeframe) * series
        key = partitions.key_of(day)
        context.add_asset_metadata(_day_metadata(key, found.get(day), expected), partition_key=key)
    context.add_asset_metadata({
        **{f"{name} in this run": count for name, count in changed.items()},
        **(notes or {}),
        **({"shape of the day": dg.MetadataValue.md(sparkline(closes))} if len(closes) > 1 else {}),
    })  # fmt: skip


def single_day(context: dg.AssetExecutionContext) -> bool:
    """Return whether one partition is made by hand: only then is a picture worth its bytes in the event log."""
    return len(context.partition_keys) == 1 and not is_automatic(context)


def _expected_buckets(start: datetime, end: datetime, timeframe: Timeframe) -> int:
    """Return how many buckets of [start, end) hold an open FX minute."""
    minute, width = Timeframe.M1.delta, timeframe.minutes
    return sum(
        -(-((b - start) // minute) // width) - (a - start) // minute // width for a, b in fx_week.sessions(start, end)
    )


def _day_metadata(day: str, figure: DayFigures | None, expected: int) -> dict[str, dg.MetadataValue]:
    """Figures as numbers, so that the UI plots them by partition; the day is said, for "latest" is the last one run."""
    if figure is None:
        market = "market shut" if expected == 0 else "no bars"
        return {
            "day": dg.MetadataValue.text(f"{day}: {market}"),
            "dagster/row_count": dg.MetadataValue.int(0),
            "expected bars": dg.MetadataValue.int(expected),
        }
    prices = {"low": figure.low, "high": figure.high, "last close": figure.last} if figure.symbols == 1 else {}
    return {
        "day": dg.MetadataValue.text(day),
        "dagster/row_count": dg.MetadataValue.int(figure.rows),
        "expected bars": dg.MetadataValue.int(expected),
        "symbols": dg.MetadataValue.int(figure.symbols),
        "latest bar": dg.MetadataValue.timestamp(figure.latest),
        **{name: dg.MetadataValue.float(value) for name, value in prices.items() if value is not None},
    }

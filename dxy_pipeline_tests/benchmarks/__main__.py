"""`make bench`: every bound on speed, memory and latency, measured and printed; exit code 1 when one is missed.

`--quick` measures a month instead of a year in under a minute (ratios are a little worse there: fixed costs weigh
more) and leaves migration and services out; `--only NAME` measures one part.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from rich.console import Console

from dxy_pipeline_tests.benchmarks import (
    by_pandas,
    dagster_cost,
    figures,
    growth,
    latency,
    migration,
    records,
    rolling,
    writing,
)
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import FULL, QUICK, Market, Sizes, market, server

PARTS = ("writing", "rolling", "pandas", "growth", "dagster", "migration", "latency", "records")
LONG = {"migration", "latency", "records"}  # not in the quick mode
BOTH_SPANS = {"growth", "dagster"}


def main() -> int:
    """Measure what is asked for, print and save it."""
    parser = argparse.ArgumentParser(prog="python -m dxy_pipeline_tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a month instead of a year, without migration and services"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; may be given more than once")
    asked = parser.parse_args()
    sizes = QUICK if asked.quick else FULL
    parts = asked.only or [part for part in PARTS if not (asked.quick and part in LONG)]
    for name in [n for n in os.environ if n.startswith(("DXY_", "DAGSTER_", "PG", "DATABASE_URL", "DIRECT_URL"))]:
        del os.environ[name]  # no benchmark may reach a database of the user's
    console, began = Console(), time.monotonic()
    found: list[Figure] = []
    for figure in measure(parts, sizes, console):
        found.append(figure)
        verdict = "" if figure.holds else f"   [bold red]must be {figure.must}[/]"
        console.print(f"[dim]{time.monotonic() - began:4.0f} s[/]  {figure.name}: {figure.shown}{verdict}")
    figures.show(found, console)
    figures.save(found)
    console.print(f"[dim]{figures.REPORT.relative_to(figures.REPORT.parents[1])}, {time.monotonic() - began:.0f} s[/]")
    return 0 if all(figure.holds for figure in found) else 1


def measure(parts: list[str], sizes: Sizes, console: Console) -> Iterator[Figure]:
    """Yield the figures of the parts, on one server; latency and records have services of their own."""
    with ExitStack() as open_things:
        if set(parts) - {"latency", "records"}:
            running = open_things.enter_context(server())
            span = f"{sizes.year.days} days"
            console.print(f"[dim]writing {span} of minutes of six pairs[/]")
            year = open_things.enter_context(market(running, "year", sizes.start))
            if "writing" in parts:
                yield from writing.measure(year, sizes)
            if "rolling" in parts:
                yield from rolling.measure(year, sizes)
            if "pandas" in parts:
                yield from by_pandas.measure(year, sizes)
            if BOTH_SPANS & set(parts):
                console.print(f"[dim]writing four times {span}[/]")
                four: Market = open_things.enter_context(market(running, "four", sizes.four_years_start))
                if "growth" in parts:
                    yield from growth.measure(year, four, sizes)
                if "dagster" in parts:
                    yield from dagster_cost.measure(running, year, four)
            if "migration" in parts:
                console.print(f"[dim]writing {migration.ROWS:,} legacy rows[/]")
                yield from migration.measure(running)
    if "latency" in parts:
        yield from latency.measure()
    if "records" in parts:
        yield from records.measure()


if __name__ == "__main__":
    sys.exit(main())

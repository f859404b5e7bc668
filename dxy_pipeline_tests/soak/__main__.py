"""`python -m dxy_pipeline_tests.soak [--short]`: run a soak, print its verdict, exit with 1 when anything is wrong."""

import argparse
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dxy_pipeline_tests.soak.run import LONG, SHORT, soak
from dxy_pipeline_tests.soak.verdict import Row

REPORT = Path(__file__).resolve().parents[2] / "build" / "soak.json"


def table(rows: list[Row]) -> Table:
    """Return the verdict as a table."""
    made = Table("what", "found", "must", "", title="soak", title_justify="left")
    for row in rows:
        made.add_row(row.what, row.found, row.must, "ok" if row.passed else "FAILED")
    return made


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m dxy_pipeline_tests.soak", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the profile of the normal test suite, under 3 minutes")
    parser.add_argument("--minutes", type=float, help="how long the ten market days take (20)")
    asked = parser.parse_args()
    profile = SHORT if asked.short else LONG
    if asked.minutes:
        profile = dataclasses.replace(profile, seconds=asked.minutes * 60)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    begun = time.monotonic()
    rows = soak(profile, lambda line: print(f"{time.monotonic() - begun:6.0f} s  {line}", flush=True))
    Console(width=None if sys.stdout.isatty() else 200).print(table(rows))
    try:
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    except PermissionError:  # another user's checkout
        print(f"{REPORT.relative_to(REPORT.parents[1])} is not ours to write; the table above is the report")
    wrong = sum(not row.passed for row in rows)
    print(f"{len(rows) - wrong} of {len(rows)} hold, {time.monotonic() - begun:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a launched run of a range is, as a process of its own that says what it cost: boot, run, peak memory.

It does what `dagster api execute_run` does in it: load the definitions, open Dagster's storage, run the job, keep no
event. The run counts from its creation, when Dagster stores a planned materialization for each partition. Called by
`dagster_cost`; the environment names databases and Dagster home.
"""

import argparse
import json
import re
import resource
import sys
import time
from pathlib import Path

import psutil


def main() -> None:
    """Run the job over [first, last] and print {boot, run, peak_mb} as JSON."""
    booted = psutil.Process().create_time()
    parser = argparse.ArgumentParser()
    parser.add_argument("first")
    parser.add_argument("last")
    asked = parser.parse_args()

    import dagster as dg
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run_iterator

    from dxy_pipeline.automation.live import RANGE_END, RANGE_START
    from dxy_pipeline.definitions import defs

    job = defs.resolve_job_def("materialize_range")
    with dg.DagsterInstance.get() as instance:
        began = time.time()
        run = instance.create_run_for_job(job, tags={RANGE_START: asked.first, RANGE_END: asked.last})
        for event in execute_run_iterator(InMemoryJob(job), run, instance):
            if event.is_failure:
                raise SystemExit(f"the run failed: {event.message}")
        ended = time.time()
    print(json.dumps({"boot": began - booted, "run": ended - began, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Return the most memory this process ever held. Not ru_maxrss on Linux: it starts with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

"""What the UI tests share: the services of `dxy up`, questions by GraphQL, and the ways of Dagster's pages.

State is verified by GraphQL and SQL; the browser acts, and shows what a person would see (build/screenshots).
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from playwright.sync_api import Page, expect

from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.partitions import DAY, day_start, days, key_of

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
LOCATION = "dxy_pipeline"
Answer = TypeVar("Answer")


def wait_for(what: str, probe: Callable[[], Answer | None], limit: float = 120.0, every: float = 0.5) -> Answer:
    """Ask `probe` until it answers; raises AssertionError naming `what` after `limit` seconds."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if answer := probe():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {limit:.0f} s: {what}")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Up:
    """A running `dxy up` with a data directory of its own."""

    data_dir: Path
    port: int
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, data_dir: Path, port: int | None = None, **environment: str) -> "Up":
        """Start it and wait for the line that says it is ready."""
        port = port or free_port()
        process = subprocess.Popen(
            [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", "up", "--json"],
            env={**os.environ, "DXY_DATA_DIR": str(data_dir), "DXY_PORT": str(port), **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"dxy up ended with {process.wait()}"
        assert json.loads(line)["ready"] == f"http://127.0.0.1:{port}"
        return cls(data_dir, port, process)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """End it as Ctrl-C does; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=120)

    def database(self, name: str) -> psycopg.Connection:
        """Open an autocommit connection to one of its databases."""
        return psycopg.connect(EmbeddedServer(self.data_dir).url(name), autocommit=True, options="-c TimeZone=UTC")

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the data of a GraphQL question."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        assert "errors" not in said, said
        return said["data"]

    def runs(self) -> list[dict[str, Any]]:
        """Return the newest runs, newest first: id, status, job, tags."""
        found = self.ask(
            "{runsOrError(limit: 50){... on Runs{results{runId status jobName creationTime tags{key value}}}}}"
        )
        return found["runsOrError"]["results"]

    def finished_run(self, known: set[str], job: str = "__ASSET_JOB", limit: float = 120.0) -> dict[str, Any]:
        """Wait for a run of `job` that is not among `known` to end well, and return it."""
        ended = {"SUCCESS", "FAILURE", "CANCELED"}
        run = wait_for(
            f"a new run of {job} ends",
            lambda: next(
                (r for r in self.runs() if r["runId"] not in known and r["jobName"] == job and r["status"] in ended),
                None,
            ),
            limit,
        )
        assert run["status"] == "SUCCESS", run
        return run

    def materialized(self, asset: str) -> set[str]:
        """Return the partitions of an asset that have been materialized."""
        found = self.ask(
            "query($k: AssetKeyInput!){assetNodeOrError(assetKey: $k){... on AssetNode{assetPartitionStatuses{"
            "... on TimePartitionStatuses{ranges{startKey endKey status}}}}}}",
            k={"path": [asset]},
        )
        return {
            key_of(day)
            for r in found["assetNodeOrError"]["assetPartitionStatuses"]["ranges"]
            if r["status"] == "MATERIALIZED"
            for day in days(
                day_start(date.fromisoformat(r["startKey"])), day_start(date.fromisoformat(r["endKey"])) + DAY
            )
        }

    def evaluation_of(self, run_id: str, asset: str, check: str) -> dict[str, Any]:
        """Return what a run found for a check: success, severity, description."""
        found = self.ask(
            "query($k: AssetKeyInput!, $c: String!){assetCheckExecutions(assetKey: $k, checkName: $c, limit: 20){"
            "id status runId timestamp evaluation{success severity description}}}",
            k={"path": [asset]},
            c=check,
        )["assetCheckExecutions"]
        return next(e["evaluation"] for e in found if e["runId"] == run_id and e["evaluation"])


@dataclass
class Browser:
    """A page of the UI and the steps a person takes there."""

    page: Page
    up: Up

    def go(self, path: str) -> None:
        """Open a page by its deep link."""
        self.page.goto(f"{self.up.url}{path}")

    def see(self, text: str, limit: float = 120.0, *, exact: bool = True) -> None:
        """Wait until `text` is shown."""
        expect(self.page.get_by_text(text, exact=exact).locator("visible=true").first).to_be_visible(
            timeout=limit * 1000
        )

    def shoot(self, name: str) -> None:
        """Keep a screenshot."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(1500)  # drawings settle; nothing depends on it
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def press(self, *names: str, limit: float = 120.0) -> None:
        """Press the first button that has one of these names."""
        pattern = re.compile(rf"^\s*(?:{'|'.join(map(re.escape, names))})\s*$")
        # by text, not by role: an icon's label is part of a button's name
        self.page.locator("button:visible").filter(has_text=pattern).last.click(timeout=limit * 1000)

    def choose_partitions(self, text: str) -> None:
        """Type a day (`2026-11-20`) or a range (`[2026-10-05...2026-10-16]`) of the last 90 days into the dialog."""
        # Until the partitions are loaded the field takes a text and forgets it.
        dialog = self.page.get_by_role("dialog").last
        loaded = dialog.get_by_text(re.compile(r"Showing \d+ of")).locator("visible=true").first
        expect(loaded).to_be_visible(timeout=120_000)
        field = dialog.locator("input[type=text], input:not([type])").first
        field.fill(text)
        field.press("Enter")

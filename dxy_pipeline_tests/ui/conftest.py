"""One `dxy up` for all UI tests, and a browser page for each."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from dxy_pipeline_tests.ui.dagster_ui import Browser, Up

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def up(_own_environment: None) -> Iterator[Up]:
    """The services of `dxy up` on an empty data directory, ended with Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="dxy-ui-") as directory:
        Path(directory).chmod(0o755)  # as root the server runs as nobody
        services = Up.start(Path(directory) / "data of a test")
        try:
            yield services
        finally:
            assert services.stop() == 0


@pytest.fixture
def browser(up: Up) -> Iterator[Browser]:
    """A new page in a headless Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = chromium.new_context(viewport={"width": 1500, "height": 950}, bypass_csp=True)
        one = Browser(context.new_page(), up)
        yield one
        one.shoot("last")  # what the page looked like when a test ended, or failed
        chromium.close()

"""`dxy watchdog`: notices a dead scheduler, from a process of its own. Thin: the work is `checks.watch`."""

import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import psycopg
import typer

from dxy_pipeline.checks.watchdog import Watchdog
from dxy_pipeline.core.clock import SystemClock
from dxy_pipeline.db import session
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.settings import Settings, redact

app = typer.Typer()


@app.command()
def watchdog(
    once: bool = typer.Option(False, "--once", help="Look once and exit (for cron): 1 when something is wrong."),
    interval: float = typer.Option(60.0, min=1, help="Seconds between two looks."),
) -> None:
    """Watch the scheduler's monitoring; while it is silent, run the checks and send the alerts from here."""
    settings = Settings.from_env()

    def connect() -> AbstractContextManager[psycopg.Connection]:
        url = settings.database_url or market_url(settings)
        return session.connect(url, application_name="watchdog", autocommit=True, role="dxy_writer")

    dog = Watchdog(connect, SystemClock(), settings.data_dir / "watchdog.json", settings.alert_urls)
    while True:
        line = dog.step()
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {redact(line)}", flush=True)
        if once:
            raise typer.Exit(0 if line.startswith("the monitoring is alive") else 1)
        time.sleep(interval)

"""Dagster resources: the market database, the source of FX minutes, the clock. Each connects when it is used.

Belongs here: turning settings into things that assets, sensors and schedules are given. Secrets are read from the
environment in the process that needs them, so none stands in a run's configuration or in the UI.
Does not belong here: SQL, and what is done with the connection or the source.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

import dagster as dg
from psycopg import Connection
from pydantic import Field

from dxy_pipeline.core.clock import Clock, FixedClock, SystemClock
from dxy_pipeline.db import session
from dxy_pipeline.db.embedded import market_url
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources import source_from_settings
from dxy_pipeline.sources.protocol import FxSource


class MarketDatabase(dg.ConfigurableResource[Any]):
    """The PostgreSQL with the bars: DATABASE_URL when set, else the embedded server's database `dxy`."""

    url_override: str = Field(default="", description="For tests and the demo: an address to use instead")

    def url(self) -> str:
        """Return the address; starts the embedded server when that is the database and it does not run."""
        return self.url_override or market_url(Settings.from_env())

    def direct_url(self) -> str:
        """Return the address for DDL, backups and long work: DIRECT_URL where DATABASE_URL is a transaction pooler."""
        return self.url_override or Settings.from_env().direct_url or self.url()

    @contextmanager
    def connect(self, name: str, *, statement_timeout: float | None = None) -> Generator[Connection[Any]]:
        """Open one autocommit connection named `dxy_pipeline:<name>` with the rights of dxy_writer.

        A database's refusal becomes a UserError.
        """
        with (
            session.user_errors(),
            session.connect(
                self.url(),
                application_name=name,
                autocommit=True,
                statement_timeout=statement_timeout,
                role="dxy_writer",
            ) as conn,
        ):
            yield conn

    @contextmanager
    def read(self, name: str, *, statement_timeout: float = 10.0) -> Generator[Connection[Any]]:
        """Open a read-only connection with the rights of dxy_reader: to DXY_REPLICA_URL when there is one."""
        url = self.url_override or Settings.from_env().replica_url or self.url()
        with (
            session.user_errors(),
            session.connect(
                url,
                application_name=name,
                autocommit=True,
                read_only=True,
                statement_timeout=statement_timeout,
                role="dxy_reader",
            ) as conn,
        ):
            yield conn


class PipelineClock(dg.ConfigurableResource[Any]):
    """What time it is: the machine's, or a pinned instant (the demo, tests)."""

    pinned: str = Field(default="", description="ISO 8601 with offset; empty is the machine's clock")

    def clock(self) -> Clock:
        """Return the clock. Raises UserError for an instant that cannot be read."""
        if not self.pinned:
            return SystemClock()
        try:
            return FixedClock(datetime.fromisoformat(self.pinned).astimezone(UTC))
        except ValueError as error:
            raise UserError(f"not an instant: {self.pinned!r}", hint="for example 2026-11-20T21:00:00+00:00") from error

    def now(self) -> datetime:
        """Return the current instant, aware UTC."""
        return self.clock().now()


class FxFeed(dg.ConfigurableResource[Any]):
    """Where FX minutes come from: `simulated`, `massive` and `files` are fetched, `external` is written by others."""

    kind: Literal["", "simulated", "files", "external", "massive"] = Field(
        default="", description="Empty: DXY_FX_SOURCE"
    )

    def name(self) -> str:
        """Return the kind in use."""
        return self.kind or Settings.from_env().fx_source

    def source(self, clock: Clock, *, live: bool = False) -> FxSource:
        """Return the source to fetch from (`external` yields nothing). Raises UserError for settings that cannot be."""
        settings = Settings.from_env()
        return source_from_settings(replace(settings, fx_source=self.kind or settings.fx_source), clock, live=live)


@cache
def default_resources() -> dict[str, Any]:
    """Return the resources of a normal deployment, all by the settings, none connected."""
    return {"market": MarketDatabase(), "feed": FxFeed(), "clock": PipelineClock()}

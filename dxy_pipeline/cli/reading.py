"""The read-only connection of commands that report: the replica when there is one, else the market database."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from psycopg import Connection

from dxy_pipeline.db import schema, session
from dxy_pipeline.db.embedded import existing_url
from dxy_pipeline.settings import Settings


@contextmanager
def reading(name: str, *, statement_timeout: float | None = None) -> Generator[Connection[Any]]:
    """Open it in autocommit mode; raises UserError when it cannot be reached or the schema is not there."""
    settings = Settings.from_env()
    url = settings.replica_url or existing_url(settings)
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
        schema.require_head(conn)
        yield conn

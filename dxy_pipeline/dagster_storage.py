"""Dagster's own storage, as `dagster.yaml` names it: dagster-postgres on DXY_DAGSTER_PG_URL, else the embedded server.

Belongs here: the choice of the address. With the address in dagster.yaml as an environment variable, `dagster dev` and
the `dg` tools, which read the dagster.yaml of the current folder, would not start without it.
"""

from collections.abc import Mapping
from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from dxy_pipeline.db.embedded import server_for
from dxy_pipeline.settings import Settings

DATABASE = "dagster"


class PipelineStorage(DagsterPostgresStorage):
    """Runs, events and schedules in PostgreSQL; never in the market database's own DATABASE_URL."""

    @classmethod
    def config_type(cls) -> Any:
        """There is nothing to configure here: the settings say it."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Build the storage for the settings of this process."""
        return cls(postgres_url=storage_url(Settings.from_env()), inst_data=inst_data)


def storage_url(settings: Settings) -> str:
    """Return the address of Dagster's storage; starts the embedded server where that is it and it does not run."""
    if settings.dagster_pg_url:
        return psycopg2_url(settings.dagster_pg_url)
    server = server_for(settings)
    server.start()
    server.ensure_database(DATABASE)
    return psycopg2_url(server.url(DATABASE))


def psycopg2_url(url: str) -> str:
    """Return the URL with the driver named that dagster-postgres needs.

    With SQLAlchemy 2.1 a plain postgresql:// means psycopg 3, and the first event's NOTIFY fails.
    """
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg2{separator}{rest}" if scheme in {"postgresql", "postgres"} else url

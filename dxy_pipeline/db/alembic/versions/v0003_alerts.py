"""Monitoring's memory: incidents, deliveries, heartbeats."""

from alembic import op

from dxy_pipeline.sql import load

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create tables."""
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(load("schema/alert_tables"))

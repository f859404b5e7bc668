"""Unverifiable minutes by day."""

from alembic import op

from dxy_pipeline.sql import load

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Replace the table that had a row a minute."""
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(load("schema/unverifiable_day"))

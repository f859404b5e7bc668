"""The ledger of the migration: control row, lease, days, verifications, backups, audit."""

from alembic import op

from dxy_pipeline.sql import load

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the ledger."""
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(load("schema/migration_ledger"))

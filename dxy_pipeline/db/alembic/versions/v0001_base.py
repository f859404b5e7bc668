"""The project's own tables; the seed's three tables too when the database has none of them."""

from alembic import op

from dxy_pipeline.sql import load

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create tables."""
    bind = op.get_bind().execution_options(no_parameters=True)
    bind.exec_driver_sql(load("schema/own_tables"))
    config = op.get_context().config
    if config is not None and config.attributes["empty"]:
        bind.exec_driver_sql(load("schema/seed_tables"))
        bind.exec_driver_sql("INSERT INTO dxy.setting (key, value) VALUES ('tables_made_by_us', 'true')")

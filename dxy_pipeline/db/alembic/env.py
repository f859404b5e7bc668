"""Alembic environment: runs versions on the connection `db.schema.upgrade` hands over; no command line of its own."""

from alembic import context

VERSION_TABLE = "dxy_alembic_version"  # dagster-postgres owns the default name alembic_version


def run() -> None:
    """Run the requested versions in one transaction each."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection, version_table=VERSION_TABLE, version_table_schema="dxy", transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


run()

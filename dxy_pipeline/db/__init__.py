"""PostgreSQL: sessions, the embedded server, the schema. Nothing here knows bars or Dagster."""

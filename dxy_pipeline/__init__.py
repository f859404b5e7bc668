"""US Dollar Index (DXY) bars: derived from six FX pairs inside PostgreSQL, rolled up, monitored, migrated."""

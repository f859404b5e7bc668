-- Sessions of this database since its statistics were reset, and how many of them ended without a goodbye.
SELECT d.sessions, d.sessions_abandoned + d.sessions_fatal AS lost, pg_postmaster_start_time() AS up_since
FROM pg_catalog.pg_stat_database AS d WHERE d.datname = current_database();

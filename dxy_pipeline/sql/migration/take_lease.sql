-- Free, run out, ours already, or its backend is gone (a killed runner need not be waited for).
UPDATE dxy.migration_lease AS l
SET fence = l.fence + 1, holder = %(holder)s, backend_pid = pg_backend_pid(), progress = NULL,
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE l.holder IS NULL OR l.expires_at < clock_timestamp()
    OR NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = l.backend_pid)
RETURNING l.fence;

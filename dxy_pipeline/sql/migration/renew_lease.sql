UPDATE dxy.migration_lease AS l
SET expires_at = clock_timestamp() + make_interval(secs => %(seconds)s), progress = coalesce(%(progress)s::jsonb, l.progress)
WHERE l.fence = %(fence)s AND l.holder IS NOT NULL RETURNING l.fence;

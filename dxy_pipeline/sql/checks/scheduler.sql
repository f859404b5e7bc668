-- What should be alive each minute and was not: the live run (by how far it has fetched; a source that is down is
-- another matter) and the monitoring inside the scheduler (by its heartbeat). Nothing that never ran is missed.
SELECT 'live minute' AS part, p.fetched_until AS last_seen,
    (extract(epoch FROM %(now)s::timestamptz - p.fetched_until) / 60)::integer AS minutes
FROM (SELECT f.* FROM dxy.feed_progress AS f ORDER BY f.fetched_until DESC LIMIT 1) AS p
WHERE p.state = 'ok' AND p.fetched_until < %(now)s::timestamptz - make_interval(mins => %(silent_minutes)s)
UNION ALL
SELECT h.name, h.beat_at, (extract(epoch FROM %(now)s::timestamptz - h.beat_at) / 60)::integer
FROM dxy.heartbeat AS h
WHERE h.name = 'monitoring' AND h.beat_at < %(now)s::timestamptz - make_interval(mins => %(silent_minutes)s)

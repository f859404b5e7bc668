-- What should be alive and was not: each minute the live run (by how far the feed in use, the one noted last, was fetched; a
-- source that is down is another matter) and the monitoring inside the scheduler, each day the look at the whole history
-- (both by their heartbeat). Nothing that never ran is missed.
SELECT 'live minute' AS part, p.fetched_until AS last_seen,
    (extract(epoch FROM %(now)s::timestamptz - p.fetched_until) / 60)::integer AS minutes
FROM (SELECT f.fetched_until, f.state FROM dxy.feed_progress AS f ORDER BY f.noted_at DESC LIMIT 1) AS p
WHERE p.state = 'ok' AND p.fetched_until < %(now)s::timestamptz - make_interval(mins => %(silent_minutes)s)
UNION ALL
SELECT h.name, h.beat_at, (extract(epoch FROM %(now)s::timestamptz - h.beat_at) / 60)::integer
FROM dxy.heartbeat AS h
WHERE (h.name = 'monitoring' AND h.beat_at < %(now)s::timestamptz - make_interval(mins => %(silent_minutes)s))
    OR (h.name = 'daily checks' AND h.beat_at < %(now)s::timestamptz - make_interval(hours => %(silent_hours)s))

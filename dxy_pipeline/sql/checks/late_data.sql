-- Changed minutes that have waited too long for the run that derives them again, where that run is allowed to write.
SELECT t.target, t.day, min(t.first_ts) AS first_ts, max(t.last_ts) AS last_ts, sum(t.minutes)::bigint AS minutes,
    min(t.touched_at) AS waiting_since
FROM dxy.touched_range AS t
WHERE t.touched_at < %(now)s::timestamptz - make_interval(mins => %(wait_minutes)s)
    AND (SELECT c.state FROM dxy.migration_control AS c) = ANY (
        CASE WHEN t.target = '1m' THEN ARRAY['none', 'dual_write', 'verified', 'cut_over', 'retired']
            ELSE ARRAY['none', 'cut_over', 'retired'] END)
GROUP BY t.target, t.day
ORDER BY min(t.touched_at)

-- Changed minutes that have waited too long for the run that derives them again, where that run is ours to make.
SELECT t.target, t.day, min(t.first_ts) AS first_ts, max(t.last_ts) AS last_ts, sum(t.minutes)::bigint AS minutes,
    min(t.touched_at) AS waiting_since
FROM dxy.touched_range AS t
WHERE t.touched_at < %(now)s::timestamptz - make_interval(mins => %(wait_minutes)s)
    AND t.target = ANY (%(targets)s::text[]) AND t.first_ts >= %(changes_from)s
GROUP BY t.target, t.day
ORDER BY min(t.touched_at)

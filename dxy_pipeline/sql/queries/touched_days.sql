-- Days whose inputs changed and have waited longer than the minute schedule needs, newest first.
SELECT t.day, max(t.id) AS high_water, sum(t.minutes)::integer AS minutes, min(t.first_ts) AS first_ts,
    max(t.last_ts) AS last_ts, array_agg(DISTINCT t.target ORDER BY t.target) AS targets
FROM dxy.touched_range AS t
GROUP BY t.day
HAVING min(t.touched_at) < %(before)s
ORDER BY t.day DESC
LIMIT %(limit)s;

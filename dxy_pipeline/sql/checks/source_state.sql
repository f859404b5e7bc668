-- The live source (the feed noted last: others are of the past) when it has been unavailable or has refused us for a while, in its own words.
SELECT p.feed, p.state, p.since, p.fetched_until, p.detail
FROM (SELECT f.* FROM dxy.feed_progress AS f ORDER BY f.noted_at DESC LIMIT 1) AS p
WHERE p.state <> 'ok' AND p.fetched_until < %(now)s::timestamptz - make_interval(mins => %(down_minutes)s)

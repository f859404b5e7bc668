-- The watermark: every derived bar of this timeframe that starts before it is final unless an input changes again. Before it
-- nothing is pending, no bucket is unfinished, and the live feed (where we fetch ourselves) has been asked for all minutes,
-- less the overlap in which minutes come late.
SELECT date_bin(%(width)s::interval, least(
    (SELECT min(t.first_ts) FROM dxy.touched_range AS t WHERE t.target IN ('1m', %(timeframe)s)),
    (SELECT f.fetched_until - %(overlap)s::interval
     FROM (SELECT p.* FROM dxy.feed_progress AS p ORDER BY p.fetched_until DESC LIMIT 1) AS f
     WHERE f.feed <> 'external'),
    %(now)s::timestamptz - make_interval(secs => coalesce(
        (SELECT s.value::numeric FROM dxy.setting AS s WHERE s.key = 'settle_seconds'), 90)::double precision)
), 'epoch') AS final_until;

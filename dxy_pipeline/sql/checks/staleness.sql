-- Pairs silent for longer than is usual for them at this hour of the week: the longest silence of the same hour, one
-- before and one after, over the last weeks, times a factor. The baseline is read for suspects only.
WITH suspect AS MATERIALIZED (
    SELECT y.symbol, l.latest, a.silent, CASE WHEN y.symbol = ANY (%(thin)s) THEN %(thin_minutes)s ELSE %(minutes)s END AS least
    FROM unnest(%(symbols)s::text[]) AS y (symbol)
    LEFT JOIN LATERAL (SELECT max(b.ts_utc) AS latest FROM ({bars}) AS b WHERE b.canonical_symbol = y.symbol) AS l ON true
    CROSS JOIN LATERAL (SELECT dxy.open_minutes(coalesce(l.latest + interval '1 minute', %(start)s), %(now)s) AS silent) AS a
    WHERE a.silent > CASE WHEN y.symbol = ANY (%(thin)s) THEN %(thin_minutes)s ELSE %(minutes)s END
)
SELECT s.symbol AS canonical_symbol, s.latest, s.silent AS open_minutes_since, u.longest AS usual_longest_silence
FROM suspect AS s
CROSS JOIN LATERAL (
    SELECT max(g.silence) AS longest
    FROM generate_series(1, %(weeks)s) AS k (week)
    CROSS JOIN LATERAL (
        SELECT (extract(epoch FROM lead(d.ts_utc) OVER (ORDER BY d.ts_utc) - d.ts_utc) / 60 - 1)::integer AS silence
        FROM public.data_bars AS d
        WHERE d.canonical_symbol = s.symbol AND d.timeframe = '1m'
            AND d.ts_utc >= %(now)s::timestamptz - make_interval(weeks => k.week) - interval '1 hour'
            AND d.ts_utc < %(now)s::timestamptz - make_interval(weeks => k.week) + interval '1 hour'
    ) AS g
) AS u
WHERE s.silent > greatest(s.least, %(factor)s * coalesce(u.longest, 0))
ORDER BY s.silent DESC

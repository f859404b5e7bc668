-- Runs of bars with one and the same close, longer than the pair's allowance and than is usual for it at that hour of
-- the week: a frozen feed that still sends. The baseline (longest run in the same hours of the last weeks, times a
-- factor) is read for suspects only.
WITH changed AS (
    SELECT b.canonical_symbol, b.ts_utc, b.close,
        count(*) FILTER (WHERE b.close IS DISTINCT FROM b.before) OVER (PARTITION BY b.canonical_symbol ORDER BY b.ts_utc) AS run
    FROM (SELECT x.*, lag(x.close) OVER (PARTITION BY x.canonical_symbol ORDER BY x.ts_utc) AS before FROM ({bars}) AS x) AS b
),
suspect AS MATERIALIZED (
    SELECT c.canonical_symbol, min(c.ts_utc) AS first_ts, max(c.ts_utc) AS last_ts, count(*) AS bars, min(c.close)::float8 AS close
    FROM changed AS c
    GROUP BY c.canonical_symbol, c.run
    HAVING count(*) > CASE WHEN c.canonical_symbol = ANY (%(thin)s) THEN %(thin_minutes)s ELSE %(minutes)s END
)
SELECT s.*, u.longest AS usual_longest_run
FROM suspect AS s
CROSS JOIN LATERAL (
    SELECT max(r.bars) AS longest
    FROM generate_series(1, %(weeks)s) AS k (week)
    CROSS JOIN LATERAL (
        SELECT count(*) AS bars
        FROM (
            SELECT w.ts_utc, count(*) FILTER (WHERE w.close IS DISTINCT FROM w.before) OVER (ORDER BY w.ts_utc) AS run
            FROM (
                SELECT d.ts_utc, d.close, lag(d.close) OVER (ORDER BY d.ts_utc) AS before
                FROM public.data_bars AS d
                WHERE d.canonical_symbol = s.canonical_symbol AND d.timeframe = '1m'
                    AND d.ts_utc >= s.first_ts - make_interval(weeks => k.week) - interval '1 hour'
                    AND d.ts_utc < s.last_ts - make_interval(weeks => k.week) + interval '1 hour'
            ) AS w
        ) AS v
        GROUP BY v.run
    ) AS r
) AS u
WHERE s.bars > %(factor)s * coalesce(u.longest, 0)
ORDER BY s.bars DESC

-- Runs of bars with one and the same close, longer than the pair's allowance: a frozen feed that still sends.
WITH bar AS ({bars}),
changed AS (
    SELECT b.canonical_symbol, b.ts_utc, b.close,
        count(*) FILTER (WHERE b.close IS DISTINCT FROM b.before) OVER (PARTITION BY b.canonical_symbol ORDER BY b.ts_utc) AS run
    FROM (SELECT x.*, lag(x.close) OVER (PARTITION BY x.canonical_symbol ORDER BY x.ts_utc) AS before FROM bar AS x) AS b
)
SELECT c.canonical_symbol, min(c.ts_utc) AS first_ts, max(c.ts_utc) AS last_ts, count(*) AS bars, min(c.close)::float8 AS close
FROM changed AS c
GROUP BY c.canonical_symbol, c.run
HAVING count(*) > CASE WHEN c.canonical_symbol = ANY (%(thin)s) THEN %(thin_minutes)s ELSE %(minutes)s END
ORDER BY count(*) DESC

-- The last 24 hours before p_now on the table that readers use: error rate (derivable minutes without a bar), latency
-- (a bar's arrival after its minute's end), freshness (open minutes since the newest bar, at p_now).
WITH bar AS (
    SELECT b.ts_utc, b.ingested_at FROM ${image} AS b
    WHERE b.ts_utc >= %(now)s::timestamptz - interval '24 hours' AND b.ts_utc < %(now)s
),
derivable AS (
    SELECT d.ts_utc FROM public.data_bars AS d
    WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m' AND d.close > 0 AND d.close < 'Infinity'
        AND d.ts_utc >= %(now)s::timestamptz - interval '24 hours' AND d.ts_utc < %(now)s
    GROUP BY d.ts_utc HAVING count(*) = 6
)
SELECT
    (SELECT 100.0 * count(*) FILTER (WHERE b.ts_utc IS NULL) / nullif(count(*), 0)
     FROM derivable AS d LEFT JOIN bar AS b ON b.ts_utc = d.ts_utc)::double precision AS error_rate,
    (SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM b.ingested_at - b.ts_utc) - 60)
     FROM bar AS b)::double precision AS latency_p95,
    (SELECT extract(epoch FROM sum(least(s.closes_at, %(now)s::timestamptz) - greatest(s.opens_at, m.latest + interval '1 minute'))) / 60
     FROM (SELECT max(b.ts_utc) AS latest FROM ${image} AS b WHERE b.ts_utc < %(now)s) AS m
     JOIN dxy.fx_session AS s ON s.opens_at < %(now)s AND s.closes_at > m.latest + interval '1 minute')::double precision AS freshness;

-- The roll-up rule, once: DXY bars of one timeframe as they follow from the 1m bars in data_bars (never from both tables,
-- never from another roll-up: a dropped 5m bar would lose its extremes).
-- expected_candles: open FX minutes of the bucket. Completeness: all -> 2, >= 0.8 -> 1, >= 0.6 -> 0, less or nothing
-- expected -> no bar. is_partial: the bucket may still receive minutes (its end plus the settle delay is after p_now).
-- The range is widened to whole buckets, which are aligned to the UTC epoch.
-- Bars and open minutes are each grouped by bucket and joined by hash, whatever the statistics say about a fresh table.
CREATE OR REPLACE FUNCTION dxy.rollup_bars(
    p_width interval, p_from_utc timestamptz, p_to_utc timestamptz, p_now timestamptz
)
RETURNS TABLE (
    ts_utc timestamptz, open numeric, high numeric, low numeric, close numeric, vol numeric, vwap numeric,
    trade_count bigint, is_partial boolean, source_candles integer, expected_candles integer, quality_score integer
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
SET enable_nestloop = off
SET jit = off
AS $$
    WITH bounds AS (
        SELECT date_bin(p_width, p_from_utc, 'epoch') AS first_ts,
            date_bin(p_width, p_to_utc - interval '1 microsecond', 'epoch') + p_width AS end_ts
    ),
    minute AS (
        SELECT date_bin(p_width, d.ts_utc, 'epoch') AS bucket, d.ts_utc, d.open, d.high, d.low, d.close, d.vol, d.vwap,
            d.trade_count
        FROM public.data_bars AS d
        WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.close IS NOT NULL
            AND d.ts_utc >= (SELECT b.first_ts FROM bounds AS b) AND d.ts_utc < (SELECT b.end_ts FROM bounds AS b)
        ORDER BY d.ts_utc
    ),
    bucket AS (
        SELECT m.bucket,
            (array_agg(m.open ORDER BY m.ts_utc))[1] AS open,
            max(m.high) AS high, min(m.low) AS low,
            (array_agg(m.close ORDER BY m.ts_utc))[count(*)] AS close,
            sum(m.vol) AS vol, sum(m.vwap * m.vol) / nullif(sum(m.vol), 0) AS vwap,
            sum(m.trade_count) AS trade_count, count(*)::integer AS source_candles
        FROM minute AS m
        GROUP BY m.bucket
    ),
    market AS (
        SELECT q.bucket,
            (extract(epoch FROM sum(least(q.closes_at, q.bucket + p_width) - greatest(q.opens_at, q.bucket))) / 60)::integer
                AS expected
        FROM (
            SELECT s.opens_at, s.closes_at, generate_series(
                    date_bin(p_width, greatest(s.opens_at, (SELECT b.first_ts FROM bounds AS b)), 'epoch'),
                    least(s.closes_at, (SELECT b.end_ts FROM bounds AS b)) - interval '1 microsecond', p_width) AS bucket
            FROM dxy.fx_session AS s
            WHERE s.opens_at < (SELECT b.end_ts FROM bounds AS b)
                AND s.opens_at > (SELECT b.first_ts FROM bounds AS b) - interval '8 days'
                AND s.closes_at > (SELECT b.first_ts FROM bounds AS b)
        ) AS q
        GROUP BY q.bucket
    )
    SELECT b.bucket, b.open::numeric, b.high::numeric, b.low::numeric, b.close::numeric, b.vol::numeric, b.vwap::numeric,
        b.trade_count,
        b.bucket + p_width + make_interval(secs => (SELECT (s.value)::numeric FROM dxy.setting AS s WHERE s.key = 'settle_seconds')::double precision) > p_now,
        b.source_candles, e.expected,
        CASE WHEN b.source_candles >= e.expected THEN 2 WHEN b.source_candles >= 0.8 * e.expected THEN 1 ELSE 0 END
    FROM bucket AS b
    JOIN market AS e ON e.bucket = b.bucket
    WHERE e.expected > 0 AND b.source_candles >= 0.6 * e.expected;
$$;

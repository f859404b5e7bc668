-- The gap ledger: open minutes of [p_from_utc, p_to_utc) without a bar, one row per run of consecutive minutes of a
-- symbol and class. Classes: pending (may still arrive), feed down (no pair has the minute), component missing (a pair
-- lacks it that others have), not derived (DXY only: all six pairs have it). confirmed: older than p_confirm.
-- Minutes while the market is shut are not gaps. It begins with the first minute bar ever stored: the ECB's one fix a
-- day is no minute feed. One hash join of minutes, not one per symbol; nothing depends on statistics.
CREATE OR REPLACE FUNCTION dxy.gap_ledger(
    p_symbols text[], p_from_utc timestamptz, p_to_utc timestamptz, p_now timestamptz,
    p_pending interval DEFAULT '10 minutes', p_confirm interval DEFAULT '24 hours'
)
RETURNS TABLE (symbol text, first_ts timestamptz, last_ts timestamptz, minutes integer, class text, confirmed boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
SET enable_nestloop = off
SET jit = off
AS $$
    WITH begins AS MATERIALIZED (
        SELECT date_trunc('minute', min(f.ts_utc) + interval '59.999999 seconds') AS from_ts
        FROM unnest(ARRAY[${component_list}]) AS y (symbol)
        CROSS JOIN LATERAL (
            (SELECT p_from_utc AS ts_utc FROM public.data_bars AS d
             WHERE d.canonical_symbol = y.symbol AND d.timeframe = '1m' AND d.ts_utc < p_from_utc
                AND d.raw ->> 'feed' IS DISTINCT FROM 'ecb'
             ORDER BY d.ts_utc DESC LIMIT 1)
            UNION ALL
            (SELECT d.ts_utc FROM public.data_bars AS d
             WHERE d.canonical_symbol = y.symbol AND d.timeframe = '1m' AND d.ts_utc >= p_from_utc AND d.ts_utc < p_to_utc
                AND d.raw ->> 'feed' IS DISTINCT FROM 'ecb'
             ORDER BY d.ts_utc LIMIT 1)
        ) AS f
    ),
    open_minute AS (
        SELECT m.ts_utc
        FROM dxy.fx_session AS s
        CROSS JOIN LATERAL generate_series(
            greatest(s.opens_at, (SELECT b.from_ts FROM begins AS b)), least(s.closes_at, p_to_utc) - interval '1 minute',
            interval '1 minute'
        ) AS m (ts_utc)
        WHERE s.opens_at < p_to_utc AND s.closes_at > (SELECT b.from_ts FROM begins AS b)
    ),
    present AS MATERIALIZED (
        SELECT d.ts_utc, array_agg(d.canonical_symbol) AS symbols,
            count(*) FILTER (WHERE d.canonical_symbol IN (${component_list})) AS pairs
        FROM public.data_bars AS d
        WHERE d.timeframe = '1m' AND d.ts_utc >= p_from_utc AND d.ts_utc < p_to_utc
            AND d.canonical_symbol = ANY (ARRAY[${component_list}] || p_symbols)
        GROUP BY d.ts_utc
    ),
    missing AS (
        SELECT y.symbol, o.ts_utc,
            CASE WHEN o.ts_utc >= p_now - p_pending THEN 'pending'
                WHEN coalesce(p.pairs, 0) = 0 THEN 'feed down'
                WHEN p.pairs = 6 THEN 'not derived' ELSE 'component missing' END AS class
        FROM open_minute AS o
        LEFT JOIN present AS p ON p.ts_utc = o.ts_utc
        CROSS JOIN unnest(p_symbols) AS y (symbol)
        WHERE p.ts_utc IS NULL OR y.symbol <> ALL (p.symbols)
    ),
    island AS (
        SELECT m.*, m.ts_utc - make_interval(mins => (row_number() OVER (PARTITION BY m.symbol, m.class ORDER BY m.ts_utc))::integer) AS run
        FROM missing AS m
    )
    SELECT i.symbol, min(i.ts_utc), max(i.ts_utc), count(*)::integer, i.class, max(i.ts_utc) < p_now - p_confirm
    FROM island AS i
    GROUP BY i.symbol, i.class, i.run;
$$;

-- The gap ledger: open minutes of [p_from_utc, p_to_utc) without a bar, one row per run of consecutive minutes of a
-- symbol and class. Classes: pending (may still arrive), feed down (no pair has the minute), component missing (others
-- have it), each of them confirmed once it is older than p_confirm. Minutes while the market is shut are not gaps.
CREATE OR REPLACE FUNCTION dxy.gap_ledger(
    p_symbols text[], p_from_utc timestamptz, p_to_utc timestamptz, p_now timestamptz,
    p_pending interval DEFAULT '10 minutes', p_confirm interval DEFAULT '24 hours'
)
RETURNS TABLE (symbol text, first_ts timestamptz, last_ts timestamptz, minutes integer, class text, confirmed boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
SET jit = off
AS $$
    WITH open_minute AS (
        SELECT m.ts_utc
        FROM dxy.fx_session AS s
        CROSS JOIN LATERAL generate_series(
            greatest(s.opens_at, p_from_utc), least(s.closes_at, p_to_utc) - interval '1 minute', interval '1 minute'
        ) AS m (ts_utc)
        WHERE s.opens_at < p_to_utc AND s.closes_at > p_from_utc
    ),
    bar AS (
        SELECT d.canonical_symbol AS symbol, d.ts_utc
        FROM public.data_bars AS d
        WHERE d.timeframe = '1m' AND d.ts_utc >= p_from_utc AND d.ts_utc < p_to_utc
            AND (d.canonical_symbol IN (${component_list}) OR d.canonical_symbol = ANY (p_symbols))
    ),
    present AS (
        SELECT b.ts_utc, count(*) FILTER (WHERE b.symbol IN (${component_list})) AS pairs FROM bar AS b GROUP BY b.ts_utc
    ),
    missing AS (
        SELECT y.symbol, o.ts_utc,
            CASE WHEN o.ts_utc >= p_now - p_pending THEN 'pending'
                WHEN coalesce(p.pairs, 0) = 0 THEN 'feed down' ELSE 'component missing' END AS class
        FROM open_minute AS o
        CROSS JOIN unnest(p_symbols) AS y (symbol)
        LEFT JOIN bar AS b ON b.symbol = y.symbol AND b.ts_utc = o.ts_utc
        LEFT JOIN present AS p ON p.ts_utc = o.ts_utc
        WHERE b.ts_utc IS NULL
    ),
    island AS (
        SELECT m.*, m.ts_utc - make_interval(mins => (row_number() OVER (PARTITION BY m.symbol, m.class ORDER BY m.ts_utc))::integer) AS run
        FROM missing AS m
    )
    SELECT i.symbol, min(i.ts_utc), max(i.ts_utc), count(*)::integer, i.class, max(i.ts_utc) < p_now - p_confirm
    FROM island AS i
    GROUP BY i.symbol, i.class, i.run;
$$;

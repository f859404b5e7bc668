-- What DXY 1m follows from today's FX rows, for checks: a minute with all six pairs and its price.
CREATE OR REPLACE FUNCTION dxy.recomputed_minutes(p_from_utc timestamptz, p_to_utc timestamptz)
RETURNS TABLE (ts_utc timestamptz, price numeric)
LANGUAGE sql STABLE ROWS 10000
SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
SET jit = off
AS $$
    SELECT m.ts_utc, round(m.price::numeric, 8)
    FROM (
        SELECT d.ts_utc, dxy.index_price(
                ${recomputed_closes}) AS price
        FROM public.data_bars AS d
        WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m' AND d.close > 0 AND d.close < 'Infinity'
            AND d.ts_utc >= p_from_utc AND d.ts_utc < p_to_utc
        GROUP BY d.ts_utc
    ) AS m
    WHERE m.price IS NOT NULL AND m.ts_utc = date_bin(interval '1 minute', m.ts_utc, 'epoch');
$$;

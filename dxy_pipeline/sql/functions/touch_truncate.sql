-- TRUNCATE leaves no transition rows: before it empties data_bars, every minute there is logged as touched.
CREATE OR REPLACE FUNCTION dxy.log_truncated()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET work_mem = '64MB'
AS $$
BEGIN
    INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes)
    SELECT t.target, (c.ts_utc AT TIME ZONE 'UTC')::date, min(c.ts_utc), max(c.ts_utc), count(DISTINCT c.ts_utc)
    FROM public.data_bars AS c CROSS JOIN LATERAL dxy.touch_targets(c.canonical_symbol, c.timeframe) AS t (target)
    WHERE c.ts_utc >= '1970-01-01 00:00+00' AND c.ts_utc < '2100-01-01 00:00+00'
    GROUP BY 1, 2;
    RETURN NULL;
END;
$$;

-- Logs which minutes need re-deriving, in the transaction of the change itself, whoever the writer is.
-- An FX close that appears, changes or goes touches DXY 1m; a DXY 1m bar that does touches 5m and 1h.
-- Statement triggers with transition tables: a bulk load of a year logs 366 rows, not two million.
CREATE OR REPLACE FUNCTION dxy.log_touched()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes)
        SELECT t.target, (c.ts_utc AT TIME ZONE 'UTC')::date, min(c.ts_utc), max(c.ts_utc), count(DISTINCT c.ts_utc)
        FROM new_rows AS c CROSS JOIN LATERAL dxy.touch_targets(c.canonical_symbol, c.timeframe) AS t (target)
        GROUP BY 1, 2;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes)
        SELECT t.target, (c.ts_utc AT TIME ZONE 'UTC')::date, min(c.ts_utc), max(c.ts_utc), count(DISTINCT c.ts_utc)
        FROM old_rows AS c CROSS JOIN LATERAL dxy.touch_targets(c.canonical_symbol, c.timeframe) AS t (target)
        GROUP BY 1, 2;
    ELSE
        INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes)
        SELECT t.target, (c.ts_utc AT TIME ZONE 'UTC')::date, min(c.ts_utc), max(c.ts_utc), count(DISTINCT c.ts_utc)
        FROM (
            (SELECT n.canonical_symbol, n.timeframe, n.ts_utc, n.open, n.high, n.low, n.close, n.vol FROM new_rows AS n
             EXCEPT SELECT o.canonical_symbol, o.timeframe, o.ts_utc, o.open, o.high, o.low, o.close, o.vol FROM old_rows AS o)
            UNION ALL
            (SELECT o.canonical_symbol, o.timeframe, o.ts_utc, o.open, o.high, o.low, o.close, o.vol FROM old_rows AS o
             EXCEPT SELECT n.canonical_symbol, n.timeframe, n.ts_utc, n.open, n.high, n.low, n.close, n.vol FROM new_rows AS n)
        ) AS c CROSS JOIN LATERAL dxy.touch_targets(c.canonical_symbol, c.timeframe) AS t (target)
        GROUP BY 1, 2;
    END IF;
    RETURN NULL;
END;
$$;

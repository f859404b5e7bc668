-- Logs which minutes need re-deriving, in the transaction of the change itself, whoever the writer is.
-- An FX close that appears, changes or goes touches DXY 1m; a DXY 1m bar that does touches 5m and 1h.
-- Statement triggers with transition tables: a bulk load of a year logs 366 rows, not two million. Six pairs of a minute
-- are one minute: the rows are made distinct by hashing before they are counted by day. Times that no calendar covers
-- (before 1970, from 2100 on, infinity) are nobody's minute; a desk may store them without an error from us.
CREATE OR REPLACE FUNCTION dxy.log_touched()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET work_mem = '64MB'
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes)
        SELECT t.target, (d.day AT TIME ZONE 'UTC')::date, d.first_ts, d.last_ts, d.minutes
        FROM (
            SELECT m.is_index, m.day, min(m.ts_utc) AS first_ts, max(m.ts_utc) AS last_ts, count(*) AS minutes
            FROM (
                SELECT DISTINCT c.canonical_symbol = 'DXY' AS is_index, date_bin('1 day', c.ts_utc, 'epoch') AS day, c.ts_utc
                FROM new_rows AS c
                WHERE c.timeframe = '1m' AND c.canonical_symbol IN (${component_list}, 'DXY')
                    AND c.ts_utc >= '1970-01-01 00:00+00' AND c.ts_utc < '2100-01-01 00:00+00'
            ) AS m
            GROUP BY m.is_index, m.day
        ) AS d
        JOIN (VALUES ('1m', false), ('5m', true), ('1h', true)) AS t (target, is_index) ON t.is_index = d.is_index;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes)
        SELECT t.target, (d.day AT TIME ZONE 'UTC')::date, d.first_ts, d.last_ts, d.minutes
        FROM (
            SELECT m.is_index, m.day, min(m.ts_utc) AS first_ts, max(m.ts_utc) AS last_ts, count(*) AS minutes
            FROM (
                SELECT DISTINCT c.canonical_symbol = 'DXY' AS is_index, date_bin('1 day', c.ts_utc, 'epoch') AS day, c.ts_utc
                FROM old_rows AS c
                WHERE c.timeframe = '1m' AND c.canonical_symbol IN (${component_list}, 'DXY')
                    AND c.ts_utc >= '1970-01-01 00:00+00' AND c.ts_utc < '2100-01-01 00:00+00'
            ) AS m
            GROUP BY m.is_index, m.day
        ) AS d
        JOIN (VALUES ('1m', false), ('5m', true), ('1h', true)) AS t (target, is_index) ON t.is_index = d.is_index;
    ELSE
        INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes)
        SELECT t.target, (d.day AT TIME ZONE 'UTC')::date, d.first_ts, d.last_ts, d.minutes
        FROM (
            SELECT m.is_index, m.day, min(m.ts_utc) AS first_ts, max(m.ts_utc) AS last_ts, count(*) AS minutes
            FROM (
                SELECT DISTINCT c.canonical_symbol = 'DXY' AS is_index, date_bin('1 day', c.ts_utc, 'epoch') AS day, c.ts_utc
                FROM (
                    (SELECT n.canonical_symbol, n.timeframe, n.ts_utc, n.open, n.high, n.low, n.close, n.vol, n.vwap, n.trade_count
                     FROM new_rows AS n
                     EXCEPT
                     SELECT o.canonical_symbol, o.timeframe, o.ts_utc, o.open, o.high, o.low, o.close, o.vol, o.vwap, o.trade_count
                     FROM old_rows AS o)
                    UNION ALL
                    (SELECT o.canonical_symbol, o.timeframe, o.ts_utc, o.open, o.high, o.low, o.close, o.vol, o.vwap, o.trade_count
                     FROM old_rows AS o
                     EXCEPT
                     SELECT n.canonical_symbol, n.timeframe, n.ts_utc, n.open, n.high, n.low, n.close, n.vol, n.vwap, n.trade_count
                     FROM new_rows AS n)
                ) AS c
                WHERE c.timeframe = '1m' AND c.canonical_symbol IN (${component_list}, 'DXY')
                    AND c.ts_utc >= '1970-01-01 00:00+00' AND c.ts_utc < '2100-01-01 00:00+00'
            ) AS m
            GROUP BY m.is_index, m.day
        ) AS d
        JOIN (VALUES ('1m', false), ('5m', true), ('1h', true)) AS t (target, is_index) ON t.is_index = d.is_index;
    END IF;
    RETURN NULL;
END;
$$;

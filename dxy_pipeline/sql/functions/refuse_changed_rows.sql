-- Raises what count-match found: minutes that were not written as they were meant, by name. The rows of this call are
-- still there to be looked at; the caller's transaction undoes them.
CREATE OR REPLACE FUNCTION dxy.refuse_changed_rows(p_minutes timestamptz[], p_prices numeric[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'count-match failed: rows of data_bars are not as they were meant (a trigger changes them): %', (
        SELECT string_agg(format('%s is %s, not %s', to_char(f.ts_utc AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"'),
            coalesce(f.found, 'absent'), f.price), ', ')
        FROM (
            SELECT m.ts_utc, round(m.price, 8) AS price,
                CASE WHEN d.open = d.close AND d.high = d.close AND d.low = d.close THEN d.close::text
                    ELSE format('%s %s %s %s', d.open, d.high, d.low, d.close) END AS found
            FROM unnest(p_minutes, p_prices) AS m (ts_utc, price)
            LEFT JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = m.ts_utc
            WHERE m.price IS NOT NULL
                AND (d.open = round(m.price, 8) AND d.high = d.open AND d.low = d.open AND d.close = d.open) IS NOT TRUE
            ORDER BY m.ts_utc LIMIT 3
        ) AS f);
END;
$$;

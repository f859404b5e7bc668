SELECT (l.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*) AS n FROM public.derived_data_bars AS l
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
GROUP BY 1 ORDER BY 1;

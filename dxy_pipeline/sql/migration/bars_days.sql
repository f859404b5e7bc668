SELECT DISTINCT (d.ts_utc AT TIME ZONE 'UTC')::date AS day FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' ORDER BY 1;

SELECT (l.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*) AS tagged FROM public.derived_data_bars AS l
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.dxy_retired_by IS NOT NULL GROUP BY 1 ORDER BY 1;

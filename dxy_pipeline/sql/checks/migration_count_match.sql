-- While both tables hold DXY 1m: legacy bars without an equal row in data_bars, by key.
SELECT l.ts_utc, l.close::float8 AS legacy_close, d.close::float8 AS close
FROM public.derived_data_bars AS l
LEFT JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = l.ts_utc
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
    AND l.ts_utc >= %(start)s AND l.ts_utc < %(end)s
    AND (SELECT c.state FROM dxy.migration_control AS c) IN ('verified', 'cut_over')
    AND (abs(d.close::float8 - l.close::float8) <= 1e-8) IS NOT TRUE
ORDER BY l.ts_utc

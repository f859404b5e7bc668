-- The seed's "Detailed Status" (3.2).
SELECT 'DXY 1m bars in data_bars' AS metric, count(*) AS count, min(d.ts_utc) AS earliest, max(d.ts_utc) AS latest
FROM public.data_bars AS d WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m'
UNION ALL
SELECT 'DXY 1m bars in derived (active)', count(*), min(l.ts_utc), max(l.ts_utc)
FROM public.derived_data_bars AS l WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
UNION ALL
SELECT 'DXY 1m bars in derived (deleted)', count(*), min(l.ts_utc), max(l.ts_utc)
FROM public.derived_data_bars AS l WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NOT NULL;

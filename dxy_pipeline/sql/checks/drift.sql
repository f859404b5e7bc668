-- Stored DXY minutes that are not what today's FX rows give. Migrated minutes may differ by 1e-8.
SELECT s.ts_utc, s.close::float8 AS stored, r.price::float8 AS recomputed
FROM dxy.recomputed_minutes(%(start)s, %(end)s) AS r
JOIN (
    SELECT d.ts_utc, d.close, d.raw ? 'migrated_from' AS is_migrated FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
) AS s ON s.ts_utc = r.ts_utc
WHERE (abs(s.close::numeric - r.price) <= CASE WHEN s.is_migrated THEN 0.00000001 ELSE 0 END) IS NOT TRUE
    AND NOT EXISTS ({under_way})
ORDER BY s.ts_utc

-- Stored DXY minutes that are not what today's FX rows give: each of open, high, low, close is the index.
-- Migrated minutes are copied as they were and may differ by 1e-8 in each.
SELECT s.ts_utc, s.close::float8 AS stored, r.price::float8 AS recomputed,
    s.open::float8 AS stored_open, s.high::float8 AS stored_high, s.low::float8 AS stored_low
FROM dxy.recomputed_minutes(%(start)s, %(end)s) AS r
JOIN (
    SELECT d.ts_utc, d.open, d.high, d.low, d.close, d.raw ? 'migrated_from' AS is_migrated FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
) AS s ON s.ts_utc = r.ts_utc
WHERE CASE WHEN s.is_migrated THEN (abs(s.open::numeric - r.price) <= 0.00000001 AND abs(s.high::numeric - r.price) <= 0.00000001
            AND abs(s.low::numeric - r.price) <= 0.00000001 AND abs(s.close::numeric - r.price) <= 0.00000001) IS NOT TRUE
        ELSE (s.open, s.high, s.low, s.close) IS DISTINCT FROM (r.price, r.price, r.price, r.price) END
    AND NOT EXISTS ({under_way})
ORDER BY s.ts_utc

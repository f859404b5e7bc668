-- Complete six-tuples without a DXY minute (missing) and DXY minutes without a complete six-tuple (extra), by key.
-- A migrated minute whose inputs were never stored counts neither way; a minute touched a moment ago is still under way.
SELECT coalesce(r.ts_utc, s.ts_utc) AS ts_utc, CASE WHEN s.ts_utc IS NULL THEN 'missing' ELSE 'extra' END AS fault
FROM dxy.recomputed_minutes(%(start)s, %(end)s) AS r
FULL JOIN (
    SELECT d.ts_utc, d.raw ? 'migrated_from' AS is_migrated FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
) AS s ON s.ts_utc = r.ts_utc
WHERE (s.ts_utc IS NULL OR (r.ts_utc IS NULL AND NOT s.is_migrated))
    AND NOT EXISTS ({under_way})
ORDER BY 1

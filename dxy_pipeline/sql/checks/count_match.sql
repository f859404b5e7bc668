-- Complete six-tuples without a DXY minute (missing) and DXY minutes without a complete six-tuple (extra), by key.
-- A minute whose inputs were never stored, migrated or a desk's own, counts neither way; one touched a moment ago is still
-- under way.
SELECT coalesce(r.ts_utc, s.ts_utc) AS ts_utc, CASE WHEN s.ts_utc IS NULL THEN 'missing' ELSE 'extra' END AS fault
FROM dxy.recomputed_minutes(%(start)s, %(end)s) AS r
FULL JOIN (
    SELECT d.ts_utc, d.source, d.raw FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
) AS s ON s.ts_utc = r.ts_utc
WHERE CASE
        WHEN s.ts_utc IS NULL THEN true
        WHEN r.ts_utc IS NULL THEN dxy.is_derived(s.source, s.raw)
            OR s.ts_utc <> date_bin(interval '1 minute', s.ts_utc, 'epoch')
            OR (s.raw ? 'migrated_from' AND NOT dxy.is_unverifiable(s.ts_utc))
    END
    AND NOT EXISTS ({under_way})
ORDER BY 1

-- Count and content of both tables by day, in one snapshot, over everything. A native minute that legacy never had and nobody changed
-- is left out; changed, it counts.
WITH excused AS MATERIALIZED (
    SELECT n.ts_utc FROM dxy.migration_native AS n
    JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc
    WHERE NOT n.had_legacy AND n.row_hash = hash_record_extended(d, 0)
        AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = n.ts_utc)
        AND NOT EXISTS (SELECT FROM dxy.legacy_image AS l WHERE l.ts_utc = n.ts_utc)
),
legacy AS (
    SELECT (l.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*) AS n, sum(hash_record_extended(l, 0)) AS content
    FROM dxy.legacy_image AS l
    GROUP BY 1
),
target AS (
    SELECT (b.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*) AS n, sum(hash_record_extended(b, 0)) AS content
    FROM dxy.bars_image AS b
    WHERE NOT EXISTS (SELECT FROM excused AS e WHERE e.ts_utc = b.ts_utc)
    GROUP BY 1
)
SELECT coalesce(l.day, t.day) AS day, coalesce(l.n, 0) AS legacy_rows, coalesce(t.n, 0) AS target_rows,
    (l.n, l.content) IS NOT DISTINCT FROM (t.n, t.content) AS equal, (SELECT count(*) FROM excused) AS native_only
FROM legacy AS l FULL JOIN target AS t ON t.day = l.day
ORDER BY 1;

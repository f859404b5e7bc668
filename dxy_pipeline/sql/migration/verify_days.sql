-- Count and content of both tables by day, in one snapshot, over everything. A native minute that legacy never had and nobody changed
-- is left out; changed, it counts. It is subtracted: an anti-join with it would keep workers from summing up the days.
WITH excused AS MATERIALIZED (
    SELECT b AS image, b.ts_utc FROM dxy.migration_native AS n
    JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc
    JOIN dxy.bars_image AS b ON b.ts_utc = n.ts_utc
    WHERE NOT n.had_legacy AND n.row_hash = hash_record_extended(d, 0)
        AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = n.ts_utc)
        AND NOT EXISTS (SELECT FROM ${legacy} AS l WHERE l.ts_utc = n.ts_utc)
),
legacy AS (
    SELECT date_bin('1 day', l.ts_utc, 'epoch') AS day, count(*) AS n, sum(hash_record_extended(l, 0)) AS content
    FROM ${legacy} AS l
    GROUP BY 1
),
target AS (
    SELECT date_bin('1 day', b.ts_utc, 'epoch') AS day, count(*) AS n, sum(hash_record_extended(b, 0)) AS content
    FROM dxy.bars_image AS b
    GROUP BY 1
),
left_out AS (
    SELECT date_bin('1 day', e.ts_utc, 'epoch') AS day, count(*) AS n, sum(hash_record_extended(e.image, 0)) AS content
    FROM excused AS e
    GROUP BY 1
),
figures AS (
    SELECT coalesce(l.day, t.day) AS day, coalesce(l.n, 0) AS legacy_rows, coalesce(l.content, 0) AS legacy_content,
        coalesce(t.n, 0) - coalesce(o.n, 0) AS target_rows, coalesce(t.content, 0) - coalesce(o.content, 0) AS target_content
    FROM legacy AS l FULL JOIN target AS t ON t.day = l.day LEFT JOIN left_out AS o ON o.day = t.day
)
SELECT (f.day AT TIME ZONE 'UTC')::date AS day, f.legacy_rows, f.target_rows,
    (f.legacy_rows, f.legacy_content) = (f.target_rows, f.target_content) AS equal,
    (SELECT count(*) FROM excused) AS native_only
FROM figures AS f
ORDER BY 1;

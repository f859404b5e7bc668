-- verify_days for the listed days only, by index range: quick enough to run while the cutover holds readers off.
SELECT w.day, l.n AS legacy_rows, t.n AS target_rows, (l.n, l.content) IS NOT DISTINCT FROM (t.n, t.content) AS equal,
    0::bigint AS native_only
FROM unnest(%(days)s::date[]) AS w (day)
CROSS JOIN LATERAL (
    SELECT count(*) AS n, sum(hash_record_extended(i, 0)) AS content FROM ${legacy} AS i
    WHERE i.ts_utc >= w.day::timestamp AT TIME ZONE 'UTC' AND i.ts_utc < (w.day + 1)::timestamp AT TIME ZONE 'UTC'
) AS l
CROSS JOIN LATERAL (
    SELECT count(*) AS n, sum(hash_record_extended(i, 0)) AS content FROM dxy.bars_image AS i
    WHERE i.ts_utc >= w.day::timestamp AT TIME ZONE 'UTC' AND i.ts_utc < (w.day + 1)::timestamp AT TIME ZONE 'UTC'
        AND NOT EXISTS (SELECT FROM dxy.migration_native AS n
            JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc
            WHERE n.ts_utc = i.ts_utc AND NOT n.had_legacy AND n.row_hash = hash_record_extended(d, 0)
                AND NOT EXISTS (SELECT FROM dxy.migration_direct AS x WHERE x.ts_utc = n.ts_utc)
                AND NOT EXISTS (SELECT FROM ${legacy} AS y WHERE y.ts_utc = n.ts_utc))
) AS t
ORDER BY 1;

-- Minutes of these days that a rollback would lose, with what is there. Readers use legacy: rows of data_bars that legacy does
-- not hold and that are not as they were before the dual write. Readers use data_bars: every difference.
SELECT coalesce(l.ts_utc, b.ts_utc) AS ts_utc,
    CASE WHEN b.ts_utc IS NULL THEN 'missing in data_bars' WHEN l.ts_utc IS NULL THEN 'missing in legacy' ELSE 'differs' END AS problem,
    l.close::text AS legacy_close, b.close::text AS target_close, count(*) OVER () AS total,
    count(*) FILTER (WHERE b.ts_utc IS NULL) OVER () AS only_legacy, count(*) FILTER (WHERE l.ts_utc IS NULL) OVER () AS only_bars
FROM (SELECT * FROM ${legacy} AS i WHERE (i.ts_utc AT TIME ZONE 'UTC')::date = ANY (%(days)s::date[])) AS l
FULL JOIN (SELECT * FROM dxy.bars_image AS i WHERE (i.ts_utc AT TIME ZONE 'UTC')::date = ANY (%(days)s::date[])) AS b
    ON b.ts_utc = l.ts_utc
WHERE l IS DISTINCT FROM b
    AND (b.ts_utc IS NOT NULL OR (SELECT c.read_from FROM dxy.migration_control AS c) = 'data_bars')
    AND NOT EXISTS (SELECT FROM dxy.migration_native AS n
        JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc
        WHERE n.ts_utc = b.ts_utc AND n.row_hash = hash_record_extended(d, 0)
            AND (l.ts_utc IS NULL AND NOT n.had_legacy OR (SELECT c.read_from FROM dxy.migration_control AS c) = 'legacy'))
ORDER BY 1 LIMIT 1000;

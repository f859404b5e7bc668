-- The minutes of these days on which the tables differ, with what is there.
SELECT coalesce(l.ts_utc, b.ts_utc) AS ts_utc,
    CASE WHEN b.ts_utc IS NULL THEN 'missing in data_bars' WHEN l.ts_utc IS NULL THEN 'missing in legacy'
        ELSE (SELECT 'differs in ' || string_agg(x.key, ', ') FROM jsonb_each(to_jsonb(l)) AS x (key, value)
              WHERE to_jsonb(b) -> x.key IS DISTINCT FROM x.value OR (x.key = 'zero_prices' AND l.zero_prices IS DISTINCT FROM b.zero_prices))
        END AS problem,
    l.close::text AS legacy_close, b.close::text AS target_close, count(*) OVER () AS total,
    count(*) FILTER (WHERE b.ts_utc IS NULL) OVER () AS only_legacy, count(*) FILTER (WHERE l.ts_utc IS NULL) OVER () AS only_bars
FROM (SELECT * FROM ${legacy} AS i WHERE (i.ts_utc AT TIME ZONE 'UTC')::date = ANY (%(days)s::date[])) AS l
FULL JOIN (SELECT * FROM dxy.bars_image AS i WHERE (i.ts_utc AT TIME ZONE 'UTC')::date = ANY (%(days)s::date[])) AS b
    ON b.ts_utc = l.ts_utc
WHERE l IS DISTINCT FROM b
    AND NOT (l.ts_utc IS NULL AND EXISTS (SELECT FROM dxy.migration_native AS n
        JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc
        WHERE n.ts_utc = b.ts_utc AND NOT n.had_legacy AND n.row_hash = hash_record_extended(d, 0)
            AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = n.ts_utc)))
ORDER BY 1 LIMIT 1000;

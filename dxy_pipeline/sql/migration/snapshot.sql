-- The seed's pre-migration snapshot, by the sources that are there.
INSERT INTO dxy.migration_snapshot (migration_id, table_name, canonical_symbol, timeframe, row_count, earliest, latest, by_source)
SELECT %(migration_id)s, s.table_name, s.canonical_symbol, s.timeframe, sum(s.n), min(s.earliest), max(s.latest),
    jsonb_object_agg(s.source, s.n)
FROM (
    SELECT 'data_bars' AS table_name, d.canonical_symbol, d.timeframe, d.source, count(*) AS n, min(d.ts_utc) AS earliest,
        max(d.ts_utc) AS latest
    FROM public.data_bars AS d WHERE d.canonical_symbol IN ('DXY', ${component_list}) GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'derived_data_bars', l.canonical_symbol, l.timeframe, coalesce(to_jsonb(l) ->> 'source', 'unknown'), count(*),
        min(l.ts_utc), max(l.ts_utc)
    FROM public.derived_data_bars AS l
    WHERE l.canonical_symbol IN ('DXY', ${component_list}) AND l.deleted_at IS NULL GROUP BY 2, 3, 4
) AS s
GROUP BY 2, 3, 4
ON CONFLICT DO NOTHING;

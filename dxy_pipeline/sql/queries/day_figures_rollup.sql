SELECT (d.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*)::integer AS rows, min(d.low)::float8 AS low,
    max(d.high)::float8 AS high, (array_agg(d.close ORDER BY d.ts_utc DESC))[1]::float8 AS last, max(d.ts_utc) AS latest,
    1 AS symbols
FROM public.derived_data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = %(timeframe)s AND d.deleted_at IS NULL
    AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
GROUP BY 1
ORDER BY 1;

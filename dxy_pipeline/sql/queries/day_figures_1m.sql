SELECT (d.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*)::integer AS rows, min(d.low)::float8 AS low,
    max(d.high)::float8 AS high, (array_agg(d.close ORDER BY d.ts_utc DESC))[1]::float8 AS last, max(d.ts_utc) AS latest,
    count(DISTINCT d.canonical_symbol)::integer AS symbols
FROM public.data_bars AS d
WHERE d.canonical_symbol = ANY (%(symbols)s) AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
GROUP BY 1
ORDER BY 1;

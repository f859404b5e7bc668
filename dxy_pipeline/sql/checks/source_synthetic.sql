-- DXY minutes whose source is anything but synthetic.
SELECT d.ts_utc, d.source FROM public.data_bars AS d
WHERE d.canonical_symbol = ANY (%(symbols)s) AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
    AND d.source IS DISTINCT FROM 'synthetic'
ORDER BY d.ts_utc

SELECT d.canonical_symbol, d.ts_utc, d.open, d.high, d.low, d.close, d.vol, d.source
FROM public.data_bars AS d
WHERE d.canonical_symbol = ANY (%(symbols)s) AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
ORDER BY d.canonical_symbol, d.ts_utc;

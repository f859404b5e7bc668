SELECT d.ts_utc, d.open, d.high, d.low, d.close, d.vol, d.vwap, d.trade_count
FROM public.data_bars AS d
WHERE d.canonical_symbol = %(symbol)s AND d.timeframe = '1m' AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
ORDER BY d.ts_utc;

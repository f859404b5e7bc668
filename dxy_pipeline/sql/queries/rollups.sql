SELECT d.ts_utc, d.open, d.high, d.low, d.close, d.vol, d.vwap, d.trade_count, d.is_partial, d.source_candles,
    d.expected_candles, d.quality_score
FROM public.derived_data_bars AS d
WHERE d.canonical_symbol = %(symbol)s AND d.timeframe = %(timeframe)s AND d.deleted_at IS NULL
    AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
ORDER BY d.ts_utc;

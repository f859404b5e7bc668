-- Roll-ups with more source minutes than their bucket has open minutes.
SELECT d.ts_utc, d.source_candles, d.expected_candles FROM public.derived_data_bars AS d
WHERE d.canonical_symbol = ANY (%(symbols)s) AND d.timeframe = %(timeframe)s AND d.deleted_at IS NULL
    AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s AND d.source_candles > d.expected_candles
ORDER BY d.ts_utc

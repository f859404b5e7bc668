-- Roll-ups with more source minutes than their bucket has open minutes.
SELECT b.ts_utc, b.source_candles, b.expected_candles FROM ({bars}) AS b
WHERE b.source_candles > b.expected_candles ORDER BY b.ts_utc

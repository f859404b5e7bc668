-- Stored roll-ups that are not the roll-up of the stored minutes: missing, extra or different. Buckets that ended within
-- the grace period are left out (they may be under way).
SELECT coalesce(r.ts_utc, s.ts_utc) AS ts_utc,
    CASE WHEN s.ts_utc IS NULL THEN 'missing' WHEN r.ts_utc IS NULL THEN 'extra' ELSE 'different' END AS fault,
    s.open::float8 AS stored_open, r.open::float8 AS open, s.high::float8 AS stored_high, r.high::float8 AS high,
    s.low::float8 AS stored_low, r.low::float8 AS low, s.close::float8 AS stored_close, r.close::float8 AS close,
    s.source_candles AS stored_candles, r.source_candles AS candles
FROM dxy.rollup_bars(%(width)s::interval, %(start)s, %(end)s, %(now)s) AS r
FULL JOIN (
    SELECT d.ts_utc, d.open, d.high, d.low, d.close, d.vol, d.vwap, d.trade_count, d.source_candles, d.expected_candles, d.quality_score
    FROM public.derived_data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = %(timeframe)s AND d.deleted_at IS NULL
        AND d.ts_utc >= date_bin(%(width)s::interval, %(start)s, 'epoch') AND d.ts_utc < %(end)s
) AS s ON s.ts_utc = r.ts_utc
WHERE (s.open, s.high, s.low, s.close, s.vol, s.vwap, s.trade_count, s.source_candles, s.expected_candles, s.quality_score)
        IS DISTINCT FROM (r.open, r.high, r.low, r.close, r.vol, r.vwap, r.trade_count, r.source_candles, r.expected_candles, r.quality_score)
    AND coalesce(r.ts_utc, s.ts_utc) < %(now)s::timestamptz - %(width)s::interval - make_interval(mins => %(grace_minutes)s)
    AND NOT EXISTS ({under_way})
ORDER BY 1

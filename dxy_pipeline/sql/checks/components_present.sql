-- Pairs without a single bar in the last open minutes.
SELECT y.symbol AS canonical_symbol
FROM unnest(%(symbols)s::text[]) AS y (symbol)
WHERE NOT EXISTS (
    SELECT FROM public.data_bars AS d
    WHERE d.canonical_symbol = y.symbol AND d.timeframe = '1m' AND d.ts_utc IN ({last_open_minutes}))
    AND EXISTS (SELECT FROM dxy.fx_session AS s WHERE s.opens_at <= %(now)s)
ORDER BY y.symbol

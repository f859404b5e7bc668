-- The newest minute of each pair: one index look-up a pair.
SELECT s.symbol, (
    SELECT max(d.ts_utc) FROM public.data_bars AS d WHERE d.canonical_symbol = s.symbol AND d.timeframe = '1m'
) AS latest
FROM unnest(%(symbols)s::text []) AS s (symbol);

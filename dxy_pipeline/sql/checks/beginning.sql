-- When the history begins: the oldest bar of any of the assets, as the keys' indexes have it.
SELECT min(f.ts_utc) AS first_ts
FROM (
    SELECT (SELECT min(d.ts_utc) FROM public.data_bars AS d
            WHERE d.canonical_symbol = y.symbol AND d.timeframe = '1m' AND d.ts_utc >= %(epoch)s) AS ts_utc
    FROM unnest(%(symbols)s::text[]) AS y (symbol)
    UNION ALL
    SELECT (SELECT min(d.ts_utc) FROM public.derived_data_bars AS d
            WHERE d.canonical_symbol = 'DXY' AND d.timeframe = t.timeframe AND d.deleted_at IS NULL AND d.ts_utc >= %(epoch)s)
    FROM (VALUES ('5m'), ('1h')) AS t (timeframe)
) AS f

-- The newest minute of each of the six pairs, up to now; NULL where there is none.
SELECT s.symbol, (SELECT max(d.ts_utc) FROM public.data_bars AS d
    WHERE d.canonical_symbol = s.symbol AND d.timeframe = '1m' AND d.ts_utc <= %(now)s) AS latest
FROM unnest(ARRAY[${component_list}]) AS s (symbol) ORDER BY 1;

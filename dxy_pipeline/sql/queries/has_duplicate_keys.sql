SELECT 1 FROM public.data_bars AS d GROUP BY d.canonical_symbol, d.timeframe, d.ts_utc HAVING count(*) > 1 LIMIT 1;

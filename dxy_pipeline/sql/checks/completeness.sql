-- Fewer DXY minutes than a loaded history has.
SELECT count(*) AS bars, %(least_rows)s::bigint AS wanted
FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m'
HAVING count(*) < %(least_rows)s

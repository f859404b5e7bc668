-- The last open minutes when too few of them have a DXY bar: the minutes without one, and the pairs they lack.
WITH expected AS ({last_open_minutes}),
missing AS (
    SELECT e.ts_utc FROM expected AS e WHERE NOT EXISTS (
        SELECT FROM public.data_bars AS d
        WHERE d.canonical_symbol = ANY (%(symbols)s) AND d.timeframe = '1m' AND d.ts_utc = e.ts_utc)
)
SELECT m.ts_utc, array_to_string(ARRAY(
        SELECT y.symbol FROM unnest(%(components)s::text[]) AS y (symbol)
        WHERE NOT EXISTS (SELECT FROM public.data_bars AS d
            WHERE d.canonical_symbol = y.symbol AND d.timeframe = '1m' AND d.ts_utc = m.ts_utc)), ', ') AS components
FROM missing AS m
WHERE (SELECT count(*) FROM expected) - (SELECT count(*) FROM missing) < %(least_bars)s
ORDER BY m.ts_utc

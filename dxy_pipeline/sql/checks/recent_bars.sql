-- The last open minutes when too few of them have a DXY bar: the minutes without one, and the pairs they lack. None at
-- all is an ERROR, however many are asked for.
WITH expected AS ({last_open_minutes}),
missing AS (
    SELECT e.ts_utc FROM expected AS e WHERE NOT EXISTS (
        SELECT FROM public.data_bars AS d
        WHERE d.canonical_symbol = ANY (%(symbols)s) AND d.timeframe = '1m' AND d.ts_utc = e.ts_utc)
),
counted AS (
    SELECT (SELECT count(*) FROM expected) AS expected, (SELECT count(*) FROM expected) - (SELECT count(*) FROM missing) AS present
)
SELECT m.ts_utc, array_to_string(ARRAY(
        SELECT y.symbol FROM unnest(%(components)s::text[]) AS y (symbol)
        WHERE NOT EXISTS (SELECT FROM public.data_bars AS d
            WHERE d.canonical_symbol = y.symbol AND d.timeframe = '1m' AND d.ts_utc = m.ts_utc)), ', ') AS components,
    c.present = 0 AS is_error
FROM missing AS m CROSS JOIN counted AS c
WHERE c.present < least(%(least_bars)s, c.expected)
ORDER BY m.ts_utc

-- Legacy against what the stored components give now, on the days asked for. Writes nothing.
WITH derived AS (
    SELECT m.ts_utc, round(dxy.index_price(${pivot_columns})::numeric, 8) AS price
    FROM (SELECT b.ts_utc, ${pivot_closes_float}
          FROM public.data_bars AS b
          WHERE b.canonical_symbol IN (${component_list}) AND b.timeframe = '1m' AND b.close > 0 AND b.close < 'Infinity'
            AND b.ts_utc >= %(start)s AND b.ts_utc < %(end)s
          GROUP BY b.ts_utc) AS m
)
SELECT coalesce(l.ts_utc, d.ts_utc) AS ts_utc, l.close::numeric AS legacy_price, d.price AS derived_price,
    CASE WHEN l.ts_utc IS NULL THEN 'only derived' WHEN d.price IS NULL THEN 'unverifiable'
        WHEN abs(l.close::numeric - d.price) <= 0.00000001 THEN 'equal' ELSE 'differs' END AS verdict
FROM (SELECT * FROM public.derived_data_bars AS x WHERE x.canonical_symbol = 'DXY' AND x.timeframe = '1m' AND x.deleted_at IS NULL
        AND x.ts_utc >= %(start)s AND x.ts_utc < %(end)s) AS l
FULL JOIN (SELECT * FROM derived AS x WHERE x.price IS NOT NULL) AS d ON d.ts_utc = l.ts_utc
ORDER BY 1;

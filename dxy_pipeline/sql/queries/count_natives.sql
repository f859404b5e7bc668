-- DXY minutes in data_bars that this project did not make: how many have all six FX bars, how many do not.
-- {raw} is the column, or NULL where the desk's table has none.
SELECT count(*) FILTER (WHERE c.pairs = 6) AS verifiable, count(*) FILTER (WHERE c.pairs < 6) AS unverifiable
FROM (
    SELECT d.ts_utc FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND coalesce({raw} ? 'migrated_from'
        OR (d.source = 'synthetic' AND {raw} ->> 'kind' = 'dxy' AND {raw} ? 'derivation_version'), false) IS FALSE
) AS n
CROSS JOIN LATERAL (
    SELECT count(*) AS pairs FROM public.data_bars AS d
    WHERE d.canonical_symbol = ANY (%(symbols)s) AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc
        AND d.close > 0 AND d.close < 'Infinity'
) AS c;

-- Rows of each day on both sides, and what a backfill would find: prices that cannot be compared (NULL) are a conflict, as there.
-- Reads the desk's tables as they are.
WITH legacy AS (
    SELECT l.ts_utc, (l.ts_utc AT TIME ZONE 'UTC')::date AS day, l.open, l.high, l.low, l.close
    FROM public.derived_data_bars AS l
    WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL
),
target AS (
    SELECT d.ts_utc, (d.ts_utc AT TIME ZONE 'UTC')::date AS day, d.open, d.high, d.low, d.close
    FROM public.data_bars AS d WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m'
),
complete AS (
    SELECT d.ts_utc FROM public.data_bars AS d
    WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m' AND d.close > 0 AND d.close < 'Infinity'
    GROUP BY d.ts_utc HAVING count(*) = 6
)
SELECT coalesce(l.day, t.day) AS day, count(l.ts_utc) AS legacy, count(t.ts_utc) AS data_bars,
    count(*) FILTER (WHERE same.prices) AS identical,
    count(*) FILTER (WHERE same.close_enough AND NOT same.prices) AS reconcilable,
    count(*) FILTER (WHERE NOT same.close_enough AND NOT same.prices) AS conflict,
    count(*) FILTER (WHERE l.ts_utc IS NOT NULL AND c.ts_utc IS NULL) AS unverifiable,
    count(*) FILTER (WHERE l.ts_utc IS NULL) AS native
FROM legacy AS l
FULL JOIN target AS t ON t.ts_utc = l.ts_utc
LEFT JOIN complete AS c ON c.ts_utc = l.ts_utc
LEFT JOIN LATERAL (
    SELECT (l.open::numeric, l.high::numeric, l.low::numeric, l.close::numeric)
            IS NOT DISTINCT FROM (t.open::numeric, t.high::numeric, t.low::numeric, t.close::numeric) AS prices,
        coalesce(abs(l.open::numeric - t.open::numeric) <= 0.00000001 AND abs(l.high::numeric - t.high::numeric) <= 0.00000001
            AND abs(l.low::numeric - t.low::numeric) <= 0.00000001
            AND abs(l.close::numeric - t.close::numeric) <= 0.00000001, false) AS close_enough
    WHERE l.ts_utc IS NOT NULL AND t.ts_utc IS NOT NULL) AS same ON true
GROUP BY 1 ORDER BY 1;

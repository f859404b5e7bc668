-- Minute returns far outside the spread of their symbol (median absolute deviation), and the pair responsible: for the
-- index the pair whose weighted move is largest in that minute, for a pair itself. The first bar after a pause is no
-- minute return.
WITH bar AS MATERIALIZED (
    SELECT d.canonical_symbol AS symbol, d.ts_utc,
        CASE WHEN d.ts_utc - lag(d.ts_utc) OVER symbol <= interval '15 minutes'
            THEN ln(d.close::float8) - lag(ln(d.close::float8)) OVER symbol END AS move
    FROM public.data_bars AS d
    WHERE d.canonical_symbol = ANY (%(symbols)s::text[] || %(components)s::text[]) AND d.timeframe = '1m' AND d.close > 0 AND d.close < 'Infinity'
        AND d.ts_utc >= %(start)s AND d.ts_utc < %(end)s
    WINDOW symbol AS (PARTITION BY d.canonical_symbol ORDER BY d.ts_utc)
),
centre AS MATERIALIZED (
    SELECT b.symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY b.move) AS median FROM bar AS b GROUP BY b.symbol
),
spread AS MATERIALIZED (
    SELECT b.symbol, c.median, percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(b.move - c.median)) AS mad
    FROM bar AS b JOIN centre AS c ON c.symbol = b.symbol GROUP BY b.symbol, c.median
),
outlier AS MATERIALIZED (
    SELECT b.symbol, b.ts_utc, b.move, abs(b.move - s.median) / nullif(1.4826 * s.mad, 0) AS deviations
    FROM bar AS b JOIN spread AS s ON s.symbol = b.symbol
    WHERE b.symbol = ANY (%(symbols)s::text[])
        AND abs(b.move - s.median) > greatest(%(deviations)s * 1.4826 * s.mad, %(least_move)s)
)
SELECT o.symbol AS canonical_symbol, o.ts_utc, o.move, o.deviations, coalesce(w.component, o.symbol) AS component,
    w.component_move
FROM outlier AS o
LEFT JOIN LATERAL (
    SELECT p.symbol AS component, p.move AS component_move
    FROM bar AS p JOIN unnest(%(components)s::text[], %(weights)s::float8[]) AS k (symbol, weight) ON k.symbol = p.symbol
    WHERE o.symbol = 'DXY' AND p.ts_utc = o.ts_utc
    ORDER BY abs(k.weight * p.move) DESC NULLS LAST
    LIMIT 1
) AS w ON true
ORDER BY o.deviations DESC NULLS FIRST

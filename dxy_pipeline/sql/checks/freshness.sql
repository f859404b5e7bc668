-- Symbols whose latest bar ended more open FX minutes ago than the target.
SELECT y.symbol AS canonical_symbol, l.latest, a.open_minutes_since
FROM unnest(%(symbols)s::text[]) AS y (symbol)
LEFT JOIN LATERAL (SELECT max(b.ts_utc) AS latest FROM ({bars}) AS b WHERE b.canonical_symbol = y.symbol) AS l ON true
CROSS JOIN LATERAL (SELECT dxy.open_minutes(coalesce(l.latest + %(width)s::interval, %(start)s), %(now)s) AS open_minutes_since) AS a
WHERE a.open_minutes_since > CASE WHEN y.symbol = ANY (%(thin)s) THEN %(thin_minutes)s ELSE %(target_minutes)s END
ORDER BY a.open_minutes_since DESC

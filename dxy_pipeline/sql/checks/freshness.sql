-- Symbols whose latest bar ended more open FX minutes ago than its target; from error_factor times that on an ERROR.
SELECT y.symbol AS canonical_symbol, l.latest, a.open_minutes_since, t.target_minutes,
    a.open_minutes_since >= %(error_factor)s * t.target_minutes AS is_error
FROM unnest(%(symbols)s::text[]) AS y (symbol)
CROSS JOIN LATERAL (SELECT CASE WHEN y.symbol = ANY (%(thin)s) THEN greatest(%(thin_minutes)s, %(target_minutes)s)
        ELSE %(target_minutes)s END AS target_minutes) AS t
LEFT JOIN LATERAL (SELECT max(b.ts_utc) AS latest FROM ({bars}) AS b WHERE b.canonical_symbol = y.symbol) AS l ON true
CROSS JOIN LATERAL (SELECT dxy.open_minutes(coalesce(l.latest + %(width)s::interval, %(start)s), %(now)s) AS open_minutes_since) AS a
WHERE a.open_minutes_since > t.target_minutes
ORDER BY a.open_minutes_since DESC

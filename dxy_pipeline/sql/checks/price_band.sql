-- Closes outside the band of their era; a bar that is not a number is outside every band.
SELECT b.ts_utc, b.close::float8 AS close, e.low, e.high
FROM ({bars}) AS b
JOIN unnest(%(era_from)s::timestamptz[], %(era_to)s::timestamptz[], %(era_low)s::float8[], %(era_high)s::float8[])
    AS e (from_ts, to_ts, low, high) ON b.ts_utc >= e.from_ts AND b.ts_utc < e.to_ts
WHERE NOT (b.close::float8 BETWEEN e.low AND e.high)
ORDER BY b.ts_utc

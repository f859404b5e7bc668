-- Closes outside the band of their era; a bar that is not a number is outside every band. A band is for the time from
-- its day on until the next one's.
SELECT b.ts_utc, b.close::float8 AS close, e.low, e.high
FROM ({bars}) AS b
JOIN (
    SELECT (x.era ->> 0)::date::timestamp AT TIME ZONE 'UTC' AS from_ts,
        lead((x.era ->> 0)::date::timestamp AT TIME ZONE 'UTC', 1, 'infinity') OVER (ORDER BY x.era ->> 0) AS to_ts,
        (x.era ->> 1)::float8 AS low, (x.era ->> 2)::float8 AS high
    FROM jsonb_array_elements(%(eras)s::jsonb) AS x (era)
) AS e ON b.ts_utc >= e.from_ts AND b.ts_utc < e.to_ts
WHERE NOT (b.close::float8 BETWEEN e.low AND e.high)
ORDER BY b.ts_utc

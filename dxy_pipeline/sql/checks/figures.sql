-- What every check of an asset can show: bars in the window, the latest, the price range, and how stale it is.
SELECT count(*) AS bars, max(b.ts_utc) AS latest, min(b.close)::float8 AS lowest_close, max(b.close)::float8 AS highest_close,
    dxy.open_minutes(max(b.ts_utc) + %(width)s::interval, %(now)s) AS open_minutes_since
FROM ({bars}) AS b

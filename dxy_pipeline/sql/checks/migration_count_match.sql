-- Legacy bars without an equal row in data_bars, by key and by each price (null-safe, within 1e-8): the active ones while
-- both tables hold DXY 1m, the ones that this migration retired afterwards. Legacy no longer follows once it is retired:
-- a minute that was derived again since (dxy.bar_revision says so) may differ.
SELECT l.ts_utc, l.open::float8 AS legacy_open, d.open::float8 AS open, l.high::float8 AS legacy_high, d.high::float8 AS high,
    l.low::float8 AS legacy_low, d.low::float8 AS low, l.close::float8 AS legacy_close, d.close::float8 AS close
FROM dxy.migration_control AS c
JOIN public.derived_data_bars AS l ON CASE WHEN c.state = 'retired' THEN to_jsonb(l) ->> 'dxy_retired_by' = c.migration_id::text
    ELSE l.deleted_at IS NULL END
LEFT JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = l.ts_utc
WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.ts_utc >= %(start)s AND l.ts_utc < %(end)s
    AND (c.state <> 'retired' OR c.changed_at > %(start)s)
    AND (d.ts_utc IS NULL OR NOT (
        coalesce(abs(d.open::float8 - l.open::float8) <= 1e-8, d.open IS NULL AND l.open IS NULL)
        AND coalesce(abs(d.high::float8 - l.high::float8) <= 1e-8, d.high IS NULL AND l.high IS NULL)
        AND coalesce(abs(d.low::float8 - l.low::float8) <= 1e-8, d.low IS NULL AND l.low IS NULL)
        AND coalesce(abs(d.close::float8 - l.close::float8) <= 1e-8, d.close IS NULL AND l.close IS NULL)))
    AND NOT (c.state = 'retired' AND EXISTS (
        SELECT FROM dxy.bar_revision AS v
        WHERE v.canonical_symbol = 'DXY' AND v.timeframe = '1m' AND v.ts_utc = l.ts_utc AND v.known_until > c.changed_at))
ORDER BY l.ts_utc

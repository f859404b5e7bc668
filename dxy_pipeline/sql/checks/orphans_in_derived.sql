-- Active DXY 1m rows left in derived_data_bars where none belong: without a migration, and once it is retired.
SELECT d.ts_utc, d.close::float8 AS close, d.source
FROM public.derived_data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.deleted_at IS NULL
    AND (SELECT c.state FROM dxy.migration_control AS c) IN ('none', 'retired')
ORDER BY d.ts_utc

-- 1m rows in derived_data_bars where none belong, active ones, and any that were written since, even if soft-deleted
-- again (somebody's legacy writer is still at work): without a migration those of DXY, once it is retired of any symbol.
SELECT d.canonical_symbol, d.ts_utc, d.close::float8 AS close, d.source, d.created_at, d.deleted_at
FROM public.derived_data_bars AS d CROSS JOIN dxy.migration_control AS c
WHERE d.timeframe = '1m' AND (d.canonical_symbol = 'DXY' OR c.state = 'retired')
    AND (d.deleted_at IS NULL OR d.created_at > c.changed_at)
ORDER BY d.ts_utc

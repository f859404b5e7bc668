-- Native minutes that legacy does not have, as they are now: a rollback tells from it which were written since.
UPDATE dxy.migration_native AS n SET row_hash = hash_record_extended(d, 0)
FROM public.data_bars AS d
WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc AND NOT n.had_legacy;

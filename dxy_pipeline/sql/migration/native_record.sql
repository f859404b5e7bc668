-- What data_bars holds of DXY 1m before the first mirrored write.
INSERT INTO dxy.migration_native (ts_utc, had_legacy, row_hash)
SELECT d.ts_utc, EXISTS (SELECT FROM dxy.legacy_image AS l WHERE l.ts_utc = d.ts_utc), hash_record_extended(d, 0)
FROM public.data_bars AS d WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m'
ON CONFLICT (ts_utc) DO NOTHING;

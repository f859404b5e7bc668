-- Native minutes that vanished from data_bars though no application and no mirror took them away.
SELECT n.ts_utc FROM dxy.migration_native AS n
WHERE NOT n.had_legacy
    AND NOT EXISTS (SELECT FROM public.data_bars AS d WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc)
    AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = n.ts_utc)
    AND NOT EXISTS (SELECT FROM dxy.migration_undo AS u WHERE u.ts_utc = n.ts_utc)
ORDER BY 1 LIMIT 1000;

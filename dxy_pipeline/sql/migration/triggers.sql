SELECT c.relname || '.' || t.tgname AS name, t.tgenabled = 'A' AND p.pronamespace = 'dxy'::regnamespace AS ours,
    pg_get_triggerdef(t.oid) AS definition
FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN ('data_bars', 'derived_data_bars') AND NOT t.tgisinternal
    AND (t.tgname LIKE 'dxy\_mirror\_%%' OR t.tgname IN ('aaa_dxy_lock_day', 'zzz_dxy_keep_updated_at'));

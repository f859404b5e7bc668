SELECT c.relname || '.' || t.tgname AS name FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN ('data_bars', 'derived_data_bars') AND t.tgenabled = 'A'
    AND (t.tgname LIKE 'dxy\_mirror\_%%' OR t.tgname IN ('aaa_dxy_lock_day', 'zzz_dxy_keep_updated_at'));

SELECT 1 FROM pg_catalog.pg_trigger AS t
WHERE t.tgrelid = 'public.data_bars'::regclass AND t.tgenabled = 'A'
    AND t.tgname IN ('dxy_touch_insert', 'dxy_touch_update', 'dxy_touch_delete', 'dxy_touch_truncate')
HAVING count(*) = 4;

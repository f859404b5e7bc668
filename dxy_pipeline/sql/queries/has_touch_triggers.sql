SELECT 1 FROM pg_catalog.pg_trigger AS t
WHERE t.tgrelid = 'public.data_bars'::regclass AND t.tgname IN ('dxy_touch_insert', 'dxy_touch_update', 'dxy_touch_delete')
    AND t.tgenabled IN ('O', 'A')
HAVING count(*) = 3;

-- Do bars refer to the registry by a foreign key?
SELECT 1 FROM pg_catalog.pg_constraint AS c
WHERE c.contype = 'f' AND c.conrelid = 'public.data_bars'::regclass
    AND c.confrelid = 'public.core_asset_registry_all'::regclass;

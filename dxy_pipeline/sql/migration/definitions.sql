-- What a rollback restores or an operator may want to look up: registry rows, functions and CHECKs as they were.
INSERT INTO dxy.migration_definition (migration_id, name, definition)
SELECT %(migration_id)s, 'registry', to_jsonb(r) FROM public.core_asset_registry_all AS r
WHERE r.canonical_symbol = 'DXY'
UNION ALL
SELECT %(migration_id)s, 'registry symbols', coalesce(jsonb_agg(r.canonical_symbol), '[]') FROM public.core_asset_registry_all AS r
UNION ALL
SELECT %(migration_id)s, 'function ' || p.oid::regprocedure::text, to_jsonb(pg_get_functiondef(p.oid))
FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'calc\_dxy\_%%'
UNION ALL
SELECT %(migration_id)s, 'constraint ' || c.conname, to_jsonb(pg_get_constraintdef(c.oid))
FROM pg_catalog.pg_constraint AS c
WHERE c.contype = 'c' AND c.conrelid = 'public.data_bars'::regclass
ON CONFLICT DO NOTHING;

-- Routines that are not as deployed, touch triggers that are missing or disabled, a key index that is not valid.
SELECT 'routine' AS kind, coalesce(d.signature, p.signature) AS name,
    CASE WHEN p.signature IS NULL THEN 'missing' ELSE 'changed by hand' END AS fault
FROM dxy.deployed_routine AS d
LEFT JOIN (
    SELECT r.oid::regprocedure::text AS signature, md5(pg_get_functiondef(r.oid)) AS digest
    FROM pg_catalog.pg_proc AS r JOIN pg_catalog.pg_namespace AS n ON n.oid = r.pronamespace
    WHERE n.nspname IN ('dxy', 'public') AND r.prokind = 'f'
) AS p ON p.signature = d.signature
WHERE p.digest IS DISTINCT FROM d.digest
UNION ALL
SELECT 'trigger', w.name, 'missing or disabled'
FROM (VALUES ('dxy_touch_insert'), ('dxy_touch_update'), ('dxy_touch_delete')) AS w (name)
WHERE (SELECT c.state FROM dxy.migration_control AS c) NOT IN ('legacy', 'rolled_back') AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid = 'public.data_bars'::regclass AND t.tgname = w.name AND t.tgenabled IN ('O', 'A'))
UNION ALL
SELECT 'index', 'unique key of data_bars', 'missing or invalid'
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indrelid = 'public.data_bars'::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
        AND pg_get_indexdef(i.indexrelid) LIKE '%%(canonical_symbol, timeframe, ts_utc)%%')

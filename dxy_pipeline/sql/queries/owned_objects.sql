-- Our objects that do not belong to the wanted owner yet, schema last so that the statements before it stay allowed.
SELECT 'TABLE' AS kind, c.oid::regclass::text AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v') AND pg_get_userbyid(c.relowner) <> %(owner)s
    AND (n.nspname = 'dxy' OR (%(tables)s AND n.nspname = 'public'
        AND c.relname IN ('data_bars', 'derived_data_bars', 'core_asset_registry_all')))
UNION ALL
SELECT 'ROUTINE', p.oid::regprocedure::text
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE pg_get_userbyid(p.proowner) <> %(owner)s
    AND (n.nspname = 'dxy' OR (n.nspname = 'public' AND (p.proname IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range')
        OR (%(tables)s AND p.proname = 'calc_dxy_range_derived'))))
UNION ALL
SELECT 'SCHEMA', 'dxy' FROM pg_catalog.pg_namespace AS n
WHERE n.nspname = 'dxy' AND pg_get_userbyid(n.nspowner) <> %(owner)s;

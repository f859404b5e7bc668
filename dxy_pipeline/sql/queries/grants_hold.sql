-- Do the roles that are there have what they need, and nobody else our functions?
SELECT coalesce((
        SELECT bool_and(has_table_privilege(w.role, w.relation, w.privilege))
        FROM (VALUES
            ('dxy_reader', 'public.data_bars', 'SELECT'), ('dxy_reader', 'public.derived_data_bars', 'SELECT'),
            ('dxy_reader', 'public.core_asset_registry_all', 'SELECT'), ('dxy_reader', 'dxy.migration_control', 'SELECT'),
            ('dxy_writer', 'public.data_bars', 'SELECT'), ('dxy_writer', 'public.data_bars', 'INSERT'),
            ('dxy_writer', 'public.data_bars', 'UPDATE'), ('dxy_writer', 'public.data_bars', 'DELETE'),
            ('dxy_writer', 'dxy.rejected_bar', 'INSERT'), ('dxy_writer', 'dxy.touched_range', 'DELETE')
        ) AS w (role, relation, privilege)
        WHERE to_regrole(w.role) IS NOT NULL), true)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_proc AS p
        CROSS JOIN (VALUES ('public'), ('anon'), ('authenticated')) AS o (role)
        WHERE (o.role = 'public' OR to_regrole(o.role) IS NOT NULL) AND has_function_privilege(o.role, p.oid, 'EXECUTE')
            AND (p.pronamespace = 'dxy'::regnamespace OR (p.pronamespace = 'public'::regnamespace
                AND p.proname IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range'))))
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_proc AS p
        CROSS JOIN (VALUES ('dxy_writer'), ('service_role')) AS o (role)
        WHERE to_regrole(o.role) IS NOT NULL AND NOT has_function_privilege(o.role, p.oid, 'EXECUTE')
            AND p.pronamespace = 'public'::regnamespace AND p.proname IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range'))
    AS hold;

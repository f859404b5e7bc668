-- Functions and views of the database that read both tables, or write DXY roll-ups: they must move before the dual write.
SELECT p.oid::regprocedure::text AS name, 'reads both tables' AS reason
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'dxy') AND p.proname NOT IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range', 'calc_dxy_range_derived')
    AND p.prokind IN ('f', 'p') AND p.prosrc ~* '\mderived_data_bars\M' AND regexp_replace(p.prosrc, 'derived_data_bars', '', 'gi') ~* '\mdata_bars\M'
UNION ALL
SELECT p.oid::regprocedure::text, 'writes roll-ups of DXY'
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'dxy') AND p.proname NOT IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range', 'calc_dxy_range_derived')
    AND p.prokind IN ('f', 'p') AND p.prosrc ~* 'insert\s+into\s+(public\.)?derived_data_bars' AND p.prosrc ~* '''(5m|1h)'''
UNION ALL
SELECT c.oid::regclass::text, 'view on both tables'
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'dxy')
    AND pg_get_viewdef(c.oid) ~* '\mderived_data_bars\M' AND regexp_replace(pg_get_viewdef(c.oid), 'derived_data_bars', '', 'gi') ~* '\mdata_bars\M'
ORDER BY 1;

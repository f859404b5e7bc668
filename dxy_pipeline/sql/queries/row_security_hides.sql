-- Whether row level security may hide bars from the current role: it applies to it, and no permissive policy for it lets
-- every row through, or a restrictive one stands beside.
WITH policy AS (
    SELECT p.polrelid, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) AS rows_shown
    FROM pg_catalog.pg_policy AS p
    WHERE p.polcmd IN ('r', '*')
        AND EXISTS (SELECT FROM unnest(p.polroles) AS r (role_oid) WHERE r.role_oid = 0 OR pg_has_role(r.role_oid, 'USAGE'))
)
SELECT EXISTS (
    SELECT FROM unnest('{public.data_bars, public.derived_data_bars}'::regclass[]) AS t (table_oid)
    WHERE row_security_active(t.table_oid) AND (
        NOT EXISTS (SELECT FROM policy AS p WHERE p.polrelid = t.table_oid AND p.polpermissive AND p.rows_shown = 'true')
        OR EXISTS (SELECT FROM policy AS p WHERE p.polrelid = t.table_oid AND NOT p.polpermissive)));

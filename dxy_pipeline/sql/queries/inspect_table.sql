SELECT c.oid::bigint AS oid, c.relkind::text AS kind, pg_get_userbyid(c.relowner)::text AS owner,
    pg_has_role(c.relowner, 'USAGE') AS can_alter, c.relrowsecurity AS row_security,
    greatest(c.reltuples, 0)::bigint AS estimated_rows
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = %(name)s;

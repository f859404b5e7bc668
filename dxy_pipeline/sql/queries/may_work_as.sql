-- Whether this login may work as %(role)s, and that role was let into our schema (not so before the first upgrade).
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_roles AS r
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = 'dxy'
    WHERE r.rolname = %(role)s AND pg_has_role(session_user, r.oid, 'MEMBER') AND has_schema_privilege(r.oid, n.oid, 'USAGE'));

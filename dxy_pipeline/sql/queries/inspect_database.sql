SELECT current_database() AS name,
    current_setting('server_version_num')::integer AS server_version,
    current_user AS user,
    to_regnamespace('dxy') IS NOT NULL AS has_own_schema,
    to_regclass('dxy.dxy_alembic_version') IS NOT NULL AS has_revision,
    to_regclass('dxy.migration_control') IS NOT NULL AS has_control,
    to_regclass('dxy.function_digest') IS NOT NULL AS has_digests,
    ARRAY(SELECT p.proname::text FROM pg_catalog.pg_proc AS p
          WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'calc\_dxy\_%') AS functions,
    has_database_privilege(current_database(), 'CREATE') AS can_create_schema,
    has_schema_privilege('public', 'CREATE') AS can_create_function,
    (SELECT r.rolcreaterole OR r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user) AS can_create_role,
    ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles AS r
          WHERE r.rolname IN ('dxy_owner', 'dxy_writer', 'dxy_reader', 'service_role', 'anon', 'authenticated')) AS roles;

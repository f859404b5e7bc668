SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
    a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS has_default
FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

SELECT c.conname::text AS name, pg_get_expr(c.conbin, c.conrelid) AS expression, c.convalidated AS validated,
    ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
          WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)) AS columns
FROM pg_catalog.pg_constraint AS c
WHERE c.conrelid = %(oid)s::oid AND c.contype = 'c'
ORDER BY c.conname;

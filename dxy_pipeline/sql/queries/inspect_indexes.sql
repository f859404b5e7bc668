SELECT c.relname::text AS name, i.indisunique AS unique, i.indisvalid AND i.indisready AS valid, i.indimmediate AS immediate,
    pg_get_expr(i.indpred, i.indrelid) AS predicate, pg_get_indexdef(i.indexrelid) AS definition,
    ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) AS k) AS columns
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = %(oid)s::oid
ORDER BY c.relname;

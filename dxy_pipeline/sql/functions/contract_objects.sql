-- What the schema contract covers, each object with a digest of its definition: our routines; columns, keys and CHECKs of
-- the tables; the triggers on them; who may execute what. What a desk adds to its own tables is not part of it, nor is
-- the table that the migration makes and drops as it goes.
CREATE OR REPLACE FUNCTION dxy.contract_objects()
RETURNS TABLE (object text, digest text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH ours AS (
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, n.nspname = 'dxy' AS is_own
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND ((n.nspname = 'dxy' AND c.relname <> 'migration_undo')
            OR (n.nspname = 'public' AND c.relname IN ('data_bars', 'derived_data_bars', 'core_asset_registry_all')))
    )
    SELECT 'routine ' || r.oid::regprocedure::text,
        md5(pg_get_functiondef(r.oid) || coalesce((SELECT ' for everybody' FROM aclexplode(coalesce(r.proacl, acldefault('f', r.proowner))) AS a WHERE a.grantee = 0 LIMIT 1), ''))
    FROM pg_proc AS r JOIN pg_namespace AS n ON n.oid = r.pronamespace
    WHERE r.prokind = 'f' AND (n.nspname = 'dxy'
        OR (n.nspname = 'public' AND r.proname IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range')))
    UNION ALL
    SELECT format('column %s.%I', o.name, a.attname), md5(format_type(a.atttypid, a.atttypmod))
    FROM ours AS o JOIN pg_attribute AS a ON a.attrelid = o.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(i.indexrelid)), md5((i.indisvalid AND i.indisready)::text)
    FROM ours AS o JOIN pg_index AS i ON i.indrelid = o.oid
    WHERE i.indisunique AND (o.is_own OR pg_get_indexdef(i.indexrelid) LIKE '%(canonical_symbol%')
    UNION ALL
    SELECT format('constraint %s on %s', c.conname, o.name), md5(pg_get_constraintdef(c.oid))
    FROM ours AS o JOIN pg_constraint AS c ON c.conrelid = o.oid
    WHERE c.contype = 'c' AND o.is_own
    UNION ALL
    SELECT format('trigger %s on %s', t.tgname, o.name), md5(pg_get_triggerdef(t.oid) || (t.tgenabled IN ('O', 'A'))::text)
    FROM ours AS o JOIN pg_trigger AS t ON t.tgrelid = o.oid
    WHERE t.tgname LIKE 'dxy\_touch\_%';
$$;

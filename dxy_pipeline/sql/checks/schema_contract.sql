-- Objects that are not as deployed, touch triggers that are missing or disabled, a key of data_bars that does not hold.
SELECT split_part(d.object, ' ', 1) AS kind, substr(d.object, strpos(d.object, ' ') + 1) AS name,
    CASE WHEN c.object IS NULL THEN 'missing' ELSE 'changed by hand' END AS fault,
    CASE WHEN NOT starts_with(d.object, 'routine ') THEN d.definition END AS deployed,
    CASE WHEN NOT starts_with(d.object, 'routine ') THEN c.definition END AS found
FROM dxy.deployed_object AS d
LEFT JOIN ({contract_objects}) AS c ON c.object = d.object
WHERE c.definition IS DISTINCT FROM d.definition
    AND NOT (c.object IS NULL AND split_part(d.object, ' ', 1) IN ('owner', 'grants', 'row-security'))
UNION ALL
SELECT 'trigger', w.name, 'missing or disabled', NULL, NULL
FROM (VALUES ('dxy_touch_insert'), ('dxy_touch_update'), ('dxy_touch_delete')) AS w (name)
WHERE (SELECT c.state FROM dxy.migration_control AS c) NOT IN ('legacy', 'rolled_back')
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = 'public.data_bars'::regclass AND t.tgname = w.name AND t.tgenabled IN ('O', 'A'))
    AND NOT EXISTS (SELECT FROM dxy.deployed_object AS d WHERE d.object = 'trigger ' || w.name || ' on public.data_bars')
UNION ALL
SELECT 'index', 'unique key of data_bars', 'missing or invalid', NULL, NULL
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indrelid = 'public.data_bars'::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
        AND strpos(pg_get_indexdef(i.indexrelid), '(canonical_symbol, timeframe, ts_utc)') > 0)
    AND NOT EXISTS (
        SELECT FROM dxy.deployed_object AS d
        WHERE starts_with(d.object, 'index ') AND right(d.object, 20) = ' on public.data_bars'
            AND strpos(d.definition, '(canonical_symbol, timeframe, ts_utc)') > 0)
ORDER BY 1, 2

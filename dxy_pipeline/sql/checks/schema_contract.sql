-- Objects that are not as deployed, touch triggers that are missing or disabled, a key of data_bars that does not hold.
SELECT split_part(d.signature, ' ', 1) AS kind, substr(d.signature, strpos(d.signature, ' ') + 1) AS name,
    CASE WHEN c.object IS NULL THEN 'missing' ELSE 'changed by hand' END AS fault
FROM dxy.deployed_routine AS d
LEFT JOIN dxy.contract_objects() AS c ON c.object = d.signature
WHERE c.digest IS DISTINCT FROM d.digest
UNION ALL
SELECT 'trigger', w.name, 'missing or disabled'
FROM (VALUES ('dxy_touch_insert'), ('dxy_touch_update'), ('dxy_touch_delete')) AS w (name)
WHERE (SELECT c.state FROM dxy.migration_control AS c) NOT IN ('legacy', 'rolled_back')
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = 'public.data_bars'::regclass AND t.tgname = w.name AND t.tgenabled IN ('O', 'A'))
    AND NOT EXISTS (SELECT FROM dxy.deployed_routine AS d WHERE d.signature = format('trigger %%s on public.data_bars', w.name))
UNION ALL
SELECT 'index', 'unique key of data_bars', 'missing or invalid'
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indrelid = 'public.data_bars'::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
        AND pg_get_indexdef(i.indexrelid) LIKE '%%(canonical_symbol, timeframe, ts_utc)%%')
    AND NOT EXISTS (SELECT FROM dxy.deployed_routine AS d WHERE d.signature LIKE 'index %% ON public.data_bars %%(canonical_symbol, timeframe, ts_utc)%%')
ORDER BY 1, 2

-- How the migration stands, and what of the desk's tables is not there before it: what `checks.standing` decides by.
SELECT coalesce(c.state, 'none') AS state, coalesce(c.direction, 'forward') AS direction,
    (SELECT min(a.at) FROM dxy.migration_audit AS a
     WHERE a.migration_id = c.migration_id AND a.to_state = 'dual_write' AND a.from_state = 'prepared') AS dual_since,
    EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS x
        WHERE x.attrelid = to_regclass('public.data_bars') AND x.attname = 'raw' AND NOT x.attisdropped) AS has_raw
FROM (VALUES (1)) AS one (row) LEFT JOIN dxy.migration_control AS c ON true;

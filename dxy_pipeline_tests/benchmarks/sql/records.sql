-- Rows of Dagster's storage and their bytes by table and by what bounds them, and the bytes of the whole table on disk:
-- indexes, out-of-line values, page headers and free space included.
WITH rows AS (
    SELECT 'event_logs' AS name, CASE e.run_id WHEN '' THEN 'evaluations' ELSE 'runs' END AS kind,
        pg_column_size(e.*) AS bytes
    FROM event_logs AS e
    UNION ALL
    SELECT 'asset_check_executions', CASE c.run_id WHEN '' THEN 'evaluations' ELSE 'runs' END, pg_column_size(c.*)
    FROM asset_check_executions AS c
    UNION ALL
    SELECT 'runs', 'runs', pg_column_size(r.*) FROM runs AS r
    UNION ALL
    SELECT 'run_tags', 'runs', pg_column_size(t.*) FROM run_tags AS t
    UNION ALL
    SELECT 'job_ticks', CASE j.status WHEN 'SKIPPED' THEN 'skipped ticks' ELSE 'ticks' END, pg_column_size(j.*)
    FROM job_ticks AS j
)
SELECT r.kind, r.name, count(*) AS rows, sum(r.bytes)::float8 AS bytes, pg_total_relation_size(r.name::regclass)::float8 AS on_disk
FROM rows AS r
GROUP BY r.kind, r.name;

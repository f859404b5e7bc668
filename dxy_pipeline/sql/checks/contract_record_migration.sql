-- Remembers what a step of the migration made: new objects, the CHECK that lets synthetic bars in, the CHECK that closes
-- legacy (or its end), and the functions that it deployed. Anything else stays as it was remembered.
WITH current AS MATERIALIZED ({contract_objects}),
gone AS (
    DELETE FROM dxy.deployed_object AS d
    WHERE d.object = 'constraint dxy_1m_moved_to_data_bars on public.derived_data_bars'
        AND NOT EXISTS (SELECT FROM current AS c WHERE c.object = d.object)
)
INSERT INTO dxy.deployed_object AS d (object, definition, is_own, remedy)
SELECT c.object, c.definition, c.is_own, c.remedy FROM current AS c
ON CONFLICT (object) DO UPDATE
SET definition = excluded.definition, is_own = excluded.is_own, remedy = excluded.remedy
WHERE d.definition <> excluded.definition AND (
    (right(excluded.object, 20) = ' on public.data_bars' AND starts_with(excluded.object, 'constraint ')
        AND strpos(excluded.definition, '''synthetic''') > 0)
    OR (starts_with(excluded.object, 'routine ')
        AND split_part(substr(excluded.object, 9), '(', 1) = ANY (%(routines)s::text[])))

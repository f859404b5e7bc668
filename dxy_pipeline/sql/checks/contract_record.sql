-- Remembers every object of the contract as it is now.
WITH current AS MATERIALIZED ({contract_objects}),
gone AS (
    DELETE FROM dxy.deployed_object AS d WHERE NOT EXISTS (SELECT FROM current AS c WHERE c.object = d.object)
)
INSERT INTO dxy.deployed_object AS d (object, definition, is_own, remedy)
SELECT c.object, c.definition, c.is_own, c.remedy FROM current AS c
ON CONFLICT (object) DO UPDATE
SET definition = excluded.definition, is_own = excluded.is_own, remedy = excluded.remedy
WHERE (d.definition, d.is_own, d.remedy) IS DISTINCT FROM (excluded.definition, excluded.is_own, excluded.remedy)

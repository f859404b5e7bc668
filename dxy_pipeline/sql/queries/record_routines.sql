-- Remembers every object of the contract as deployed, so that a change by hand is noticed.
WITH current AS MATERIALIZED (
    SELECT c.object, c.digest FROM dxy.contract_objects() AS c
),
gone AS (
    DELETE FROM dxy.deployed_routine AS d WHERE NOT EXISTS (SELECT FROM current AS c WHERE c.object = d.signature)
)
INSERT INTO dxy.deployed_routine AS d (signature, digest)
SELECT c.object, c.digest FROM current AS c
ON CONFLICT (signature) DO UPDATE SET digest = excluded.digest WHERE d.digest <> excluded.digest;

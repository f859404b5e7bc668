-- Remembers the definition of every routine of ours as deployed, so that a change by hand is noticed.
WITH current AS (
    SELECT r.oid::regprocedure::text AS signature, md5(pg_get_functiondef(r.oid)) AS digest
    FROM pg_catalog.pg_proc AS r JOIN pg_catalog.pg_namespace AS n ON n.oid = r.pronamespace
    WHERE r.prokind = 'f' AND (n.nspname = 'dxy'
        OR (n.nspname = 'public' AND r.proname IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range')))
),
gone AS (
    DELETE FROM dxy.deployed_routine AS d WHERE NOT EXISTS (SELECT FROM current AS c WHERE c.signature = d.signature)
)
INSERT INTO dxy.deployed_routine AS d (signature, digest)
SELECT c.signature, c.digest FROM current AS c
ON CONFLICT (signature) DO UPDATE SET digest = excluded.digest WHERE d.digest <> excluded.digest;

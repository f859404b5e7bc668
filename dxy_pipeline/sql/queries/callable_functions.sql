SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace = 'public'::regnamespace
    AND p.proname IN ('calc_dxy_range_1m', 'calc_dxy_rollup_range', %(legacy)s);

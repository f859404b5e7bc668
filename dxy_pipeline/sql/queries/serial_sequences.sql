-- Sequences behind serial columns of data_bars: whoever inserts there needs them (identity columns do not).
SELECT s.oid::regclass::text
FROM pg_catalog.pg_depend AS d
JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
    AND d.refobjid = 'public.data_bars'::regclass AND d.deptype = 'a';

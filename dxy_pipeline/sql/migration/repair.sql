-- Makes the table that readers do not use equal to the one they use (p_source), for these minutes; both rows are kept as they
-- were. p_extra says what becomes of a minute that only the other table has: copied to the readers' table, deleted, or
-- (NULL) left alone. Neither the undo images nor the list of applications' own writes change: a repair is not a write.
CREATE OR REPLACE FUNCTION dxy.repair_minutes(p_migration bigint, p_keys timestamptz[], p_source text, p_extra text)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_written integer;
    v_to_bars timestamptz[];
    v_to_legacy timestamptz[];
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    PERFORM dxy.lock_key_days(p_keys);
    WITH sides AS MATERIALIZED (
        SELECT k AS ts_utc, l.image AS legacy_image, b.image AS data_bars_image
        FROM unnest(p_keys) AS k
        LEFT JOIN LATERAL (
            SELECT x::text AS image FROM public.derived_data_bars AS x
            WHERE x.canonical_symbol = 'DXY' AND x.timeframe = '1m' AND x.ts_utc = k AND x.deleted_at IS NULL
            UNION ALL
            SELECT x::text FROM public.derived_data_bars AS x
            WHERE x.canonical_symbol = 'DXY' AND x.timeframe = '1m' AND x.ts_utc = k AND x.deleted_at IS NOT NULL
                AND x.dxy_retired_by IS NOT NULL
            LIMIT 1) AS l ON true
        LEFT JOIN LATERAL (SELECT x::text AS image FROM public.data_bars AS x
            WHERE x.canonical_symbol = 'DXY' AND x.timeframe = '1m' AND x.ts_utc = k OFFSET 0) AS b ON true
    ),
    decided AS MATERIALIZED (
        SELECT s.*, CASE
            WHEN s.legacy_image IS NOT NULL AND s.data_bars_image IS NOT NULL OR p_extra = 'delete'
                OR p_source = 'legacy' AND s.legacy_image IS NOT NULL
                OR p_source = 'data_bars' AND s.data_bars_image IS NOT NULL
                THEN CASE p_source WHEN 'legacy' THEN 'data_bars' ELSE 'legacy' END
            WHEN p_extra = 'copy' THEN p_source END AS overwritten
        FROM sides AS s
    ),
    kept AS (
        INSERT INTO dxy.migration_repair (migration_id, ts_utc, overwritten, legacy_image, data_bars_image)
        SELECT p_migration, d.ts_utc, d.overwritten, d.legacy_image, d.data_bars_image
        FROM decided AS d WHERE d.overwritten IS NOT NULL ORDER BY d.ts_utc
    )
    SELECT array_agg(d.ts_utc ORDER BY d.ts_utc) FILTER (WHERE d.overwritten = 'data_bars'),
        array_agg(d.ts_utc ORDER BY d.ts_utc) FILTER (WHERE d.overwritten = 'legacy')
    INTO v_to_bars, v_to_legacy
    FROM decided AS d;
    PERFORM dxy.unretire_rows(v_to_bars);
    v_written := dxy.mirror_to_bars(coalesce(v_to_bars, '{}')) + dxy.put_to_legacy(coalesce(v_to_legacy, '{}'));
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
    RETURN v_written;
END;
$$;

-- Notes which of these minutes lack one of the six inputs, as the migration brings them in: without this note a migrated
-- row follows its inputs like one of ours.
CREATE OR REPLACE FUNCTION dxy.note_unverifiable(p_keys timestamptz[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
    INSERT INTO dxy.unverifiable_minute (ts_utc)
    SELECT k FROM unnest(p_keys) AS k
    WHERE (
        SELECT count(*) FROM public.data_bars AS d
        WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m' AND d.ts_utc = k
            AND d.close > 0 AND d.close < 'Infinity') < 6
    ORDER BY k
    ON CONFLICT DO NOTHING;
$$;

-- The gate of the migration: may DXY 1m rows from this instant on be written to data_bars now?
CREATE OR REPLACE FUNCTION dxy.assert_target_writable(p_from_utc timestamptz)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_state text;
    v_direction text;
BEGIN
    SELECT c.state, c.direction INTO v_state, v_direction FROM dxy.migration_control AS c;
    IF v_direction = 'rollback' THEN
        RAISE EXCEPTION 'the DXY migration is being rolled back: DXY 1m belongs to derived_data_bars again; '
            'next: "dxy migrate rollback"';
    ELSIF v_state IN ('none', 'cut_over', 'retired') THEN
        RETURN;
    ELSIF v_state IN ('dual_write', 'verified') THEN
        IF p_from_utc < now() - interval '2 days' THEN
            RAISE EXCEPTION 'the DXY migration is in state %: history before the last two days is written by '
                '"dxy migrate backfill" until the cutover', v_state;
        END IF;
    ELSE
        RAISE EXCEPTION 'the DXY migration is in state %: DXY 1m still belongs to derived_data_bars; next: "%"', v_state,
            CASE v_state WHEN 'prepared' THEN 'dxy migrate dual-write' ELSE 'dxy migrate prepare' END;
    END IF;
END;
$$;

-- The gate of the migration: may DXY 1m rows of this range be written to data_bars now?
CREATE OR REPLACE FUNCTION dxy.assert_target_writable(p_from_utc timestamptz)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_state text := (SELECT c.state FROM dxy.migration_control AS c);
BEGIN
    IF v_state IN ('none', 'cut_over', 'retired') THEN
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

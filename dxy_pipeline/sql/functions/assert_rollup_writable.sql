-- Until the cutover the DXY roll-ups belong to the desk's aggregator: ours only observe.
CREATE OR REPLACE FUNCTION dxy.assert_rollup_writable()
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_state text := (SELECT c.state FROM dxy.migration_control AS c);
BEGIN
    IF v_state NOT IN ('none', 'cut_over', 'retired') THEN
        RAISE EXCEPTION 'the DXY migration is in state %: DXY 5m and 1h belong to the desk''s aggregator until '
            '"dxy migrate cutover"', v_state;
    END IF;
END;
$$;

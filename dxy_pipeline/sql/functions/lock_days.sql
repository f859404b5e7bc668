-- Serialises writers of DXY rows per UTC day, ascending, so that two of our functions never deadlock.
-- floor of the epoch: a plain cast rounds and would lock tomorrow from noon on.
CREATE OR REPLACE FUNCTION dxy.lock_days(p_from_utc timestamptz, p_to_utc timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_first integer := floor(extract(epoch FROM p_from_utc) / 86400);
    v_last integer := ceil(extract(epoch FROM p_to_utc) / 86400) - 1;
BEGIN
    FOR v_day IN v_first .. v_last LOOP
        PERFORM pg_advisory_xact_lock(7411, v_day);
    END LOOP;
END;
$$;

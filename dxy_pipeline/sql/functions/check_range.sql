-- Refuses a range that no function of ours can serve. Errors are P0001, which the envelope reports as success:false.
-- 1,500 days: one advisory lock a day has to fit into the server's lock table beside everybody else's.
CREATE OR REPLACE FUNCTION dxy.check_range(p_from_utc timestamptz, p_to_utc timestamptz)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_from_utc IS NULL OR p_to_utc IS NULL THEN
        RAISE EXCEPTION 'Invalid timestamp range: from (%) and to (%) must both be given', p_from_utc, p_to_utc;
    ELSIF NOT isfinite(p_from_utc) OR NOT isfinite(p_to_utc) THEN
        RAISE EXCEPTION 'Invalid timestamp range: from (%) and to (%) must be finite', p_from_utc, p_to_utc;
    ELSIF p_from_utc >= p_to_utc THEN
        RAISE EXCEPTION 'Invalid timestamp range: from (%) >= to (%)', p_from_utc, p_to_utc;
    ELSIF p_to_utc - p_from_utc > interval '1500 days' THEN
        RAISE EXCEPTION 'Invalid timestamp range: % to % is longer than 1500 days; call it once a year', p_from_utc, p_to_utc;
    END IF;
END;
$$;

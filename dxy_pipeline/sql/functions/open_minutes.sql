-- Open FX minutes in [p_from_utc, p_to_utc), by the calendar in dxy.fx_session; 0 for an empty range.
CREATE OR REPLACE FUNCTION dxy.open_minutes(p_from_utc timestamptz, p_to_utc timestamptz)
RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(extract(epoch FROM sum(least(s.closes_at, p_to_utc) - greatest(s.opens_at, p_from_utc))) / 60, 0)::integer
    FROM dxy.fx_session AS s
    WHERE s.opens_at < p_to_utc AND s.closes_at > p_from_utc;
$$;

-- Minutes that the migration brought in without their six inputs (dxy.unverifiable_day). Without such a note a migrated row
-- follows its inputs like one of ours. Whoever changes notes holds the lock of the day.

-- Minutes as one multirange for each UTC day.
CREATE OR REPLACE FUNCTION dxy.minutes_by_day(p_keys timestamptz[])
RETURNS TABLE (day date, minutes tstzmultirange)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (m.ts_utc AT TIME ZONE 'UTC')::date, range_agg(tstzrange(m.ts_utc, m.ts_utc + interval '1 minute'))
    FROM (SELECT date_bin('1 minute', k, 'epoch') AS ts_utc FROM unnest(p_keys) AS k) AS m
    GROUP BY 1;
$$;

CREATE OR REPLACE FUNCTION dxy.add_unverifiable(p_keys timestamptz[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO dxy.unverifiable_day AS u (day, minutes)
    SELECT d.day, d.minutes FROM dxy.minutes_by_day(p_keys) AS d ORDER BY d.day
    ON CONFLICT (day) DO UPDATE SET minutes = u.minutes + excluded.minutes, noted_at = now()
    WHERE NOT u.minutes @> excluded.minutes;
$$;

-- Notes those of these minutes that lack one of the six inputs.
CREATE OR REPLACE FUNCTION dxy.note_unverifiable(p_keys timestamptz[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
    SELECT dxy.add_unverifiable(ARRAY(
        SELECT k FROM unnest(p_keys) AS k
        WHERE (
            SELECT count(*) FROM public.data_bars AS d
            WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m' AND d.ts_utc = k
                AND d.close > 0 AND d.close < 'Infinity') < 6));
$$;

-- These minutes have been derived from complete inputs: from here on their rows follow them.
CREATE OR REPLACE FUNCTION dxy.forget_unverifiable(p_keys timestamptz[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM dxy.unverifiable_day AS u USING dxy.minutes_by_day(p_keys) AS d
    WHERE u.day = d.day AND d.minutes @> u.minutes;
    UPDATE dxy.unverifiable_day AS u SET minutes = u.minutes - d.minutes FROM dxy.minutes_by_day(p_keys) AS d
    WHERE u.day = d.day AND u.minutes && d.minutes;
$$;

CREATE OR REPLACE FUNCTION dxy.is_unverifiable(p_ts_utc timestamptz)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT EXISTS (SELECT FROM dxy.unverifiable_day AS u
        WHERE u.day = (p_ts_utc AT TIME ZONE 'UTC')::date AND u.minutes @> p_ts_utc);
$$;

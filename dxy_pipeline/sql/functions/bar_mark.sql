-- A hash of time and price, to compare the rows that were meant with those that were written, in any order, by one number.
-- No SET clause, so that it is inlined. Equal prices have one hash, whatever their scale.
CREATE OR REPLACE FUNCTION dxy.bar_mark(p_ts_utc timestamptz, p_price numeric)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hash_numeric_extended(p_price, timestamp_hash_extended(p_ts_utc AT TIME ZONE 'UTC', 0));

-- The same of a roll-up, at the eight decimals that every table of bars has room for.
CREATE OR REPLACE FUNCTION dxy.rollup_mark(p_ts_utc timestamptz, p_open numeric, p_high numeric, p_low numeric, p_close numeric)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hash_record_extended((p_ts_utc, round(p_open, 8), round(p_high, 8), round(p_low, 8), round(p_close, 8)), 0);

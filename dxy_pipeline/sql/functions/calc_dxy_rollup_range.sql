-- Makes derived_data_bars hold exactly the DXY roll-up (5m or 1h) of the 1m bars in [p_from_utc, p_to_utc), widened to
-- whole buckets. Writes only what differs; a bucket that no longer qualifies is soft-deleted, one that comes back
-- revives our own newest dead row (whosever it is where the table has room for one row a key).
-- Replaced images go to dxy.bar_revision.
-- Returns {success, timeframe, inserted, updated, deleted, revived, derivation_version, timestamp_range}; errors as in
-- calc_dxy_range_1m.
CREATE OR REPLACE FUNCTION public.calc_dxy_rollup_range(
    p_timeframe text,
    p_from_utc timestamptz,
    p_to_utc timestamptz,
    p_derivation_version integer DEFAULT 1,
    p_now timestamptz DEFAULT now()
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_custom_plan
SET work_mem = '64MB'
SET enable_nestloop = off
SET jit = off
AS $$
DECLARE
    v_width interval := CASE p_timeframe WHEN '5m' THEN interval '5 minutes' WHEN '1h' THEN interval '1 hour' END;
    v_from timestamptz;
    v_to timestamptz;
    v_inserted bigint;
    v_to_insert bigint;
    v_updated bigint := 0;
    v_deleted bigint := 0;
    v_revived bigint := 0;
    v_change jsonb;
    v_double text;
    v_outside text;
    v_meant bigint;
    v_written bigint;
    v_limits jsonb := (SELECT s.value FROM dxy.setting AS s WHERE s.key = 'hard_limits');
    v_low numeric := coalesce((v_limits ->> 'low')::numeric, 50);
    v_high numeric := coalesce((v_limits ->> 'high')::numeric, 200);
    -- With a unique index over dead rows too there is one row a key, and a dead one of another writer has to be reused.
    v_one_row_a_key boolean := EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = 'public.derived_data_bars'::regclass AND i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 3
            AND ARRAY(SELECT a.attname::text FROM pg_attribute AS a
                WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:2]) ORDER BY 1)
                = '{canonical_symbol,timeframe,ts_utc}');
    v_seek_dead boolean;
    v_raw jsonb := jsonb_build_object('kind', 'dxy', 'derivation_version', p_derivation_version,
        'rolled_up_from', 'data_bars', 'source_timeframe', '1m');
BEGIN
    IF v_width IS NULL THEN
        RAISE EXCEPTION 'Invalid timeframe: %; DXY is rolled up to 5m and 1h', coalesce(p_timeframe, 'NULL');
    END IF;
    IF p_derivation_version IS NULL OR p_derivation_version < 1 THEN
        RAISE EXCEPTION 'Invalid derivation version: %', p_derivation_version;
    END IF;
    IF p_now IS NULL OR NOT isfinite(p_now) THEN
        RAISE EXCEPTION 'Invalid time: p_now must be finite';
    END IF;
    PERFORM dxy.check_range(p_from_utc, p_to_utc);
    PERFORM dxy.assert_rollup_writable();
    v_from := date_bin(v_width, p_from_utc, 'epoch');
    v_to := date_bin(v_width, p_to_utc - interval '1 microsecond', 'epoch') + v_width;
    PERFORM dxy.lock_days(v_from, v_to);

    -- No index leads to dead rows of ours, and a live window must not read the whole table: the log of revisions knows
    -- whether this range ever lost a bar. No plan here may depend on statistics, hence enable_nestloop = off.
    v_seek_dead := v_one_row_a_key OR EXISTS (
        SELECT FROM dxy.bar_revision AS r
        WHERE r.canonical_symbol = 'DXY' AND r.timeframe = p_timeframe AND r.ts_utc >= v_from AND r.ts_utc < v_to
            AND r.new IS NULL);

    WITH wanted AS (
        SELECT r.* FROM dxy.rollup_bars(v_width, v_from, v_to, p_now) AS r
    ),
    stored AS (
        SELECT d.ctid AS row_tid, d.ts_utc, d.open, d.high, d.low, d.close, d.vol, d.vwap, d.trade_count, d.is_partial,
            d.source, d.source_timeframe, d.source_candles, d.expected_candles, d.quality_score, d.derivation_version, d.raw
        FROM public.derived_data_bars AS d
        WHERE d.canonical_symbol = 'DXY' AND d.timeframe = p_timeframe AND d.deleted_at IS NULL
            AND d.ts_utc >= v_from AND d.ts_utc < v_to
    ),
    dead AS (
        SELECT DISTINCT ON (d.ts_utc) d.ts_utc, d.ctid AS row_tid
        FROM public.derived_data_bars AS d
        WHERE d.canonical_symbol = 'DXY' AND d.timeframe = p_timeframe AND d.deleted_at IS NOT NULL
            AND d.ts_utc >= v_from AND d.ts_utc < v_to AND v_seek_dead
            AND (v_one_row_a_key OR d.raw ? 'rolled_up_from')
        ORDER BY d.ts_utc, d.deleted_at DESC
    ),
    difference AS MATERIALIZED (
        SELECT w.*, s.ts_utc AS stored_ts, coalesce(s.row_tid, x.row_tid) AS row_tid
        FROM wanted AS w
        FULL JOIN stored AS s ON s.ts_utc = w.ts_utc
        LEFT JOIN dead AS x ON x.ts_utc = w.ts_utc AND s.ts_utc IS NULL
        WHERE (s.open, s.high, s.low, s.close, s.vol, s.vwap, s.trade_count, s.is_partial, s.source, s.source_timeframe,
                s.source_candles, s.expected_candles, s.quality_score, s.derivation_version, s.raw)
            IS DISTINCT FROM (w.open, w.high, w.low, w.close, w.vol, w.vwap, w.trade_count, w.is_partial, 'agg', '1m',
                w.source_candles, w.expected_candles, w.quality_score, p_derivation_version, v_raw)
    ),
    inserted AS (
        INSERT INTO public.derived_data_bars (
            canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, source,
            source_timeframe, source_candles, expected_candles, quality_score, derivation_version, ingested_at, raw,
            created_at, updated_at)
        SELECT 'DXY', p_timeframe, f.ts_utc, f.open, f.high, f.low, f.close, f.vol, f.vwap, f.trade_count, f.is_partial,
            'agg', '1m', f.source_candles, f.expected_candles, f.quality_score, p_derivation_version, now(), v_raw,
            now(), now()
        FROM (SELECT n.* FROM difference AS n WHERE n.row_tid IS NULL ORDER BY n.ts_utc) AS f
        RETURNING dxy.rollup_mark(ts_utc, open::numeric, high::numeric, low::numeric, close::numeric) AS mark
    )
    SELECT i.rows, i.mark, m.rows, m.mark,
        (SELECT string_agg(f.ts_utc::text, ', ') FROM difference AS f WHERE f.source_candles > f.expected_candles),
        (SELECT string_agg(o.ts_utc::text, ', ') FROM (SELECT f.ts_utc FROM difference AS f
            WHERE f.low < v_low OR f.high > v_high ORDER BY f.ts_utc LIMIT 3) AS o),
        (SELECT jsonb_agg(to_jsonb(f)) FROM difference AS f WHERE f.row_tid IS NOT NULL)
    INTO v_inserted, v_written, v_to_insert, v_meant, v_double, v_outside, v_change
    FROM (SELECT count(*) AS rows, bit_xor(n.mark) AS mark FROM inserted AS n) AS i
    CROSS JOIN (
        SELECT count(*) AS rows, bit_xor(dxy.rollup_mark(f.ts_utc, f.open, f.high, f.low, f.close)) AS mark
        FROM difference AS f WHERE f.row_tid IS NULL
    ) AS m;

    IF v_double IS NOT NULL THEN
        RAISE EXCEPTION 'more source minutes than the bucket has open minutes (double counting) at %', v_double;
    ELSIF v_outside IS NOT NULL THEN
        RAISE EXCEPTION 'DXY % outside the hard limits % to % at %; correct the minutes of these bars', p_timeframe, v_low,
            v_high, v_outside;
    ELSIF v_inserted = v_to_insert AND v_written IS DISTINCT FROM v_meant THEN
        RAISE EXCEPTION 'count-match failed: DXY % bars are not written as they were meant (a trigger changes them)', p_timeframe;
    END IF;

    IF v_change IS NOT NULL THEN
        PERFORM set_config('enable_nestloop', 'on', true);  -- rows are found by their place, one by one
        WITH changed AS MATERIALIZED (
            SELECT c.*
            FROM jsonb_to_recordset(v_change) AS c (
                ts_utc timestamptz, open numeric, high numeric, low numeric, close numeric, vol numeric, vwap numeric,
                trade_count bigint, is_partial boolean, source_candles integer, expected_candles integer,
                quality_score integer, stored_ts timestamptz, row_tid tid)
        ),
        revision AS (
            INSERT INTO dxy.bar_revision (canonical_symbol, timeframe, ts_utc, known_from, old, new)
            SELECT 'DXY', p_timeframe, coalesce(c.ts_utc, c.stored_ts), o.known_from, o.image,
                CASE WHEN c.ts_utc IS NOT NULL THEN to_jsonb(c) - 'ts_utc' - 'stored_ts' - 'row_tid' END
            FROM changed AS c CROSS JOIN LATERAL dxy.rollup_image(c.row_tid) AS o
        ),
        written AS (
            UPDATE public.derived_data_bars AS d
            SET open = c.open, high = c.high, low = c.low, close = c.close, vol = c.vol, vwap = c.vwap,
                trade_count = c.trade_count, is_partial = c.is_partial, source = 'agg', source_timeframe = '1m',
                source_candles = c.source_candles, expected_candles = c.expected_candles,
                quality_score = c.quality_score, derivation_version = p_derivation_version, raw = v_raw,
                deleted_at = NULL, updated_at = now()
            FROM changed AS c
            WHERE c.ts_utc IS NOT NULL AND d.ctid = c.row_tid
            RETURNING c.stored_ts IS NULL AS was_dead,
                dxy.rollup_mark(d.ts_utc, d.open::numeric, d.high::numeric, d.low::numeric, d.close::numeric) AS mark
        ),
        removed AS (
            UPDATE public.derived_data_bars AS d
            SET deleted_at = now(), updated_at = now()
            FROM changed AS c
            WHERE c.ts_utc IS NULL AND d.ctid = c.row_tid
            RETURNING d.ts_utc
        )
        SELECT (SELECT count(*) FILTER (WHERE NOT w.was_dead) FROM written AS w),
            (SELECT count(*) FILTER (WHERE w.was_dead) FROM written AS w),
            (SELECT count(*) FROM removed),
            (SELECT bit_xor(w.mark) FROM written AS w),
            (SELECT bit_xor(dxy.rollup_mark(c.ts_utc, c.open, c.high, c.low, c.close)) FROM changed AS c WHERE c.ts_utc IS NOT NULL)
        INTO v_updated, v_revived, v_deleted, v_written, v_meant;
        IF v_updated + v_revived + v_deleted = jsonb_array_length(v_change) AND v_written IS DISTINCT FROM v_meant THEN
            RAISE EXCEPTION 'count-match failed: DXY % bars are not written as they were meant (a trigger changes them)',
                p_timeframe;
        END IF;
    END IF;

    -- A row that another session changed meanwhile, or a trigger that swallowed one: nothing commits, the caller retries.
    IF v_inserted <> v_to_insert OR v_updated + v_revived + v_deleted <> coalesce(jsonb_array_length(v_change), 0) THEN
        RAISE EXCEPTION 'the stored % bars changed while they were rolled up; call again', p_timeframe USING ERRCODE = '40001';
    END IF;

    RETURN jsonb_build_object(
        'success', true, 'timeframe', p_timeframe, 'inserted', v_inserted, 'updated', v_updated, 'deleted', v_deleted,
        'revived', v_revived, 'derivation_version', p_derivation_version,
        'timestamp_range', jsonb_build_object('from', p_from_utc, 'to', p_to_utc));
EXCEPTION WHEN OTHERS THEN
    IF SQLSTATE = '23505' THEN
        RAISE EXCEPTION 'another writer inserted the same % bar meanwhile; call again', p_timeframe USING ERRCODE = '40001';
    END IF;
    IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58', 'XX') THEN
        RAISE;
    END IF;
    RAISE WARNING 'calc_dxy_rollup_range failed: %', SQLERRM;
    RETURN jsonb_build_object(
        'success', false, 'error', SQLERRM, 'timeframe', p_timeframe, 'inserted', 0, 'updated', 0, 'deleted', 0,
        'revived', 0);
END;
$$;

-- One day's legacy rows into data_bars, each row in exactly one class. Idempotent: writes only what is missing.
-- A minute that data_bars already has with another content: within 1e-8 of every price it is reconciled (legacy's image
-- goes in, the old one to undo), else a conflict, which is noted with both images and, under p_policy 'stop', left alone.
CREATE OR REPLACE FUNCTION dxy.backfill_day(
    p_migration bigint, p_day date, p_policy text, p_fence bigint,
    OUT scanned integer, OUT inserted integer, OUT identical integer, OUT reconciled integer, OUT superseded integer,
    OUT unverifiable integer, OUT conflict integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_nestloop = off
SET work_mem = '32MB'
SET jit = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_from timestamptz := p_day::timestamp AT TIME ZONE 'UTC';
    v_to timestamptz := (p_day + 1)::timestamp AT TIME ZONE 'UTC';
    v_looks integer := 0;
    v_unverifiable timestamptz[];
    v_reconciled timestamptz[];
    v_conflict timestamptz[];
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    PERFORM dxy.lock_days(v_from, v_to);
    -- Planned once for all days (a tenth of the time), so no plan may hang on how many rows a day was thought to have.
    -- No ON CONFLICT: it looks each key up twice (a fifth of the copy's time). Under the day lock only a writer who passes
    -- the mirror by can have put a minute there since the snapshot; the next look sees it and gives it its class.
    LOOP
        BEGIN
            WITH legacy AS (
                SELECT * FROM dxy.legacy_source AS l WHERE l.ts_utc >= v_from AND l.ts_utc < v_to
            ),
            target AS MATERIALIZED (
                SELECT * FROM dxy.bars_image AS b WHERE b.ts_utc >= v_from AND b.ts_utc < v_to
            ),
            complete AS MATERIALIZED (
                SELECT d.ts_utc FROM public.data_bars AS d
                WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m' AND d.close > 0 AND d.close < 'Infinity'
                    AND d.ts_utc >= v_from AND d.ts_utc < v_to
                GROUP BY d.ts_utc HAVING count(*) = 6
            ),
            classed AS MATERIALIZED (
                SELECT l.*, CASE
                    WHEN b.ts_utc IS NULL AND c.ts_utc IS NULL THEN 'unverifiable'
                    WHEN b.ts_utc IS NULL THEN 'inserted'
                    WHEN (l.ts_utc, l.open, l.high, l.low, l.close, l.vol, l.vwap, l.trade_count, l.is_partial, l.source,
                            l.ingested_at, l.raw, l.minus_zero_vol, l.zero_prices) IS NOT DISTINCT FROM
                        (b.ts_utc, b.open, b.high, b.low, b.close, b.vol, b.vwap, b.trade_count, b.is_partial, b.source,
                            b.ingested_at, b.raw, b.minus_zero_vol, b.zero_prices) THEN 'identical'
                    WHEN abs(l.open::numeric - b.open::numeric) <= 0.00000001 AND abs(l.high::numeric - b.high::numeric) <= 0.00000001
                        AND abs(l.low::numeric - b.low::numeric) <= 0.00000001
                        AND abs(l.close::numeric - b.close::numeric) <= 0.00000001 THEN 'reconciled'
                    ELSE 'conflict' END AS class
                FROM legacy AS l LEFT JOIN target AS b ON b.ts_utc = l.ts_utc LEFT JOIN complete AS c ON c.ts_utc = l.ts_utc
            ),
            -- A minute that an application took out of data_bars itself and legacy has again: absent is its before-image.
            undo AS (
                INSERT INTO dxy.migration_undo (ts_utc, before)
                SELECT k.ts_utc, NULL FROM classed AS k
                WHERE k.class IN ('inserted', 'unverifiable') AND (EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = k.ts_utc)
                    OR EXISTS (SELECT FROM dxy.migration_native AS n WHERE n.ts_utc = k.ts_utc))
                ON CONFLICT (ts_utc) DO NOTHING
            ),
            written AS (
                INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
                    is_partial, source, ingested_at, raw, created_at, updated_at)
                SELECT 'DXY', '1m', k.ts_utc, k.open, k.high, k.low, k.close, k.vol, k.vwap, k.trade_count, k.is_partial, k.source,
                    k.ingested_at, k.raw, k.created_at, now()
                FROM classed AS k WHERE k.class IN ('inserted', 'unverifiable') ORDER BY k.ts_utc
                RETURNING ts_utc
            )
            SELECT count(*), count(*) FILTER (WHERE k.class = 'inserted' AND w.ts_utc IS NOT NULL),
                count(*) FILTER (WHERE k.class = 'identical'),
                count(*) FILTER (WHERE k.class IN ('inserted', 'unverifiable') AND w.ts_utc IS NULL),
                count(*) FILTER (WHERE k.class = 'unverifiable' AND w.ts_utc IS NOT NULL),
                array_agg(k.ts_utc) FILTER (WHERE k.class = 'unverifiable'),
                array_agg(k.ts_utc ORDER BY k.ts_utc) FILTER (WHERE k.class = 'reconciled'),
                array_agg(k.ts_utc ORDER BY k.ts_utc) FILTER (WHERE k.class = 'conflict')
            INTO scanned, inserted, identical, superseded, unverifiable, v_unverifiable, v_reconciled, v_conflict
            FROM classed AS k LEFT JOIN written AS w ON w.ts_utc = k.ts_utc;
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            v_looks := v_looks + 1;
            IF v_looks = 3 THEN
                RAISE;
            END IF;
        END;
    END LOOP;

    PERFORM set_config('enable_nestloop', 'on', true);  -- what follows seeks a few keys
    PERFORM dxy.add_unverifiable(v_unverifiable);
    reconciled := coalesce(cardinality(v_reconciled), 0);
    conflict := coalesce(cardinality(v_conflict), 0);
    IF v_reconciled IS NOT NULL THEN
        PERFORM dxy.mirror_to_bars(v_reconciled);
    END IF;
    IF v_conflict IS NOT NULL THEN
        INSERT INTO dxy.migration_conflict AS c (migration_id, ts_utc, legacy_price, target_price, recomputed_price, decision,
            legacy_image, target_image)
        SELECT p_migration, l.ts_utc, l.close::numeric, b.close::numeric, r.price,
            CASE p_policy WHEN 'legacy-wins' THEN p_policy ELSE 'open' END, to_jsonb(l), to_jsonb(b)
        FROM dxy.legacy_image AS l
        JOIN dxy.bars_image AS b ON b.ts_utc = l.ts_utc
        LEFT JOIN LATERAL (SELECT round(dxy.index_price(${pivot_columns})::numeric, 8) AS price
            FROM (SELECT ${pivot_closes_float} FROM public.data_bars AS b
                  WHERE b.canonical_symbol IN (${component_list}) AND b.timeframe = '1m' AND b.ts_utc = l.ts_utc) AS m) AS r ON true
        WHERE l.ts_utc = ANY (v_conflict)
        ON CONFLICT (migration_id, ts_utc) DO UPDATE
        SET decision = excluded.decision, legacy_price = excluded.legacy_price, target_price = excluded.target_price,
            recomputed_price = excluded.recomputed_price, legacy_image = excluded.legacy_image,
            target_image = excluded.target_image, noted_at = now();
        IF p_policy = 'legacy-wins' THEN
            PERFORM dxy.mirror_to_bars(v_conflict);
        END IF;
    END IF;
    UPDATE dxy.migration_conflict AS c SET decision = 'resolved'
    WHERE c.migration_id = p_migration AND c.decision = 'open' AND c.ts_utc >= v_from AND c.ts_utc < v_to
        AND c.ts_utc <> ALL (coalesce(v_conflict, '{}'));
    INSERT INTO dxy.migration_unit AS u (migration_id, day, state, scanned, inserted, identical, reconciled, superseded,
        unverifiable, conflict, fence, finished_at)
    VALUES (p_migration, p_day, CASE WHEN conflict > 0 AND p_policy <> 'legacy-wins' THEN 'failed' ELSE 'done' END, scanned,
        inserted, identical, reconciled, superseded, unverifiable, conflict, p_fence, clock_timestamp())
    ON CONFLICT (migration_id, day) DO UPDATE
    SET state = excluded.state, scanned = excluded.scanned, inserted = excluded.inserted, identical = excluded.identical,
        reconciled = excluded.reconciled, superseded = excluded.superseded, unverifiable = excluded.unverifiable,
        conflict = excluded.conflict, fence = excluded.fence, finished_at = excluded.finished_at;
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
END;
$$;

-- Soft-deletes one day's legacy rows with the tag of this migration; their updated_at is kept beside it. Rows of which
-- data_bars does not hold the very same stay: then nothing of the day is retired and `differing` says how many.
CREATE OR REPLACE FUNCTION dxy.retire_day(p_migration bigint, p_day date, OUT retired integer, OUT differing integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_from timestamptz := p_day::timestamp AT TIME ZONE 'UTC';
    v_to timestamptz := (p_day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    PERFORM dxy.lock_days(v_from, v_to);
    retired := 0;
    SELECT count(*) INTO differing
    FROM (SELECT * FROM dxy.legacy_image AS i WHERE i.ts_utc >= v_from AND i.ts_utc < v_to) AS l
    LEFT JOIN (SELECT * FROM dxy.bars_image AS i WHERE i.ts_utc >= v_from AND i.ts_utc < v_to) AS b ON b.ts_utc = l.ts_utc
    WHERE l IS DISTINCT FROM b;
    IF differing > 0 THEN
        PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
        RETURN;
    END IF;
    UPDATE public.derived_data_bars AS l
    SET deleted_at = now(), dxy_retired_by = p_migration, dxy_retired_updated_at = l.updated_at, updated_at = now()
    WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL AND l.ts_utc >= v_from AND l.ts_utc < v_to;
    GET DIAGNOSTICS retired = ROW_COUNT;
    IF retired > 0 THEN
        INSERT INTO dxy.migration_retired AS r (day, tagged) VALUES (p_day, retired)
        ON CONFLICT (day) DO UPDATE SET tagged = r.tagged + excluded.tagged;
    END IF;
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
END;
$$;

-- The way back of retire_day, and the writes that data_bars took since go to legacy. Native rows that nobody changed
-- were never mirrored and stay where they are. `gone`: rows of the retirement that are not there any more; nothing is done then.
CREATE OR REPLACE FUNCTION dxy.unretire_day(p_day date, OUT undeleted integer, OUT pulled integer, OUT gone integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_from timestamptz := p_day::timestamp AT TIME ZONE 'UTC';
    v_to timestamptz := (p_day + 1)::timestamp AT TIME ZONE 'UTC';
    v_tagged timestamptz[];
    v_keys timestamptz[];
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    PERFORM dxy.lock_days(v_from, v_to);
    undeleted := 0;
    pulled := 0;
    v_tagged := ARRAY(SELECT l.ts_utc FROM public.derived_data_bars AS l
        WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.dxy_retired_by IS NOT NULL
            AND l.ts_utc >= v_from AND l.ts_utc < v_to);
    gone := coalesce((SELECT r.tagged FROM dxy.migration_retired AS r WHERE r.day = p_day), 0) - cardinality(v_tagged);
    IF gone > 0 THEN
        PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
        RETURN;
    END IF;
    undeleted := dxy.unretire_rows(v_tagged);
    PERFORM dxy.drop_tags(v_tagged);
    SELECT array_agg(coalesce(l.ts_utc, b.ts_utc)) INTO v_keys
    FROM (SELECT * FROM dxy.legacy_image AS i WHERE i.ts_utc >= v_from AND i.ts_utc < v_to) AS l
    FULL JOIN (SELECT * FROM dxy.bars_image AS i WHERE i.ts_utc >= v_from AND i.ts_utc < v_to) AS b ON b.ts_utc = l.ts_utc
    WHERE l IS DISTINCT FROM b
        AND NOT (l.ts_utc IS NULL AND EXISTS (SELECT FROM dxy.migration_native AS n
            JOIN public.data_bars AS d ON d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = n.ts_utc
            WHERE n.ts_utc = b.ts_utc AND NOT n.had_legacy AND n.row_hash = hash_record_extended(d, 0)));
    IF v_keys IS NOT NULL THEN
        pulled := dxy.mirror_to_legacy(v_keys);
    END IF;
    DELETE FROM dxy.migration_retired AS r WHERE r.day = p_day;
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
END;
$$;

-- Takes one day of data_bars back to what it was before the dual write, plus what applications wrote there themselves.
-- Only what legacy holds too is taken out, or what legacy has changed since it is not followed any more. Anything else passed
-- the mirror by: it is kept as an application's write, and legacy gets the minute if it has none.
CREATE OR REPLACE FUNCTION dxy.undo_day(p_day date, OUT removed integer, OUT restored integer, OUT kept integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_from timestamptz := p_day::timestamp AT TIME ZONE 'UTC';
    v_to timestamptz := (p_day + 1)::timestamp AT TIME ZONE 'UTC';
    v_strange timestamptz[];
    v_alone timestamptz[];
    v_columns text; -- all but the generated ones, which fill themselves and take no value
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    PERFORM dxy.lock_days(v_from, v_to);
    SELECT array_agg(b.ts_utc ORDER BY b.ts_utc), array_agg(b.ts_utc ORDER BY b.ts_utc) FILTER (WHERE l.ts_utc IS NULL)
    INTO v_strange, v_alone
    FROM (SELECT * FROM dxy.bars_image AS i WHERE i.ts_utc >= v_from AND i.ts_utc < v_to) AS b
    LEFT JOIN (SELECT * FROM dxy.legacy_image AS i WHERE i.ts_utc >= v_from AND i.ts_utc < v_to) AS l ON l.ts_utc = b.ts_utc
    WHERE l IS DISTINCT FROM b
        AND NOT EXISTS (SELECT FROM dxy.migration_left AS f WHERE f.ts_utc = b.ts_utc)
        AND (EXISTS (SELECT FROM dxy.migration_undo AS u WHERE u.ts_utc = b.ts_utc)
            OR NOT EXISTS (SELECT FROM dxy.migration_native AS n WHERE n.ts_utc = b.ts_utc)
                AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = b.ts_utc));
    kept := coalesce(cardinality(v_strange), 0);
    IF kept > 0 THEN
        DELETE FROM dxy.migration_undo AS u WHERE u.ts_utc = ANY (v_strange);
        INSERT INTO dxy.migration_direct (ts_utc) SELECT k FROM unnest(v_strange) AS k ORDER BY k ON CONFLICT (ts_utc) DO NOTHING;
        PERFORM dxy.put_to_legacy(v_alone);
    END IF;
    DELETE FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc >= v_from AND d.ts_utc < v_to
        AND (EXISTS (SELECT FROM dxy.migration_undo AS u WHERE u.ts_utc = d.ts_utc)
            OR NOT EXISTS (SELECT FROM dxy.migration_native AS n WHERE n.ts_utc = d.ts_utc)
                AND NOT EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = d.ts_utc));
    GET DIAGNOSTICS removed = ROW_COUNT;
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO v_columns FROM pg_attribute AS a
    WHERE a.attrelid = 'public.data_bars'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
    EXECUTE format('INSERT INTO public.data_bars (%1$s) OVERRIDING SYSTEM VALUE SELECT %1$s'
        ' FROM (SELECT (u.before).* FROM dxy.migration_undo AS u WHERE u.ts_utc >= $1 AND u.ts_utc < $2) AS b'
        ' WHERE b.ts_utc IS NOT NULL', v_columns) USING v_from, v_to;
    GET DIAGNOSTICS restored = ROW_COUNT;
    DELETE FROM dxy.migration_undo AS u WHERE u.ts_utc >= v_from AND u.ts_utc < v_to;
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
END;
$$;

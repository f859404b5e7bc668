-- Derives DXY 1m bars of [p_from_utc, p_to_utc) from the six FX pairs' 1m closes and makes data_bars hold exactly them.
--
-- A minute has a bar when all six pairs have one there with a finite close > 0: all six or nothing, no carry-forward.
-- open = high = low = close: the true high and low of the index cannot be recovered from component bars (EURUSD and
-- GBPUSD enter inverted, so the "highs" of all six give less than their "lows").
-- Writes only what differs, so a second call changes nothing. A minute that lost an input loses its bar where there is
-- evidence that the inputs were there: the bar is one that we derived, or was migrated and is not in
-- dxy.unverifiable_day. A desk's own bar without inputs is kept, unless it starts on no minute: the roll-ups would count
-- it twice. Replaced images go to dxy.bar_revision; what a migrated bar's legacy row said stays in raw.legacy.
--
-- Returns the envelope {success, inserted, updated, deleted, skipped_incomplete, derivation_version, timestamp_range};
-- {success: false, error, inserted: 0, updated: 0, deleted: 0, skipped_incomplete: 0} for bad arguments or bad data, with
-- nothing written. What a caller should retry or report (SQLSTATE 40, 53, 55, 57, 58, XX) is raised.
CREATE OR REPLACE FUNCTION public.calc_dxy_range_1m(
    p_from_utc timestamptz,
    p_to_utc timestamptz,
    p_derivation_version integer DEFAULT 1
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_custom_plan
SET work_mem = '128MB'
SET enable_sort = off
SET jit = off
AS $$
DECLARE
    v_inserted bigint;
    v_updated bigint := 0;
    v_deleted bigint := 0;
    v_skipped bigint;
    v_to_insert bigint;
    v_meant bigint;
    v_written bigint;
    v_is_flat boolean;
    v_minutes timestamptz[];
    v_values double precision[];
    v_keys timestamptz[];
    v_prices numeric[];
    v_gone timestamptz[];
    v_wrong text;
    v_raw jsonb := jsonb_build_object(
        'kind', 'dxy', 'derivation_version', p_derivation_version,
        'components', jsonb_build_array(${component_list}), 'formula_base', ${formula_base});
    v_limits jsonb := (SELECT s.value FROM dxy.setting AS s WHERE s.key = 'hard_limits');
    v_low numeric := coalesce((v_limits ->> 'low')::numeric, 50);
    v_high numeric := coalesce((v_limits ->> 'high')::numeric, 200);
BEGIN
    PERFORM dxy.check_range(p_from_utc, p_to_utc);
    IF p_derivation_version IS NULL OR p_derivation_version < 1 THEN
        RAISE EXCEPTION 'Invalid derivation version: %', p_derivation_version;
    END IF;
    PERFORM dxy.assert_target_writable(p_from_utc);
    PERFORM dxy.lock_days(p_from_utc, p_to_utc);

    -- One scan pivots the six pairs (hash aggregate: half the time of six merge joins). It has a statement of its own,
    -- run by EXECUTE, because neither a statement that writes nor SELECT INTO may use parallel workers.
    -- No plan here may depend on statistics, which a freshly loaded table does not have: enable_sort = off keeps the
    -- aggregate a hash, and OFFSET 0 keeps a condition that the planner misjudges above it.
    EXECUTE $pivot$
        SELECT array_agg(p.ts_utc), array_agg(p.price)
        FROM (
            SELECT m.ts_utc,
                CASE WHEN least(${pivot_columns}) > 0
                        AND greatest(${pivot_columns}) < 'Infinity'
                    THEN dxy.index_price(${pivot_columns}) END AS price
            FROM (
                SELECT b.ts_utc,
                ${pivot_closes}
                FROM (
                    SELECT d.ts_utc, d.canonical_symbol, d.close::double precision AS close
                    FROM public.data_bars AS d
                    WHERE d.canonical_symbol IN (${component_list}) AND d.timeframe = '1m'
                        AND d.ts_utc >= $1 AND d.ts_utc < $2
                ) AS b
                GROUP BY b.ts_utc
                OFFSET 0
            ) AS m
            -- a foreign bar that does not start on a minute makes no index bar: it would count twice in the roll-ups
            WHERE m.ts_utc = date_bin(interval '1 minute', m.ts_utc, 'epoch')
        ) AS p
    $pivot$ INTO v_minutes, v_values USING p_from_utc, p_to_utc;

    -- A full join (never a nested loop) of what follows from the inputs with what is stored leaves the rows that differ.
    WITH minutes AS MATERIALIZED (
        SELECT v.ts_utc, round(v.price::numeric, 8) AS price FROM unnest(v_minutes, v_values) AS v (ts_utc, price)
    ),
    stored AS (
        SELECT d.ts_utc, d.open, d.high, d.low, d.close, d.vol, d.vwap, d.trade_count, d.is_partial, d.source, d.raw
        FROM public.data_bars AS d
        WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc >= p_from_utc AND d.ts_utc < p_to_utc
    ),
    difference AS MATERIALIZED (
        SELECT coalesce(w.ts_utc, s.ts_utc) AS ts_utc, w.price, s.ts_utc IS NULL AS is_new
        FROM (SELECT m.ts_utc, m.price FROM minutes AS m WHERE m.price IS NOT NULL) AS w
        FULL JOIN stored AS s ON s.ts_utc = w.ts_utc
        WHERE CASE
            WHEN s.ts_utc IS NULL THEN true
            WHEN w.ts_utc IS NULL THEN dxy.is_derived(s.source, s.raw)
                OR s.ts_utc <> date_bin(interval '1 minute', s.ts_utc, 'epoch')
                OR (s.raw ? 'migrated_from' AND NOT dxy.is_unverifiable(s.ts_utc))
            WHEN s.raw ? 'migrated_from' AND abs(s.close::numeric - w.price) <= 0.00000001 THEN false
            ELSE (s.open, s.high, s.low, s.close, s.vol, s.vwap, s.trade_count, s.is_partial, s.source)
                IS DISTINCT FROM (w.price, w.price, w.price, w.price, 0, NULL, 0, false, 'synthetic')
                OR (s.raw IS DISTINCT FROM v_raw AND s.raw - 'legacy' IS DISTINCT FROM v_raw)
        END
    ),
    inserted AS (
        INSERT INTO public.data_bars (
            canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, source,
            ingested_at, raw, created_at, updated_at)
        SELECT 'DXY', '1m', n.ts_utc, n.price, n.price, n.price, n.price, 0, NULL, 0, false, 'synthetic',
            now(), v_raw, now(), now()
        FROM (SELECT f.ts_utc, f.price FROM difference AS f WHERE f.is_new ORDER BY f.ts_utc) AS n  -- sorts the two only
        RETURNING dxy.bar_mark(ts_utc, close::numeric) AS mark, (open = close AND high = close AND low = close) IS TRUE AS is_flat
    ),
    outside AS (
        SELECT m.ts_utc, m.price FROM minutes AS m
        WHERE m.price IS NOT NULL AND (m.price < v_low OR m.price > v_high)
        ORDER BY m.ts_utc LIMIT 3
    )
    SELECT i.rows, i.mark, i.is_flat,
        (SELECT count(*) FROM minutes AS m WHERE m.price IS NULL),
        c.to_insert, c.mark, c.keys, c.prices, c.gone,
        (SELECT string_agg(format('%s at %s', o.price, to_char(o.ts_utc AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"')), ', ')
         FROM outside AS o)
    INTO v_inserted, v_written, v_is_flat, v_skipped, v_to_insert, v_meant, v_keys, v_prices, v_gone, v_wrong
    FROM (
        SELECT count(*) AS rows, bit_xor(n.mark) AS mark, coalesce(bool_and(n.is_flat), true) AS is_flat FROM inserted AS n
    ) AS i
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE f.is_new) AS to_insert,
            bit_xor(dxy.bar_mark(f.ts_utc, f.price)) FILTER (WHERE f.is_new) AS mark,
            array_agg(f.ts_utc) FILTER (WHERE NOT f.is_new AND f.price IS NOT NULL) AS keys,
            array_agg(f.price) FILTER (WHERE NOT f.is_new AND f.price IS NOT NULL) AS prices,
            array_agg(f.ts_utc) FILTER (WHERE f.price IS NULL) AS gone
        FROM difference AS f
    ) AS c;

    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION 'DXY outside the hard limits % to %: %; correct the FX bars of these minutes', v_low, v_high, v_wrong;
    END IF;
    IF v_inserted = v_to_insert AND (v_written IS DISTINCT FROM v_meant OR NOT v_is_flat) THEN
        PERFORM dxy.refuse_changed_rows(v_minutes, v_values::numeric[]);
    END IF;

    IF EXISTS (SELECT FROM dxy.unverifiable_day AS u WHERE u.minutes && tstzrange(p_from_utc, p_to_utc)
        AND u.day BETWEEN (p_from_utc AT TIME ZONE 'UTC')::date AND (p_to_utc AT TIME ZONE 'UTC')::date) THEN
        PERFORM dxy.forget_unverifiable(ARRAY(
            SELECT v.ts_utc FROM unnest(v_minutes, v_values) AS v (ts_utc, price) WHERE v.price IS NOT NULL));
    END IF;

    IF v_keys IS NOT NULL THEN
        WITH wanted AS (
            SELECT k.ts_utc, k.price FROM unnest(v_keys, v_prices) AS k (ts_utc, price)
        ),
        revision AS (
            INSERT INTO dxy.bar_revision (canonical_symbol, timeframe, ts_utc, known_from, old, new)
            SELECT 'DXY', '1m', w.ts_utc, o.known_from, o.image,
                o.image || jsonb_build_object('open', w.price, 'high', w.price, 'low', w.price, 'close', w.price,
                    'raw', v_raw || CASE WHEN o.image -> 'raw' ? 'legacy'
                        THEN jsonb_build_object('legacy', o.image #> '{raw,legacy}') ELSE '{}' END)
            FROM wanted AS w CROSS JOIN LATERAL dxy.minute_image(w.ts_utc) AS o
        ),
        written AS (
            UPDATE public.data_bars AS d
            SET open = w.price, high = w.price, low = w.price, close = w.price, vol = 0, vwap = NULL, trade_count = 0,
                is_partial = false, source = 'synthetic', updated_at = now(),
                raw = v_raw || CASE WHEN d.raw ? 'legacy' THEN jsonb_build_object('legacy', d.raw -> 'legacy') ELSE '{}' END
            FROM wanted AS w
            WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = w.ts_utc
            RETURNING dxy.bar_mark(d.ts_utc, d.close::numeric) AS mark,
                (d.open = d.close AND d.high = d.close AND d.low = d.close) IS TRUE AS is_flat
        )
        SELECT count(*), bit_xor(n.mark), coalesce(bool_and(n.is_flat), true),
            (SELECT bit_xor(dxy.bar_mark(w.ts_utc, w.price)) FROM wanted AS w)
        INTO v_updated, v_written, v_is_flat, v_meant
        FROM written AS n;
        IF v_updated = cardinality(v_keys) AND (v_written IS DISTINCT FROM v_meant OR NOT v_is_flat) THEN
            PERFORM dxy.refuse_changed_rows(v_keys, v_prices);
        END IF;
    END IF;

    IF v_gone IS NOT NULL THEN
        INSERT INTO dxy.bar_revision (canonical_symbol, timeframe, ts_utc, known_from, old, new)
        SELECT 'DXY', '1m', k.ts_utc, o.known_from, o.image, NULL
        FROM unnest(v_gone) AS k (ts_utc) CROSS JOIN LATERAL dxy.minute_image(k.ts_utc) AS o;
        DELETE FROM public.data_bars AS d
        WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = ANY (v_gone);
        GET DIAGNOSTICS v_deleted = ROW_COUNT;
    END IF;

    -- Somebody's trigger or rule may have swallowed rows: what was meant and what was written must be the same number.
    IF (v_inserted, v_updated, v_deleted)
        IS DISTINCT FROM (v_to_insert, coalesce(cardinality(v_keys), 0)::bigint, coalesce(cardinality(v_gone), 0)::bigint) THEN
        RAISE EXCEPTION 'count-match failed: % of % rows inserted, % of % updated, % of % deleted', v_inserted, v_to_insert,
            v_updated, coalesce(cardinality(v_keys), 0), v_deleted, coalesce(cardinality(v_gone), 0);
    END IF;

    RETURN jsonb_build_object(
        'success', true, 'inserted', v_inserted, 'updated', v_updated, 'deleted', v_deleted,
        'skipped_incomplete', v_skipped, 'derivation_version', p_derivation_version,
        'timestamp_range', jsonb_build_object('from', p_from_utc, 'to', p_to_utc));
EXCEPTION WHEN OTHERS THEN
    IF SQLSTATE = '23505' THEN
        RAISE EXCEPTION 'another writer inserted the same DXY minute meanwhile; call again' USING ERRCODE = '40001';
    END IF;
    IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58', 'XX') THEN
        RAISE;
    END IF;
    RAISE WARNING 'calc_dxy_range_1m failed: %', SQLERRM;
    RETURN jsonb_build_object(
        'success', false, 'error', SQLERRM, 'inserted', 0, 'updated', 0, 'deleted', 0, 'skipped_incomplete', 0);
END;
$$;

-- Day locks of a set of keys, ascending. Taken before the tables are read, so that whoever comes later sees what the
-- one before committed. A transaction with an older snapshot (REPEATABLE READ) cannot: locking the day's rows of the ledger,
-- which every batch updates, makes it fail with 40001 instead of missing a row.
CREATE OR REPLACE FUNCTION dxy.lock_key_days(p_keys timestamptz[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_day integer;
BEGIN
    FOR v_day IN SELECT DISTINCT floor(extract(epoch FROM k) / 86400)::integer FROM unnest(p_keys) AS k ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock(7411, v_day);
    END LOOP;
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        PERFORM 1 FROM dxy.migration_unit AS u
        WHERE u.day IN (SELECT (k AT TIME ZONE 'UTC')::date FROM unnest(p_keys) AS k) FOR SHARE;
        PERFORM 1 FROM dxy.migration_retired AS r
        WHERE r.day IN (SELECT (k AT TIME ZONE 'UTC')::date FROM unnest(p_keys) AS k) FOR SHARE;
    END IF;
END;
$$;

-- A minute is alive in legacy once: as a live row, or as the row with the retirement's tag, which stands in for it. Whoever
-- gives a minute a live row, or takes the minute away, ends what the tag stood for: the tagged row is a dead row then.
-- Called under the loop guard only.
CREATE OR REPLACE FUNCTION dxy.drop_tags(p_keys timestamptz[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dxy.migration_retired) THEN
        RETURN;
    END IF;
    WITH untagged AS (
        UPDATE public.derived_data_bars AS l SET dxy_retired_by = NULL, dxy_retired_updated_at = NULL
        WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.ts_utc = ANY (p_keys) AND l.dxy_retired_by IS NOT NULL
        RETURNING l.ts_utc
    )
    UPDATE dxy.migration_retired AS r SET tagged = r.tagged - u.n
    FROM (SELECT (x.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*) AS n FROM untagged AS x GROUP BY 1) AS u
    WHERE r.day = u.day;
END;
$$;

-- Makes data_bars hold what legacy holds, for these minutes: re-reads both sides and writes where they differ.
-- The loop guard dxy.mirror is set by hand and put back: a SET clause with a setting of our own wants a superuser. An error
-- between the two takes the setting back with everything else.
CREATE OR REPLACE FUNCTION dxy.mirror_to_bars(p_keys timestamptz[])
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_put timestamptz[];
    v_delete timestamptz[];
    v_written bigint;
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    PERFORM dxy.lock_key_days(p_keys);
    PERFORM dxy.drop_tags(p_keys);
    SELECT array_agg(k ORDER BY k) FILTER (WHERE l.ts_utc IS NOT NULL), array_agg(k ORDER BY k) FILTER (WHERE l.ts_utc IS NULL)
    INTO v_put, v_delete
    FROM unnest(p_keys) AS k
    LEFT JOIN LATERAL (SELECT * FROM dxy.legacy_image AS i WHERE i.ts_utc = k OFFSET 0) AS l ON true
    LEFT JOIN LATERAL (SELECT * FROM dxy.bars_image AS i WHERE i.ts_utc = k OFFSET 0) AS b ON true
    WHERE l IS DISTINCT FROM b;
    IF v_put IS NULL AND v_delete IS NULL THEN
        PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
        RETURN 0;
    END IF;
    INSERT INTO dxy.migration_dirty (day) SELECT DISTINCT (k AT TIME ZONE 'UTC')::date FROM unnest(v_put || v_delete) AS k;
    -- Only rows that are not ours need an image: before the dual write, or written by an application since.
    INSERT INTO dxy.migration_undo (ts_utc, before)
    SELECT k, o.row_image
    FROM unnest(v_put || v_delete) AS k
    LEFT JOIN LATERAL (SELECT d AS row_image FROM public.data_bars AS d
        WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = k OFFSET 0) AS o ON true
    WHERE EXISTS (SELECT FROM dxy.migration_native AS n WHERE n.ts_utc = k)
        OR EXISTS (SELECT FROM dxy.migration_direct AS w WHERE w.ts_utc = k)
    ORDER BY k
    ON CONFLICT (ts_utc) DO NOTHING;
    DELETE FROM public.data_bars AS d
    WHERE d.canonical_symbol = 'DXY' AND d.timeframe = '1m' AND d.ts_utc = ANY (v_delete);
    INSERT INTO public.data_bars AS d (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
        is_partial, source, ingested_at, raw, created_at, updated_at)
    SELECT 'DXY', '1m', l.ts_utc, l.open, l.high, l.low, l.close, l.vol, l.vwap, l.trade_count, l.is_partial, l.source,
        l.ingested_at, l.raw, l.created_at, now()
    FROM unnest(v_put) AS k
    CROSS JOIN LATERAL (SELECT * FROM dxy.legacy_source AS i WHERE i.ts_utc = k OFFSET 0) AS l
    ORDER BY k
    ON CONFLICT (canonical_symbol, timeframe, ts_utc) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
        vwap = excluded.vwap, trade_count = excluded.trade_count, is_partial = excluded.is_partial,
        source = excluded.source, ingested_at = excluded.ingested_at, raw = excluded.raw, updated_at = excluded.updated_at;
    GET DIAGNOSTICS v_written = ROW_COUNT;
    IF v_written <> coalesce(cardinality(v_put), 0) THEN
        RAISE EXCEPTION 'DXY mirror: % of % rows written to data_bars', v_written, cardinality(v_put);
    END IF;
    PERFORM dxy.note_unverifiable(v_put);
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
    RETURN cardinality(v_put || v_delete);
END;
$$;

-- Makes legacy hold what data_bars holds, for these minutes. Says nothing about who wrote data_bars.
CREATE OR REPLACE FUNCTION dxy.put_to_legacy(p_keys timestamptz[])
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_put timestamptz[];
    v_delete timestamptz[];
    v_absent timestamptz[];
    v_written bigint;
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    PERFORM dxy.lock_key_days(p_keys);
    SELECT array_agg(k ORDER BY k) FILTER (WHERE b.ts_utc IS NOT NULL AND l IS DISTINCT FROM b),
        array_agg(k ORDER BY k) FILTER (WHERE b.ts_utc IS NULL AND l.ts_utc IS NOT NULL),
        array_agg(k ORDER BY k) FILTER (WHERE b.ts_utc IS NULL)
    INTO v_put, v_delete, v_absent
    FROM unnest(p_keys) AS k
    LEFT JOIN LATERAL (SELECT * FROM dxy.legacy_image AS i WHERE i.ts_utc = k OFFSET 0) AS l ON true
    LEFT JOIN LATERAL (SELECT * FROM dxy.bars_image AS i WHERE i.ts_utc = k OFFSET 0) AS b ON true;
    PERFORM dxy.drop_tags(v_absent);
    IF v_put IS NULL AND v_delete IS NULL THEN
        PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
        RETURN 0;
    END IF;
    INSERT INTO dxy.migration_dirty (day) SELECT DISTINCT (k AT TIME ZONE 'UTC')::date FROM unnest(v_put || v_delete) AS k;
    UPDATE public.derived_data_bars AS l SET deleted_at = now(), updated_at = now()
    WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.deleted_at IS NULL AND l.ts_utc = ANY (v_delete);
    -- A row that the retirement took away comes back first: the write would have changed it in place.
    PERFORM dxy.unretire_rows(v_put);
    INSERT INTO public.derived_data_bars AS l (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap,
        trade_count, is_partial, source, source_timeframe, source_candles, expected_candles, quality_score,
        derivation_version, ingested_at, raw)
    SELECT 'DXY', '1m', b.ts_utc, b.open, b.high, b.low, b.close, b.vol, b.vwap, b.trade_count, b.is_partial, 'dxy', '1m', 6, 6,
        2, b.derivation_version, b.ingested_at, b.raw
    FROM unnest(v_put) AS k
    CROSS JOIN LATERAL (SELECT * FROM dxy.bars_source AS i WHERE i.ts_utc = k OFFSET 0) AS b
    ORDER BY k
    ON CONFLICT (canonical_symbol, timeframe, ts_utc) WHERE deleted_at IS NULL DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
        vwap = excluded.vwap, trade_count = excluded.trade_count, is_partial = excluded.is_partial,
        ingested_at = excluded.ingested_at, raw = excluded.raw, derivation_version = excluded.derivation_version,
        deleted_at = NULL, dxy_retired_by = NULL, dxy_retired_updated_at = NULL, updated_at = now();
    GET DIAGNOSTICS v_written = ROW_COUNT;
    IF v_written <> coalesce(cardinality(v_put), 0) THEN
        RAISE EXCEPTION 'DXY mirror: % of % rows written to derived_data_bars', v_written, cardinality(v_put);
    END IF;
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
    RETURN cardinality(v_put || v_delete);
END;
$$;

-- After an application wrote data_bars itself: legacy follows, and the application owns these minutes: a rollback keeps them.
CREATE OR REPLACE FUNCTION dxy.mirror_to_legacy(p_keys timestamptz[])
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
BEGIN
    PERFORM dxy.lock_key_days(p_keys);
    DELETE FROM dxy.migration_undo AS u WHERE u.ts_utc = ANY (p_keys);
    INSERT INTO dxy.migration_direct (ts_utc) SELECT k FROM unnest(p_keys) AS k ORDER BY k ON CONFLICT (ts_utc) DO NOTHING;
    RETURN dxy.put_to_legacy(p_keys);
END;
$$;

-- Un-deletes exactly the rows that the retirement of this migration took away (they carry its tag), for these minutes, at
-- most one of a minute. updated_at comes back too: a trigger that sorts after the desk's own touch trigger puts it there.
CREATE OR REPLACE FUNCTION dxy.unretire_rows(p_keys timestamptz[])
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_seqscan = off
AS $$
DECLARE
    v_guard text := current_setting('dxy.mirror', true);
    v_count integer;
BEGIN
    PERFORM set_config('dxy.mirror', 'on', true);
    WITH undeleted AS (
        UPDATE public.derived_data_bars AS l
        SET deleted_at = NULL, dxy_retired_by = NULL, updated_at = l.dxy_retired_updated_at, dxy_retired_updated_at = NULL
        WHERE l.canonical_symbol = 'DXY' AND l.timeframe = '1m' AND l.ts_utc = ANY (p_keys) AND l.dxy_retired_by IS NOT NULL
            AND NOT EXISTS (SELECT FROM public.derived_data_bars AS a WHERE a.canonical_symbol = 'DXY' AND a.timeframe = '1m'
                AND a.ts_utc = l.ts_utc AND a.deleted_at IS NULL)
            AND NOT EXISTS (SELECT FROM public.derived_data_bars AS o WHERE o.canonical_symbol = 'DXY' AND o.timeframe = '1m'
                AND o.ts_utc = l.ts_utc AND o.dxy_retired_by IS NOT NULL AND (o.deleted_at, o.ctid) > (l.deleted_at, l.ctid))
        RETURNING l.ts_utc
    ),
    counted AS (
        UPDATE dxy.migration_retired AS r SET tagged = r.tagged - u.n
        FROM (SELECT (x.ts_utc AT TIME ZONE 'UTC')::date AS day, count(*) AS n FROM undeleted AS x GROUP BY 1) AS u
        WHERE r.day = u.day
    )
    SELECT count(*) INTO v_count FROM undeleted;
    PERFORM set_config('dxy.mirror', coalesce(v_guard, ''), true);
    RETURN v_count;
END;
$$;

CREATE OR REPLACE FUNCTION dxy.keep_updated_at()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.updated_at := OLD.dxy_retired_updated_at;
    RETURN NEW;
END;
$$;

-- Statement triggers with transition tables: the keys of OLD and NEW, whatever the statement did to them. Of legacy only
-- rows that are, or were, alive: a dead row is no minute, whoever touches or purges it, and a tagged one is alive in data_bars.
-- 'note': data_bars is being taken back and follows no more; what legacy took since is only noted.
CREATE OR REPLACE FUNCTION dxy.mirror_legacy_statement()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys timestamptz[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(DISTINCT n.ts_utc) INTO v_keys FROM new_rows AS n
        WHERE n.canonical_symbol = 'DXY' AND n.timeframe = '1m' AND n.deleted_at IS NULL;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(DISTINCT o.ts_utc) INTO v_keys FROM old_rows AS o
        WHERE o.canonical_symbol = 'DXY' AND o.timeframe = '1m' AND o.deleted_at IS NULL;
    ELSE
        SELECT array_agg(c.ts_utc) INTO v_keys
        FROM (SELECT n.ts_utc FROM new_rows AS n WHERE n.canonical_symbol = 'DXY' AND n.timeframe = '1m' AND n.deleted_at IS NULL
              UNION SELECT o.ts_utc FROM old_rows AS o
              WHERE o.canonical_symbol = 'DXY' AND o.timeframe = '1m' AND o.deleted_at IS NULL) AS c;
    END IF;
    IF v_keys IS NOT NULL AND TG_ARGV[0] = 'note' THEN
        INSERT INTO dxy.migration_left (ts_utc) SELECT k FROM unnest(v_keys) AS k ORDER BY k ON CONFLICT (ts_utc) DO NOTHING;
    ELSIF v_keys IS NOT NULL THEN
        PERFORM dxy.mirror_to_bars(v_keys);
    END IF;
    RETURN NULL;
END;
$$;

CREATE OR REPLACE FUNCTION dxy.mirror_bars_statement()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys timestamptz[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(DISTINCT n.ts_utc) INTO v_keys FROM new_rows AS n WHERE n.canonical_symbol = 'DXY' AND n.timeframe = '1m';
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(DISTINCT o.ts_utc) INTO v_keys FROM old_rows AS o WHERE o.canonical_symbol = 'DXY' AND o.timeframe = '1m';
    ELSE
        SELECT array_agg(c.ts_utc) INTO v_keys
        FROM (SELECT n.ts_utc FROM new_rows AS n WHERE n.canonical_symbol = 'DXY' AND n.timeframe = '1m'
              UNION SELECT o.ts_utc FROM old_rows AS o WHERE o.canonical_symbol = 'DXY' AND o.timeframe = '1m') AS c;
    END IF;
    IF v_keys IS NOT NULL THEN
        PERFORM dxy.mirror_to_legacy(v_keys);
    END IF;
    RETURN NULL;
END;
$$;

-- Before the row is locked: two upserts of one minute, one in each table, then queue instead of deadlocking.
CREATE OR REPLACE FUNCTION dxy.lock_day_of_row()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT isfinite(NEW.ts_utc) THEN
        RAISE EXCEPTION 'a DXY bar at % cannot be mirrored', NEW.ts_utc USING ERRCODE = '22008';
    END IF;
    PERFORM pg_advisory_xact_lock(7411, floor(extract(epoch FROM NEW.ts_utc) / 86400)::integer);
    RETURN NEW;
END;
$$;

CREATE OR REPLACE FUNCTION dxy.refuse_truncate()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % is refused while the DXY migration is in flight', TG_RELID::regclass
        USING ERRCODE = '55006', HINT = 'use DELETE, or run "dxy migrate rollback" first';
END;
$$;

CREATE OR REPLACE FUNCTION dxy.refuse_closed()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'DXY 1m moved to data_bars; % is closed until the rollback has brought its rows back', TG_RELID::regclass
        USING ERRCODE = '23514';
END;
$$;

-- For readers that choose the table themselves: holds off a cutover until the reader's transaction ends. The choice is
-- read in a statement after the lock: one that reads it in the same statement may see the table as it was before.
CREATE OR REPLACE FUNCTION dxy.reading_table()
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7411, -3);
    RETURN (SELECT CASE c.read_from WHEN 'legacy' THEN 'derived_data_bars' ELSE 'data_bars' END FROM dxy.migration_control AS c);
END;
$$;

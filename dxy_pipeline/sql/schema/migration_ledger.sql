-- The ledger of the migration: everything a runner needs to go on, go back or be judged after a crash.
ALTER TABLE dxy.migration_control
    ADD COLUMN migration_id   bigint NOT NULL DEFAULT 0,
    ADD COLUMN read_from      text NOT NULL DEFAULT 'legacy' CHECK (read_from IN ('legacy', 'data_bars')),
    ADD COLUMN direction      text NOT NULL DEFAULT 'forward' CHECK (direction IN ('forward', 'rollback')),
    ADD COLUMN preparing      boolean NOT NULL DEFAULT false,
    ADD COLUMN paused         boolean NOT NULL DEFAULT false,
    ADD COLUMN muted          boolean NOT NULL DEFAULT false,
    ADD COLUMN verified_by    bigint,
    ADD COLUMN repaired_after boolean NOT NULL DEFAULT false,
    ADD COLUMN cut_over_at    timestamptz,
    ADD COLUMN options        jsonb NOT NULL DEFAULT '{}';

CREATE TABLE dxy.migration_lease (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    fence       bigint NOT NULL DEFAULT 0,
    holder      text,
    backend_pid integer,
    expires_at  timestamptz NOT NULL DEFAULT '-infinity',
    progress    jsonb
);
INSERT INTO dxy.migration_lease DEFAULT VALUES;
COMMENT ON TABLE dxy.migration_lease IS 'Who runs the migration; every write of a runner checks that its fencing token is still this one';

CREATE TABLE dxy.migration_unit (
    migration_id bigint NOT NULL,
    day          date NOT NULL,
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    scanned      integer NOT NULL DEFAULT 0,
    inserted     integer NOT NULL DEFAULT 0,
    identical    integer NOT NULL DEFAULT 0,
    reconciled   integer NOT NULL DEFAULT 0,
    superseded   integer NOT NULL DEFAULT 0,
    unverifiable integer NOT NULL DEFAULT 0,
    conflict     integer NOT NULL DEFAULT 0,
    fence        bigint,
    finished_at  timestamptz,
    PRIMARY KEY (migration_id, day),
    CHECK (scanned = inserted + identical + reconciled + superseded + unverifiable + conflict)
);
COMMENT ON TABLE dxy.migration_unit IS 'One UTC day with legacy rows: what became of each row that was scanned';

CREATE TABLE dxy.migration_native (
    ts_utc     timestamptz PRIMARY KEY,
    had_legacy boolean NOT NULL,
    row_hash   bigint NOT NULL
);
COMMENT ON TABLE dxy.migration_native IS 'DXY 1m minutes that data_bars held before the dual write began';

CREATE TABLE dxy.migration_direct (ts_utc timestamptz PRIMARY KEY);
COMMENT ON TABLE dxy.migration_direct IS 'DXY 1m minutes that an application wrote in data_bars itself: a rollback keeps them';

CREATE TABLE dxy.migration_retired (
    day    date PRIMARY KEY,
    tagged bigint NOT NULL CHECK (tagged >= 0)
);
COMMENT ON TABLE dxy.migration_retired IS 'How many legacy rows of a UTC day carry the retirement''s tag: fewer found means that some were purged';

CREATE TABLE dxy.migration_left (ts_utc timestamptz PRIMARY KEY);
COMMENT ON TABLE dxy.migration_left IS 'DXY 1m minutes that legacy took while a rollback was taking data_bars back, which followed no more';

CREATE TABLE dxy.migration_repair (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id    bigint NOT NULL,
    ts_utc          timestamptz NOT NULL,
    overwritten     text NOT NULL CHECK (overwritten IN ('legacy', 'data_bars')),
    legacy_image    text,
    data_bars_image text,
    repaired_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.migration_repair IS
    'Both rows of each repaired minute as they were (NULL: none), as row text: (legacy_image::public.derived_data_bars).*';

CREATE TABLE dxy.migration_dirty (
    id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day date NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
COMMENT ON TABLE dxy.migration_dirty IS 'Days that the mirror changed, with the transaction: what a later delta verification looks at';

CREATE TABLE dxy.migration_conflict (
    migration_id     bigint NOT NULL,
    ts_utc           timestamptz NOT NULL,
    legacy_price     numeric,
    target_price     numeric,
    recomputed_price numeric,
    decision         text NOT NULL CHECK (decision IN ('open', 'legacy-wins', 'resolved')),
    legacy_image     jsonb NOT NULL,
    target_image     jsonb NOT NULL,
    noted_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (migration_id, ts_utc)
);
COMMENT ON TABLE dxy.migration_conflict IS 'Minutes on which both tables disagree, with both images and what was decided';

CREATE TABLE dxy.migration_verification (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('full', 'cutover')),
    ok           boolean NOT NULL,
    legacy_rows  bigint NOT NULL,
    target_rows  bigint NOT NULL,
    native_only  bigint NOT NULL,
    failures     jsonb NOT NULL,
    horizon      xid8 NOT NULL,
    verified_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.migration_verification IS 'Each verification by content; horizon: every change it cannot have seen has this xid or a later one';

CREATE TABLE dxy.migration_backup (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id bigint NOT NULL,
    path         text NOT NULL,
    sha256       text NOT NULL,
    bytes        bigint NOT NULL,
    figures      jsonb NOT NULL,
    post_data    text NOT NULL,
    proved_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.migration_backup IS 'Backups that were restored and found equal by count and content; others are not listed';

CREATE TABLE dxy.migration_snapshot (
    migration_id     bigint NOT NULL,
    table_name       text NOT NULL,
    canonical_symbol text NOT NULL,
    timeframe        text NOT NULL,
    row_count        bigint NOT NULL,
    earliest         timestamptz,
    latest           timestamptz,
    by_source        jsonb NOT NULL,
    PRIMARY KEY (migration_id, table_name, canonical_symbol, timeframe)
);

CREATE TABLE dxy.migration_baseline (
    migration_id bigint NOT NULL,
    name         text NOT NULL,
    value        double precision,
    unit         text NOT NULL,
    taken_at     timestamptz NOT NULL,
    PRIMARY KEY (migration_id, name)
);

CREATE TABLE dxy.migration_definition (
    migration_id bigint NOT NULL,
    name         text NOT NULL,
    definition   jsonb NOT NULL,
    PRIMARY KEY (migration_id, name)
);
COMMENT ON TABLE dxy.migration_definition IS 'What a rollback restores: the registry row and the functions and constraints as they were';

CREATE TABLE dxy.migration_health (
    migration_id bigint NOT NULL,
    at           timestamptz NOT NULL,
    name         text NOT NULL,
    status       text NOT NULL CHECK (status IN ('PASS', 'WARN', 'FAIL')),
    figure       text NOT NULL,
    PRIMARY KEY (migration_id, at, name)
);

CREATE TABLE dxy.migration_signoff (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id bigint NOT NULL,
    item         text NOT NULL,
    operator     text NOT NULL CHECK (operator <> ''),
    note         text NOT NULL DEFAULT '',
    signed_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.migration_signoff IS 'Signatures of items that no machine can judge; the newest of an item counts, none is replaced';

CREATE TABLE dxy.migration_audit (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id  bigint NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor         text NOT NULL,
    code_version  text NOT NULL,
    action        text NOT NULL,
    from_state    text NOT NULL,
    to_state      text NOT NULL,
    reason        text NOT NULL DEFAULT '',
    details       jsonb NOT NULL DEFAULT '{}',
    counts_before jsonb NOT NULL DEFAULT '{}',
    counts_after  jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE dxy.migration_audit IS 'Append-only: who did what to the migration, when and why; replayed it gives the current state';

CREATE FUNCTION dxy.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_RELID::regclass USING ERRCODE = '55000';
END;
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON dxy.migration_audit
    FOR EACH ROW EXECUTE FUNCTION dxy.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON dxy.migration_audit
    FOR EACH STATEMENT EXECUTE FUNCTION dxy.refuse_change();

-- A runner whose lease was taken over must not write: the row lock keeps others from taking over before this commits (they lock
-- the row FOR UPDATE first), and lets the runner's own timer renew the lease meanwhile.
CREATE OR REPLACE FUNCTION dxy.check_fence(p_fence bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM 1 FROM dxy.migration_lease AS l WHERE l.fence = p_fence FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another runner has taken the migration over (fencing token % is not the current one)', p_fence
            USING ERRCODE = '55P02';
    END IF;
END;
$$;

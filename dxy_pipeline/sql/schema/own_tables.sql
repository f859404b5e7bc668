-- The project's own objects. Nothing here touches a table of the desk.
CREATE TABLE dxy.setting (
    key        text PRIMARY KEY,
    value      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.setting IS 'Settings that SQL needs: hard_limits, settle_seconds, origin';
INSERT INTO dxy.setting (key, value) VALUES
    ('hard_limits', '{"low": 50, "high": 200}'),
    ('settle_seconds', '90');

CREATE TABLE dxy.function_digest (
    name        text PRIMARY KEY,
    sha256      text NOT NULL,
    deployed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.function_digest IS 'Which text of each SQL file is deployed, so that an upgrade replaces only what changed';

CREATE TABLE dxy.deployed_object (
    object     text PRIMARY KEY,
    definition text NOT NULL,
    is_own     boolean NOT NULL,
    remedy     text
);
COMMENT ON TABLE dxy.deployed_object IS
    'What each object was when deployed, so that a change by hand is noticed; remedy: the statement that restores one of ours';

CREATE TABLE dxy.fx_session (
    opens_at  timestamptz PRIMARY KEY,
    closes_at timestamptz NOT NULL,
    CHECK (opens_at < closes_at)
);
COMMENT ON TABLE dxy.fx_session IS 'Open FX market time, half-open UTC intervals, written from core/fx_week.py';

CREATE TABLE dxy.touched_range (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target     text NOT NULL CHECK (target IN ('1m', '5m', '1h')),
    day        date NOT NULL,
    first_ts   timestamptz NOT NULL,
    last_ts    timestamptz NOT NULL,
    minutes    integer NOT NULL,
    touched_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX touched_range_day_idx ON dxy.touched_range (target, day);
COMMENT ON TABLE dxy.touched_range IS
    'Minutes whose inputs changed, one row per statement, UTC day and target timeframe. The write that re-derives a day '
    'deletes the rows it saw in its own transaction, so a change that commits late leaves its row behind';

CREATE TABLE dxy.feed_progress (
    feed          text PRIMARY KEY,
    fetched_until timestamptz NOT NULL,
    state         text NOT NULL CHECK (state IN ('ok', 'unavailable', 'refused')),
    detail        text NOT NULL DEFAULT '',
    since         timestamptz NOT NULL DEFAULT now(),
    noted_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE dxy.feed_progress IS
    'How far each live feed was fetched without an error (it moves on over empty windows), and since when it stands as it '
    'does. The one noted last is the one in use; the others are feeds of the past';

CREATE TABLE dxy.rejected_bar (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rejected_at      timestamptz NOT NULL DEFAULT now(),
    source_name      text NOT NULL,
    location         text NOT NULL,
    canonical_symbol text,
    ts_text          text,
    reason           text NOT NULL,
    payload          jsonb NOT NULL
);
-- One row, read again each minute, is kept once. A place in an API's answer changes from one reading to the next.
CREATE UNIQUE INDEX rejected_bar_once_idx ON dxy.rejected_bar (md5(
    source_name || E'\x1f' || coalesce(canonical_symbol, '') || E'\x1f' || coalesce(ts_text, '') || E'\x1f' || reason
    || E'\x1f' || payload::text || E'\x1f' || CASE WHEN source_name = 'massive_api' THEN '' ELSE location END));
COMMENT ON TABLE dxy.rejected_bar IS 'Input rows that were refused, each once, with its reason and where it came from';

CREATE TABLE dxy.bar_revision (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    canonical_symbol text NOT NULL,
    timeframe        text NOT NULL,
    ts_utc           timestamptz NOT NULL,
    known_from       timestamptz NOT NULL,
    known_until      timestamptz NOT NULL DEFAULT now(),
    old              jsonb NOT NULL,
    new              jsonb
);
CREATE INDEX bar_revision_key_idx ON dxy.bar_revision (canonical_symbol, timeframe, ts_utc, known_until);
COMMENT ON TABLE dxy.bar_revision IS
    'Append-only: the image a derived bar had from known_from until known_until, and what replaced it (NULL: retracted)';

CREATE TABLE dxy.unverifiable_minute (
    ts_utc   timestamptz PRIMARY KEY,
    noted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.unverifiable_minute IS
    'Migrated DXY minutes whose six inputs were never stored: kept by the derivation until it has derived them once';

CREATE TABLE dxy.migration_control (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    state      text NOT NULL CHECK (state IN (
        'none', 'legacy', 'prepared', 'dual_write', 'verified', 'cut_over', 'retired', 'rolled_back')),
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE dxy.migration_control IS 'Where the move of DXY 1m from derived_data_bars to data_bars stands; none: nothing to move';

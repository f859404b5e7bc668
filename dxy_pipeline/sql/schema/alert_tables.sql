-- What monitoring remembers: incidents, their deliveries, and when each watcher was last alive.
CREATE TABLE dxy.incident (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cause         text NOT NULL,
    state         text NOT NULL CHECK (state IN ('pending', 'firing', 'resolved', 'dismissed')),
    severity      text NOT NULL CHECK (severity IN ('WARN', 'ERROR')),
    summary       text NOT NULL,
    checks        text[] NOT NULL,
    follows_market boolean NOT NULL,
    opened_at     timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    fired_at      timestamptz,
    resolved_at   timestamptz,
    CHECK ((state IN ('pending', 'dismissed')) = (fired_at IS NULL)),
    CHECK ((state IN ('pending', 'firing')) = (resolved_at IS NULL))
);
CREATE UNIQUE INDEX incident_open_idx ON dxy.incident (cause) WHERE resolved_at IS NULL;
COMMENT ON TABLE dxy.incident IS
    'One row per incident, known by its root cause; at most one open row per cause, so a restart cannot open it twice. '
    'dismissed: went away before its sustained window was over, nobody was told';

CREATE TABLE dxy.alert_delivery (
    incident_id  bigint NOT NULL REFERENCES dxy.incident (id) ON DELETE CASCADE,
    event        text NOT NULL CHECK (event IN ('firing', 'resolved')),
    target       text NOT NULL,
    title        text NOT NULL,
    body         text NOT NULL,
    queued_at    timestamptz NOT NULL,
    attempts     integer NOT NULL DEFAULT 0,
    next_try_at  timestamptz NOT NULL,
    delivered_at timestamptz,
    last_error   text,
    PRIMARY KEY (incident_id, event, target)
);
COMMENT ON TABLE dxy.alert_delivery IS
    'What is to be sent where, once; target is a digest of the notification URL, which holds secrets and is never stored';

CREATE TABLE dxy.heartbeat (
    name    text PRIMARY KEY,
    beat_at timestamptz NOT NULL,
    detail  text NOT NULL DEFAULT ''
);
COMMENT ON TABLE dxy.heartbeat IS 'When each watcher was last alive: monitoring (in the scheduler), watchdog (outside of it)';

-- What monitoring remembers: incidents, their deliveries, and when each watcher was last alive.
CREATE TABLE dxy.incident (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cause         text NOT NULL,
    state         text NOT NULL CHECK (state IN ('pending', 'firing', 'resolved', 'dismissed')),
    severity      text NOT NULL CHECK (severity IN ('WARN', 'ERROR')),
    summary       text NOT NULL,
    checks        text[] NOT NULL,
    follows_market boolean NOT NULL,
    missed        integer NOT NULL DEFAULT 0,
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
    expired_at   timestamptz,
    last_error   text,
    PRIMARY KEY (incident_id, event, target),
    CHECK (delivered_at IS NULL OR expired_at IS NULL)
);
COMMENT ON TABLE dxy.alert_delivery IS
    'What is to be sent where, once; target is a digest of the notification URL, which holds secrets and is never stored. '
    'next_try_at is set ahead before a message is sent, so that no other sender takes it meanwhile';

CREATE TABLE dxy.heartbeat (
    name    text PRIMARY KEY,
    beat_at timestamptz NOT NULL,
    detail  text NOT NULL DEFAULT ''
);
COMMENT ON TABLE dxy.heartbeat IS
    'When each watcher was last alive: monitoring (in the scheduler), watchdog (outside of it), daily checks (their last pass)';

CREATE TABLE dxy.history_finding (
    asset            text NOT NULL,
    name             text NOT NULL,
    severity         text NOT NULL CHECK (severity IN ('WARN', 'ERROR')),
    evaluated        boolean NOT NULL,
    description      text NOT NULL,
    violations       bigint NOT NULL,
    known_violations bigint NOT NULL,
    sample_rows      jsonb NOT NULL,
    found_at         timestamptz NOT NULL,
    PRIMARY KEY (asset, name)
);
COMMENT ON TABLE dxy.history_finding IS
    'The checks that failed when the whole history was last looked at; gone once a look at the whole history is clean. '
    'known_violations: how many the look before had found';
